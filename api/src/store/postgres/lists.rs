//! Lists of runs and run hosts: one statement for the page, one for the total.
//!
//! The text of a statement depends only on which filters are set, never on their values (but for the
//! state, of which there are five: what is common decides the plan), so that few are ever prepared.

use dispatcher_wire::RunStatus;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::{Row, types::ToSql};

use super::{
    PostgresStore,
    connection::{all, all_planned, one},
    fault::Fault,
    output,
    rows::{self, holdable, host_columns, run_columns},
};
use crate::{
    execution::excerpt::{self, Excerpt},
    runs::model::{Rows, RunFilter, RunHostFilter, RunHostQuery, RunHostRow, RunQuery, RunRow},
};

/// When a run's time is over.
const EXPIRY: &str = "r.created_at + r.timeout * interval '1 second'";

/// Conditions that are AND-ed, and their values.
#[derive(Default)]
struct Conditions {
    text: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
    /// A value that no row can have: nothing matches.
    impossible: bool,
}

impl Conditions {
    /// One more condition; `$?` in it is the value.
    fn and(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static) {
        self.values.push(Box::new(value));
        let place = format!("${}", self.values.len());
        self.and_fixed(&condition.replace("$?", &place));
    }

    /// One more condition without a value.
    fn and_fixed(&mut self, condition: &str) {
        let joint = if self.text.is_empty() { " WHERE " } else { " AND " };
        self.text.push_str(joint);
        self.text.push_str(condition);
    }

    fn and_text(&mut self, condition: &str, value: &str) {
        self.impossible |= !holdable(value);
        self.and(condition, value.to_owned());
    }

    /// Organisation, services and labels of the run, which both lists know.
    fn of_run(
        &mut self,
        org_id: &str,
        services: &[String],
        service: Option<&str>,
        labels: &std::collections::BTreeMap<String, String>,
    ) {
        self.and_text("r.org_id = $?", org_id);
        if !services.is_empty() {
            let held: Vec<String> = services.iter().filter(|s| holdable(s)).cloned().collect();
            self.and("r.service = ANY($?)", held);
        }
        if let Some(service) = service {
            self.and_text("r.service = $?", service);
        }
        if !labels.is_empty() {
            self.impossible |= !labels.iter().all(|(key, value)| holdable(key) && holdable(value));
            let labels = labels.iter().map(|(k, v)| (k.clone(), Value::from(v.clone()))).collect();
            self.and("r.labels @> $?", Value::Object(labels));
        }
    }

    fn run_status(&mut self, status: RunStatus, now: OffsetDateTime) {
        match status {
            RunStatus::Timeout => self.and(
                &format!("(r.status = 'timeout' OR (r.status = 'running' AND {EXPIRY} <= $?))"),
                now,
            ),
            RunStatus::Running => {
                self.and(&format!("(r.status = 'running' AND {EXPIRY} > $?)"), now);
            }
            other => self.and_fixed(&format!("r.status = '{other}'")),
        }
    }

    fn host_status(&mut self, status: RunStatus, now: OffsetDateTime) {
        match status {
            RunStatus::Timeout => self.run_status(status, now),
            RunStatus::Running => {
                self.and(&format!("(h.status = 'running' AND {EXPIRY} > $?)"), now);
            }
            other => self.and_fixed(&format!("h.status = '{other}'")),
        }
    }

    fn for_runs(filter: &RunFilter, now: OffsetDateTime) -> Self {
        let mut conditions = Self::default();
        let service = filter.service.as_deref();
        conditions.of_run(&filter.org_id, &filter.services, service, &filter.labels);
        if let Some(status) = filter.status {
            conditions.run_status(status, now);
        }
        if let Some(recipient) = filter.recipient {
            conditions.and("r.recipient = $?", recipient);
        }
        conditions
    }

    fn for_hosts(filter: &RunHostFilter, now: OffsetDateTime) -> Self {
        let mut conditions = Self::default();
        let service = filter.run_service.as_deref();
        conditions.of_run(&filter.org_id, &filter.services, service, &filter.run_labels);
        if let Some(status) = filter.status {
            conditions.host_status(status, now);
        }
        if let Some(run_id) = filter.run_id {
            conditions.and("r.id = $?", run_id);
        }
        if let Some(inventory_id) = filter.inventory_id {
            conditions.and("h.inventory_id = $?", inventory_id);
        }
        conditions
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect()
    }
}

/// From which row on a page is deep: the rows before it are passed over by the index where that is
/// possible, and those of the page fetched by their ids.
const DEEP: i64 = 1_000;

/// What a list is made of.
struct List<'a> {
    /// The statement; `$page` in it stands for tables, conditions, order, limit and offset.
    select: &'a str,
    /// The values of `$cap` and `$half` in it, where they are there.
    sizes: Option<(i64, i32)>,
    tables: &'a str,
    order: &'a str,
    limit: i64,
    offset: i64,
    /// What the total is remembered by.
    counted: String,
}

