//! Lists of run hosts: order, filters on the host and on its run, logs.

use dispatcher_api::runs::model::{NewRun, RunHostFilter, RunHostQuery, RunHostRow};
use dispatcher_wire::RunStatus;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        all_hosts, append, batch, claimed_upload, create, foreign_run, hosts, labels, now, org,
        run, started, stats, update, upload,
    },
};

async fn found(subject: &Subject, query: &RunHostQuery) -> Vec<String> {
    let rows = subject.stores.runs.list_hosts(query).await.unwrap();
    assert_eq!(rows.total, rows.rows.len() as i64);
    let mut names: Vec<String> = rows.rows.into_iter().map(|row| row.host).collect();
    names.sort();
    names
}

/// By id of the row, over all runs; pages put together are the whole.
pub async fn order_and_pages(subject: &Subject) {
    let org = org();
    let mut runs = [run(&org), run(&org)];
    runs[0].hosts = hosts(&["a", "b", "c"]);
    runs[1].hosts = hosts(&["a", "b"]);
    create(&subject.stores, &runs).await;
    let mut ids: Vec<_> = runs.iter().flat_map(|run| &run.hosts).map(|host| host.id).collect();
    ids.sort();
    let mut together = Vec::new();
    for offset in [0, 2, 4, 6] {
        let page = RunHostQuery { limit: 2, offset, ..all_hosts(&org) };
        let rows = subject.stores.runs.list_hosts(&page).await.unwrap();
        assert_eq!(rows.total, 5);
        together.extend(rows.rows.into_iter().map(|row| row.id));
    }
    assert_eq!(together, ids);
}

/// Every column comes back as it was given.
pub async fn rows_come_back_whole(subject: &Subject) {
    let org = org();
    let mut run = run(&org);
    run.hosts = hosts(&["it's \"a\" hóst"]);
    run.hosts[0].inventory_id = Some(Uuid::new_v4());
    run.hosts[0].subscription_manager_id = Some(Uuid::new_v4());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let rows = subject.stores.runs.list_hosts(&all_hosts(&org)).await.unwrap().rows;
    assert_eq!(rows, run.host_rows().collect::<Vec<_>>());
}

/// Run, service, labels and inventory id; AND-ed.
pub async fn filters(subject: &Subject) {
    let org = org();
    let mut runs = [run(&org), run(&org)];
    runs[0].hosts = hosts(&["a", "b"]);
    runs[0].service = "one".to_owned();
    runs[0].labels = labels(&[("k", "v"), ("l", "w")]);
    runs[1].hosts = hosts(&["c"]);
    let inventory_id = Uuid::new_v4();
    runs[0].hosts[1].inventory_id = Some(inventory_id);
    create(&subject.stores, &runs).await;
    let with = async |change: &dyn Fn(&mut RunHostFilter)| {
        let mut query = all_hosts(&org);
        change(&mut query.filter);
        found(subject, &query).await
    };
    assert_eq!(with(&|_| {}).await, ["a", "b", "c"]);
    assert_eq!(with(&|filter| filter.run_id = Some(runs[0].id)).await, ["a", "b"]);
    assert_eq!(with(&|filter| filter.run_id = Some(Uuid::nil())).await, [""; 0]);
    assert_eq!(with(&|filter| filter.run_service = Some("one".to_owned())).await, ["a", "b"]);
    assert_eq!(with(&|filter| filter.services = vec!["one".to_owned()]).await, ["a", "b"]);
    assert_eq!(with(&|filter| filter.run_labels = labels(&[("k", "v")])).await, ["a", "b"]);
    assert_eq!(with(&|filter| filter.run_labels = labels(&[("k", "w")])).await, [""; 0]);
    assert_eq!(with(&|filter| filter.inventory_id = Some(inventory_id)).await, ["b"]);
    let together = |filter: &mut RunHostFilter| {
        filter.inventory_id = Some(inventory_id);
        filter.run_id = Some(runs[1].id);
    };
    assert_eq!(with(&together).await, [""; 0]);
}

async fn by_status(subject: &Subject, org: &str, at: OffsetDateTime, status: RunStatus) -> String {
    let mut query = RunHostQuery { now: at, ..all_hosts(org) };
    query.filter.status = Some(status);
    found(subject, &query).await.join(" ")
}

