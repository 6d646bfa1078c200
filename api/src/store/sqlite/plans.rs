//! How SQLite answers the statements that run often or on large tables: by an index, whatever the
//! number of rows. Nothing here depends on statistics, which are never gathered.

use dispatcher_wire::RunStatus;
use rusqlite::Connection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    FILE_NAME, Store, claims,
    lists::{RUNS, host_conditions, run_conditions},
    upkeep, uploads,
};
use crate::runs::model::{RunFilter, RunHostFilter};

fn empty() -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let connection = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    (directory, connection)
}

/// The steps of a plan, without those that read the JSON of one value.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get::<_, String>(3).unwrap());
    }
    steps.retain(|step| !step.contains("VIRTUAL TABLE"));
    steps
}

/// No step may walk a whole table or index, and each index must be used by one of them.
#[track_caller]
fn answers_by(connection: &Connection, sql: &str, indexes: &[&str]) {
    let steps = plan(connection, sql);
    let walks = steps.iter().any(|step| step.starts_with("SCAN") && !step.contains("CONSTANT"));
    assert!(!walks, "{sql}\n{steps:#?}");
    for index in indexes {
        assert!(steps.iter().any(|step| step.contains(index)), "not by {index}: {sql}\n{steps:#?}");
    }
}

fn filters() -> Vec<RunFilter> {
    let org = RunFilter { org_id: "o".to_owned(), ..RunFilter::default() };
    let mut filters: Vec<RunFilter> = RunStatus::ALL
        .map(|status| RunFilter { status: Some(status), ..org.clone() })
        .into_iter()
        .collect();
    filters.push(RunFilter {
        services: vec!["a".to_owned()],
        labels: [("k".to_owned(), "v".to_owned())].into(),
        recipient: Some(Uuid::nil()),
        service: Some("b".to_owned()),
        ..org.clone()
    });
    filters.push(org);
    filters
}

#[test]
fn lists_of_runs_begin_with_the_organisation() {
    let (_directory, connection) = empty();
    for filter in filters() {
        let conditions = run_conditions(&filter, OffsetDateTime::UNIX_EPOCH).unwrap();
        let page = conditions.runs_sql(false, 0);
        answers_by(&connection, &page, &["runs_org_id_created_at_id_index"]);
        let sorted = plan(&connection, &page).iter().any(|step| step.contains("ORDER BY"));
        assert!(!sorted, "the default order comes from the index");
        for sql in [conditions.runs_sql(true, 0), conditions.runs_sql(false, 1_000_000)] {
            answers_by(&connection, &sql, &["runs_org_id_created_at_id_index"]);
        }
        let count = conditions.count_sql(RUNS);
        // Labels are in no index, so their rows are read.
        let covered = filter.labels.is_empty();
        let index =
            if covered { "COVERING INDEX runs_org_id" } else { "INDEX runs_org_id_created" };
        answers_by(&connection, &count, &[index]);
    }
}

#[test]
fn lists_of_hosts_begin_with_the_organisation_or_the_run() {
    let (_directory, connection) = empty();
    for filter in filters() {
        let mut filter = RunHostFilter {
            org_id: filter.org_id,
            services: filter.services,
            status: filter.status,
            run_labels: filter.labels,
            ..RunHostFilter::default()
        };
        let sql = |filter: &RunHostFilter| {
            host_conditions(filter, OffsetDateTime::UNIX_EPOCH).unwrap().hosts_sql("")
        };
        let by = ["INDEX runs_org_id", "sqlite_autoindex_run_hosts_2"];
        answers_by(&connection, &sql(&filter), &by);
        filter.run_id = Some(Uuid::nil());
        let by = ["sqlite_autoindex_runs_1", "sqlite_autoindex_run_hosts_2"];
        answers_by(&connection, &sql(&filter), &by);
    }
}

#[test]
fn what_is_polled_looks_at_little() {
    let (_directory, connection) = empty();
    answers_by(&connection, claims::BUSY, &["run_work_busy_index"]);
    answers_by(&connection, claims::BUSY_WITH, &["run_work_busy_index"]);
    answers_by(&connection, claims::OPEN, &["run_work_open_index"]);
    answers_by(&connection, claims::TO_BE_ENDED, &["run_work_busy_index"]);
    answers_by(&connection, claims::CANDIDATE, &["run_work_open_index"]);
    let sorted = plan(&connection, claims::CANDIDATE).iter().any(|step| step.contains("ORDER BY"));
    assert!(!sorted, "the queue is in order");
    answers_by(&connection, upkeep::EXPIRED, &["runs_running_expires_index"]);
    // The whole of an index that holds only what is waiting, or under way.
    let steps = plan(&connection, &uploads::oldest_sql());
    assert_eq!(steps, ["SCAN uploads USING INDEX uploads_pending_index"]);
    let steps = plan(&connection, upkeep::LEFT_OVER);
    assert!(steps[0].contains("run_work_busy_index"), "{steps:#?}");
    assert!(!steps[1..].iter().any(|step| step.starts_with("SCAN")), "{steps:#?}");
}
