//! Lists of runs and run hosts, and one run with what the side tables know.
//!
//! Conditions are put together from fixed pieces; every value is bound.

use std::collections::{BTreeMap, HashMap};

use dispatcher_wire::RunStatus;
use rusqlite::{OptionalExtension, Row, ToSql, Transaction, params, params_from_iter};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{StoreResult, totals::Totals},
    changes::find_run,
    encode::{At, HOST, RUN, State, collect, host, run, to_json},
    logs,
};
use crate::{
    execution::{
        excerpt::{self, Excerpt},
        model::WorkState,
    },
    runs::model::{
        Rows, RunDetail, RunFilter, RunHostFilter, RunHostQuery, RunHostRow, RunQuery, RunRow,
        WorkView,
    },
};

// When a run's time is over decides its state. The plus keeps SQLite from answering lists by the
// cleaner's index, which spans all organisations.
const TIMED_OUT: &str = "(r.status = 'timeout' OR (r.status = 'running' \
     AND +(r.created_at + r.timeout * 1000000) <= ?))";
const STILL_RUNNING: &str = "r.status = 'running' AND +(r.created_at + r.timeout * 1000000) > ?";
const NOT_OVER: &str = "+(r.created_at + r.timeout * 1000000) > ?";

/// From which row on a page is deep: the rows before it are passed over in the index alone where that
/// has what the filter asks for, and those of the page fetched by their ids.
const DEEP: i64 = 1_000;

/// Named, because SQLite takes both indexes that begin with the organisation for equally good, and the
/// other one leads to the rows in random order.
pub(super) const RUNS: &str = "runs AS r INDEXED BY runs_org_id_created_at_id_index";

/// The cross join makes SQLite begin with the organisation's runs: it would otherwise walk all hosts
/// of everybody in the order of the page.
const HOSTS_OF_RUNS: &str = "runs AS r CROSS JOIN run_hosts AS h ON h.run_id = r.id";

/// What a page with logs reads besides: a log up to the cap (the first value) whole, of a longer one
/// its two ends (each as long as the second value).
const LOGS: &str = ", octet_length(h.log) AS length, \
     CASE WHEN octet_length(h.log) <= ?1 THEN h.log END AS whole, \
     CASE WHEN octet_length(h.log) > ?1 THEN \
         coalesce(substr(CAST(h.log AS BLOB), 1, ?2), x'') END AS head, \
     CASE WHEN octet_length(h.log) > ?1 THEN \
         coalesce(substr(CAST(h.log AS BLOB), octet_length(h.log) - ?2 + 1), x'') END AS tail, \
     (SELECT w.output_bytes FROM run_work AS w \
      WHERE w.run_id = h.run_id AND w.state < 3) AS so_far";

/// AND-ed conditions with their values.
#[derive(Default)]
pub(super) struct Conditions {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    fn and(&mut self, condition: &'static str, value: impl ToSql + 'static) {
        self.sql.push_str(if self.sql.is_empty() { "WHERE " } else { " AND " });
        self.sql.push_str(condition);
        self.values.push(Box::new(value));
    }