/// `timeout` looks at the run, `running` at both, every other state at the host.
pub async fn status_filters(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut going = foreign_run(&org);
    going.hosts = hosts(&["going", "done"]);
    let mut over: NewRun = foreign_run(&org);
    (over.created_at, over.timeout) = (at - Duration::seconds(10), 10);
    over.hosts = hosts(&["late", "early"]);
    create(&subject.stores, &[going.clone(), over.clone()]).await;
    for (run, host) in [(&going, "done"), (&over, "early")] {
        let mut update = update(run, RunStatus::Running, &[host], "");
        update.hosts[0].1 = RunStatus::Success;
        let upload = claimed_upload(&subject.stores, &upload(&org, at)).await;
        subject.stores.uploads.apply(&upload, &update.clone().into(), at).await.unwrap();
    }
    for expired in [false, true] {
        if expired {
            subject.stores.upkeep.expire(at, 10).await.unwrap();
        }
        assert_eq!(by_status(subject, &org, at, RunStatus::Running).await, "going");
        assert_eq!(by_status(subject, &org, at, RunStatus::Timeout).await, "early late");
        assert_eq!(by_status(subject, &org, at, RunStatus::Success).await, "done early");
        assert_eq!(by_status(subject, &org, at, RunStatus::Failure).await, "");
    }
}

/// Without being asked for, no log; of a run that goes on, what it has printed, up to the cap.
pub async fn logs_of_runs_that_go_on(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut run = run(&org);
    run.hosts = hosts(&["a"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = started(&subject.stores, &run, at).await;
    let mut printed = batch(1, &["one\n", "two\n"], at);
    printed.hosts = vec!["b".to_owned()];
    append(&subject.stores, hold, &printed).await;
    let logs = async |query: RunHostQuery| {
        let rows = subject.stores.runs.list_hosts(&query).await.unwrap().rows;
        rows.into_iter().map(|row| row.log).collect::<Vec<_>>()
    };
    assert_eq!(logs(all_hosts(&org)).await, ["one\ntwo\n", "one\ntwo\n"]);
    assert_eq!(logs(RunHostQuery { with_log: false, ..all_hosts(&org) }).await, ["", ""]);
    let long = "x".repeat(1000);
    append(&subject.stores, hold, &batch(3, &[&long], at)).await;
    let capped = logs(RunHostQuery { log_cap: 300, ..all_hosts(&org) }).await;
    assert!(capped[0].len() <= 300 && capped[0].starts_with("one\ntwo\nx"), "{}", capped[0]);
    assert!(capped[0].contains("bytes are left out") && capped[0].ends_with('x'), "{}", capped[0]);
    assert_eq!(capped[0], capped[1]);
    let hold_ends = super::fixtures::finished(&subject.stores, hold, 4, stats(&[]), at).await;
    assert_eq!(hold_ends, RunStatus::Success);
    assert_eq!(logs(all_hosts(&org)).await[0], format!("one\ntwo\n{long}end\n"));
}

/// Stored logs come whole and byte for byte up to the cap; longer ones by their two ends, cut
/// between characters, with the marker.
pub async fn stored_logs_are_capped(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = foreign_run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let log = format!("begin {} end", "\u{20ac}".repeat(500));
    let uploaded = claimed_upload(&subject.stores, &upload(&org, at)).await;
    let update = update(&run, RunStatus::Success, &["a", "b"], &log);
    subject.stores.uploads.apply(&uploaded, &update.clone().into(), at).await.unwrap();
    for cap in [log.len(), log.len() + 1, usize::MAX] {
        let query = RunHostQuery { log_cap: cap, ..all_hosts(&org) };
        let rows = subject.stores.runs.list_hosts(&query).await.unwrap().rows;
        assert_eq!([&rows[0].log, &rows[1].log], [&log, &log], "{cap}");
    }
    for cap in (300..306).chain([log.len() - 1]) {
        let query = RunHostQuery { log_cap: cap, ..all_hosts(&org) };
        let rows = subject.stores.runs.list_hosts(&query).await.unwrap().rows;
        for RunHostRow { log, .. } in rows {
            assert!(log.len() <= cap && !log.contains('\u{FFFD}'), "{cap}: {log}");
            assert!(log.starts_with("begin \u{20ac}") && log.ends_with("\u{20ac} end"), "{log}");
            assert!(log.contains("bytes are left out here"), "{cap}: {log}");
        }
    }
}