impl List<'_> {
    /// The page's rows and the total, asked for together.
    async fn read(
        self,
        store: &PostgresStore,
        conditions: Conditions,
    ) -> Result<(Vec<Row>, i64), Fault> {
        if conditions.impossible {
            return Ok((Vec::new(), 0));
        }
        let Self { select, sizes, tables, order, limit, offset, counted } = self;
        let matching = format!("FROM {tables}{}", conditions.text);
        let next = conditions.values.len() + 1;
        let page = format!("{matching} ORDER BY {order} LIMIT ${next} OFFSET ${}", next + 1);
        let page = select
            .replace("$page", &page)
            .replace("$cap", &format!("${}::bigint", next + 2))
            .replace("$half", &format!("${}::integer", next + 3));
        let count = format!("SELECT count(*) {matching}");
        let client = store.client().await?;
        let params = conditions.params();
        let mut page_params = params.clone();
        page_params.extend([&limit as &(dyn ToSql + Sync), &offset]);
        if let Some((cap, half)) = &sizes {
            page_params.extend([cap as &(dyn ToSql + Sync), half]);
        }
        let rows = async {
            // A plan that is kept for any offset may be a bad one for a deep page.
            if offset < DEEP {
                all(&client, &page, &page_params).await
            } else {
                all_planned(&client, &page, &page_params).await
            }
        };
        if let Some(total) = store.totals.get(&counted) {
            return Ok((rows.await?, total));
        }
        let (rows, total) = tokio::try_join!(rows, one(&client, &count, &params))?;
        let total = total.ok_or_else(|| Fault::broken("a count without a row"))?.try_get(0)?;
        store.totals.put(counted, total);
        Ok((rows, total))
    }
}

/// A page of runs.
pub(super) async fn runs(store: &PostgresStore, query: &RunQuery) -> Result<Rows<RunRow>, Fault> {
    const PAGE: &str = concat!("SELECT ", run_columns!(), " $page");
    let order = if query.ascending { "r.created_at, r.id" } else { "r.created_at DESC, r.id" };
    let deep = format!(
        "SELECT {} FROM runs r WHERE r.id IN (SELECT r.id $page) ORDER BY {order}",
        run_columns!()
    );
    let list = List {
        select: if query.offset < DEEP { PAGE } else { &deep },
        sizes: None,
        tables: "runs r",
        order,
        limit: query.limit,
        offset: query.offset,
        counted: format!("{:?}", query.filter),
    };
    let (rows, total) = list.read(store, Conditions::for_runs(&query.filter, query.now)).await?;
    Ok(Rows { rows: rows.iter().map(rows::run).collect::<Result<_, _>>()?, total })
}

/// A page of run hosts, with their logs where asked for: read for the page's rows only.
pub(super) async fn hosts(
    store: &PostgresStore,
    query: &RunHostQuery,
) -> Result<Rows<RunHostRow>, Fault> {
    const PAGE: &str = concat!("SELECT ", host_columns!(), " $page");
    const WITH_LOG: &str = concat!(
        "SELECT ",
        host_columns!(),
        ", octet_length(h.log) AS length,
            CASE WHEN octet_length(h.log) <= $cap THEN h.log END AS whole,
            CASE WHEN octet_length(h.log) > $cap THEN
                substr(convert_to(h.log, 'UTF8'), 1, $half) END AS head,
            CASE WHEN octet_length(h.log) > $cap THEN
                substr(convert_to(h.log, 'UTF8'), octet_length(h.log) - $half + 1) END AS tail,
            CASE WHEN w.state < 3 AND h.log = '' THEN w.output_bytes END AS so_far
          FROM (SELECT h.* $page) h LEFT JOIN run_work w ON w.run_id = h.run_id ORDER BY h.id"
    );
    let cap = i64::try_from(query.log_cap).unwrap_or(i64::MAX);
    let half = i32::try_from(excerpt::half(query.log_cap)).unwrap_or(i32::MAX);
    let list = List {
        select: if query.with_log { WITH_LOG } else { PAGE },
        sizes: query.with_log.then_some((cap, half)),
        tables: "run_hosts h JOIN runs r ON r.id = h.run_id",
        order: "h.id",
        limit: query.limit,
        offset: query.offset,
        counted: format!("{:?}", query.filter),
    };
    let (rows, total) = list.read(store, Conditions::for_hosts(&query.filter, query.now)).await?;
    let mut page = rows.iter().map(rows::host).collect::<Result<Vec<_>, _>>()?;
    if query.with_log {
        add_logs(store, &rows, &mut page, query.log_cap).await?;
    }
    Ok(Rows { rows: page, total })
}

/// The log that is in a row, or an excerpt of it.
fn stored_log(row: &Row, cap: usize) -> Result<String, Fault> {
    if let Some(whole) = row.try_get("whole")? {
        return Ok(whole);
    }
    let length: i32 = row.try_get("length")?;
    let excerpt = Excerpt::of(i64::from(length).cast_unsigned(), cap);
    Ok(excerpt.text(row.try_get("head")?, row.try_get("tail")?))
}

/// Logs that are written are in their rows; those of work that goes on are assembled from chunks,
/// with one statement for the whole page and once per run.
async fn add_logs(
    store: &PostgresStore,
    rows: &[Row],
    page: &mut [RunHostRow],
    cap: usize,
) -> Result<(), Fault> {
    let mut wanted = output::Wanted::default();
    let mut places = std::collections::BTreeMap::new();
    for (row, host) in rows.iter().zip(page.iter_mut()) {
        host.log = stored_log(row, cap)?;
        let so_far: Option<i64> = row.try_get("so_far")?;
        if let Some(total) = so_far {
            places.entry(host.run_id).or_insert_with(|| {
                let excerpt = Excerpt::of(total.cast_unsigned(), cap);
                let head = wanted.add(host.run_id, 0, excerpt.head);
                let tail = wanted.add(host.run_id, excerpt.tail, excerpt.total);
                (excerpt, head, tail)
            });
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    let pieces = wanted.read(&store.client().await?).await?;
    let logs: std::collections::BTreeMap<_, String> = places
        .into_iter()
        .map(|(run_id, (excerpt, head, tail))| {
            (run_id, excerpt.text(pieces.get(head), pieces.get(tail)))
        })
        .collect();
    for host in page.iter_mut().filter(|host| host.log.is_empty()) {
        if let Some(log) = logs.get(&host.run_id) {
            host.log.clone_from(log);
        }
    }
    Ok(())
}