    fn and_some<T: ToSql + 'static>(&mut self, condition: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.and(condition, value);
        }
    }

    fn and_services(&mut self, services: &[String]) -> StoreResult<()> {
        if !services.is_empty() {
            let any = "r.service IN (SELECT value FROM json_each(?))";
            self.and(any, to_json(&services)?);
        }
        Ok(())
    }

    /// Every wanted label is there as text. Both sides go through `json_each`, so no key or value
    /// is ever part of a path or of SQL. Labels in whose text the first wanted one does not stand, as
    /// JSON is written here, need no reading as JSON.
    fn and_labels(&mut self, labels: &BTreeMap<String, String>) -> StoreResult<()> {
        if let Some((key, value)) = labels.first_key_value() {
            self.and("instr(r.labels, ?) > 0", to_json(key)?);
            self.and("instr(r.labels, ?) > 0", to_json(value)?);
        }
        if !labels.is_empty() {
            let contains = "NOT EXISTS (
                SELECT 1 FROM json_each(?) AS wanted WHERE NOT EXISTS (
                    SELECT 1 FROM json_each(r.labels) AS label
                    WHERE label.type = 'text' AND label.key = wanted.key
                        AND label.value = wanted.value))";
            self.and(contains, to_json(labels)?);
        }
        Ok(())
    }

    /// The run's state as shown.
    fn and_run_status(&mut self, status: RunStatus, now: OffsetDateTime) {
        match status {
            RunStatus::Timeout => self.and(TIMED_OUT, At(now)),
            RunStatus::Running => self.and(STILL_RUNNING, At(now)),
            other => self.and("r.status = ?", State(other)),
        }
    }

    pub(super) fn runs_sql(&self, ascending: bool, offset: i64) -> String {
        let order = if ascending { "r.created_at, r.id" } else { "r.created_at DESC, r.id" };
        let page = format!("FROM {RUNS} {} ORDER BY {order} LIMIT ? OFFSET ?", self.sql);
        if offset < DEEP {
            return format!("SELECT {RUN} {page}");
        }
        format!("SELECT {RUN} FROM runs AS r WHERE r.id IN (SELECT r.id {page}) ORDER BY {order}")
    }

    pub(super) fn hosts_sql(&self, logs: &str) -> String {
        let conditions = &self.sql;
        format!(
            "SELECT {HOST}{logs} FROM run_hosts AS h WHERE h.id IN (SELECT h.id
             FROM {HOSTS_OF_RUNS} {conditions} ORDER BY h.id LIMIT ? OFFSET ?) ORDER BY h.id"
        )
    }

    pub(super) fn count_sql(&self, from: &str) -> String {
        format!("SELECT count(*) FROM {from} {}", self.sql)
    }

    /// How many rows match, which may be remembered for the filter that is written so.
    fn count(
        &self,
        tx: &Transaction<'_>,
        from: &str,
        (totals, filter): (&Totals, String),
    ) -> StoreResult<i64> {
        if let Some(total) = totals.get(&filter) {
            return Ok(total);
        }
        let mut statement = tx.prepare_cached(&self.count_sql(from))?;
        let total = statement.query_row(params_from_iter(&self.values), |row| row.get(0))?;
        totals.put(filter, total);
        Ok(total)
    }
}

pub(super) fn run_conditions(filter: &RunFilter, now: OffsetDateTime) -> StoreResult<Conditions> {
    let mut conditions = Conditions::default();
    conditions.and("r.org_id = ?", filter.org_id.clone());
    conditions.and_services(&filter.services)?;
    conditions.and_some("r.recipient = ?", filter.recipient);
    conditions.and_some("r.service = ?", filter.service.clone());
    if let Some(status) = filter.status {
        conditions.and_run_status(status, now);
    }
    conditions.and_labels(&filter.labels)?;
    Ok(conditions)
}

/// A page of runs.
pub(super) fn runs(
    tx: &Transaction<'_>,
    query: &RunQuery,
    totals: &Totals,
) -> StoreResult<Rows<RunRow>> {
    let mut conditions = run_conditions(&query.filter, query.now)?;
    let total = conditions.count(tx, RUNS, (totals, format!("{:?}", query.filter)))?;
    let sql = conditions.runs_sql(query.ascending, query.offset);
    conditions.values.extend([Box::new(query.limit) as Box<dyn ToSql>, Box::new(query.offset)]);
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = collect(statement.query(params_from_iter(&conditions.values))?, run)?;
    Ok(Rows { rows, total })
}

pub(super) fn host_conditions(
    filter: &RunHostFilter,
    now: OffsetDateTime,
) -> StoreResult<Conditions> {
    let mut conditions = Conditions::default();
    conditions.and("r.org_id = ?", filter.org_id.clone());
    conditions.and_some("r.id = ?", filter.run_id);
    conditions.and_services(&filter.services)?;
    conditions.and_some("r.service = ?", filter.run_service.clone());
    match filter.status {
        Some(RunStatus::Timeout) => conditions.and_run_status(RunStatus::Timeout, now),
        Some(RunStatus::Running) => {
            conditions.and("h.status = ?", State(RunStatus::Running));
            // Whatever the run's own state: so the contract has it.
            conditions.and(NOT_OVER, At(now));
        }
        Some(other) => conditions.and("h.status = ?", State(other)),
        None => {}
    }
    conditions.and_labels(&filter.run_labels)?;
    conditions.and_some("h.inventory_id = ?", filter.inventory_id);
    Ok(conditions)
}

/// A page of run hosts.
pub(super) fn hosts(
    tx: &Transaction<'_>,
    query: &RunHostQuery,
    totals: &Totals,
) -> StoreResult<Rows<RunHostRow>> {
    let mut conditions = host_conditions(&query.filter, query.now)?;
    let total = conditions.count(tx, HOSTS_OF_RUNS, (totals, format!("{:?}", query.filter)))?;
    let sql = conditions.hosts_sql(if query.with_log { LOGS } else { "" });
    conditions.values.extend([Box::new(query.limit) as Box<dyn ToSql>, Box::new(query.offset)]);
    if !query.with_log {
        let mut statement = tx.prepare_cached(&sql)?;
        let rows = collect(statement.query(params_from_iter(&conditions.values))?, host)?;
        return Ok(Rows { rows, total });
    }
    let cap = query.log_cap;
    let sizes = [cap, excerpt::half(cap)].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    let values = sizes.iter().map(|size| size as &dyn ToSql);
    let values = values.chain(conditions.values.iter().map(AsRef::as_ref));
    let mut statement = tx.prepare_cached(&sql)?;
    let read = |row: &Row<'_>| with_log(row, cap);
    let rows = collect(statement.query(params_from_iter(values))?, read)?;
    Ok(Rows { rows: with_open_work(tx, rows, cap)?, total })
}

/// A host with its stored log, and how much its run has printed where a worker has not ended it.
fn with_log(row: &Row<'_>, cap: usize) -> StoreResult<(RunHostRow, Option<u64>)> {
    let mut host = host(row)?;
    host.log = match row.get("whole")? {
        Some(whole) => whole,
        None => {
            let (head, tail): (Vec<u8>, Vec<u8>) = (row.get("head")?, row.get("tail")?);
            Excerpt::of(row.get("length")?, cap).text(&head, &tail)
        }
    };
    let so_far = if host.log.is_empty() { row.get("so_far")? } else { None };
    Ok((host, so_far))
}

/// Output of a run whose work goes on is assembled once per run.
fn with_open_work(
    tx: &Transaction<'_>,
    rows: Vec<(RunHostRow, Option<u64>)>,
    cap: usize,
) -> StoreResult<Vec<RunHostRow>> {
    let mut assembled: HashMap<Uuid, String> = HashMap::new();
    let mut hosts = Vec::with_capacity(rows.len());
    for (mut host, so_far) in rows {
        if let Some(total) = so_far {
            let known = assembled.get(&host.run_id).cloned();
            host.log = known.map_or_else(|| logs::capped(tx, host.run_id, total, cap), Ok)?;
            assembled.entry(host.run_id).or_insert_with(|| host.log.clone());
        }
        hosts.push(host);
    }
    Ok(hosts)
}

/// One run with what the side tables know.
pub(super) fn detail(
    tx: &Transaction<'_>,
    org_id: &str,
    run_id: Uuid,
) -> StoreResult<Option<RunDetail>> {
    let Some(run) = find_run(tx, run_id)?.filter(|run| run.org_id == org_id) else {
        return Ok(None);
    };
    let error = tx
        .prepare_cached("SELECT code, details FROM run_error WHERE run_id = ?1")?
        .query_row([run_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let work = work_view(tx, run_id)?;
    let output_bytes = work.as_ref().map_or(0, |(_, bytes)| *bytes);
    Ok(Some(RunDetail { run, work: work.map(|(view, _)| view), error, output_bytes }))
}

fn work_view(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<Option<(WorkView, u64)>> {
    let mut statement = tx.prepare_cached(
        "SELECT w.state, w.cancel_requested, w.output_bytes, p.last_seen, (
             SELECT other.run_id FROM run_work AS other
             WHERE other.recipient = w.recipient AND other.state IN (1, 2)
                 AND other.run_id <> w.run_id
                 AND (other.lease_until > ?2 OR (other.state = 2 AND other.expires_at > ?2))
             LIMIT 1)
         FROM run_work AS w LEFT JOIN recipients AS p ON p.id = w.recipient WHERE w.run_id = ?1",
    )?;
    let view = statement.query_row(params![run_id, At::now()], |row| {
        let view = WorkView {
            state: WorkState::from_code(row.get(0)?),
            busy_with: row.get(4)?,
            recipient_seen: row.get::<_, Option<At>>(3)?.map(|at| at.0),
            cancel_requested: row.get(1)?,
        };
        Ok((view, row.get(2)?))
    });
    Ok(view.optional()?)
}
