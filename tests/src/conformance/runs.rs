//! Creating runs and listing them: order, pages, filters, precision, all or nothing.

use dispatcher_api::{
    runs::model::{RunFilter, RunQuery},
    store::StoreError,
};
use dispatcher_wire::RunStatus;
use time::Duration;
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        NONE, all_hosts, all_runs, create, detail, foreign_run, hosts, labels, listed, now, org,
        run,
    },
};

/// Newest or oldest first, down to microseconds; equal times by id, ascending in both orders.
pub async fn order_and_ties(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut runs: Vec<_> = (0..6).map(|_| run(&org)).collect();
    runs.sort_by_key(|run| run.id);
    let offsets = [0, 0, 0, 1, -1, -1_000_000];
    for (run, micros) in runs.iter_mut().zip(offsets) {
        run.created_at = at + Duration::microseconds(micros);
    }
    runs.reverse();
    create(&subject.stores, &runs).await;
    runs.reverse();
    let ids = |order: [usize; 6]| order.map(|index: usize| runs[index].id).to_vec();
    let newest_first = all_runs(&org);
    assert_eq!(listed(&subject.stores, &newest_first).await, ids([3, 0, 1, 2, 4, 5]));
    let oldest_first = RunQuery { ascending: true, ..newest_first };
    assert_eq!(listed(&subject.stores, &oldest_first).await, ids([5, 4, 0, 1, 2, 3]));
}

/// Pages put together are the whole; each says the total, also the one beyond the end.
pub async fn pages(subject: &Subject) {
    let org = org();
    let runs: Vec<_> = (0..7).map(|_| run(&org)).collect();
    create(&subject.stores, &runs).await;
    let whole = listed(&subject.stores, &all_runs(&org)).await;
    let mut together = Vec::new();
    for offset in (0..9).step_by(3) {
        let page = RunQuery { limit: 3, offset, ..all_runs(&org) };
        let rows = subject.stores.runs.list(&page).await.unwrap();
        assert_eq!(rows.total, 7);
        together.extend(rows.rows.into_iter().map(|row| row.id));
    }
    assert_eq!(together, whole);
    let beyond = RunQuery { offset: 7, ..all_runs(&org) };
    let beyond = subject.stores.runs.list(&beyond).await.unwrap();
    assert_eq!((beyond.rows.len(), beyond.total), (0, 7));
}

/// Pages far behind the first one, in both orders, with filters: the rows that belong there.
pub async fn deep_pages(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut runs: Vec<_> = (0..2_100).map(|_| run(&org)).collect();
    for (index, run) in runs.iter_mut().enumerate() {
        // Three runs each at the same time.
        run.created_at = at - Duration::seconds(index as i64 / 3);
        run.service = if index % 2 == 0 { "tasks" } else { "remediations" }.to_owned();
    }
    create(&subject.stores, &runs).await;
    for (ascending, service) in [(false, None), (true, None), (false, Some("tasks"))] {
        let mut wanted: Vec<_> = runs
            .iter()
            .filter(|run| service.is_none_or(|service| run.service == service))
            .collect();
        wanted.sort_by_key(|run| run.id);
        wanted.sort_by_key(|run| run.created_at);
        if !ascending {
            wanted.sort_by_key(|run| std::cmp::Reverse(run.created_at));
        }
        let mut query = RunQuery { ascending, limit: 40, ..all_runs(&org) };
        query.filter.service = service.map(str::to_owned);
        for offset in [990, 1_000, 1_020, wanted.len() - 5, wanted.len()] {
            let query = RunQuery { offset: offset as i64, ..query.clone() };
            let expected = wanted.iter().skip(offset).take(40).map(|run| run.id);
            let found = listed(&subject.stores, &query).await;
            assert_eq!(found, expected.collect::<Vec<_>>(), "{ascending} {service:?} {offset}");
        }
    }
}

/// Every column comes back as it was given, with microseconds, whichever way the run goes.
pub async fn rows_come_back_whole(subject: &Subject) {
    let org = org();
    let mut plain = run(&org);
    plain.created_at = now().replace_microsecond(123_457).unwrap();
    let mut full = foreign_run(&org);
    full.created_at = now().replace_microsecond(999_999).unwrap();
    full.labels = labels(&[("a", "1"), ("ключ", "\"'\\")]);
    full.name = Some("п'\"\\; DROP TABLE runs; --".to_owned());
    full.principal = None;
    full.sat_id = Some(Uuid::new_v4());
    full.sat_org_id = Some("sat".to_owned());
    full.response_full = false;
    full.timeout = 604_800;
    let mut bare = foreign_run(&org);
    (bare.name, bare.timeout, bare.created_at) = (None, 0, now().replace_microsecond(0).unwrap());
    for run in [&plain, &full, &bare] {
        create(&subject.stores, std::slice::from_ref(run)).await;
        let detail = detail(&subject.stores, run).await;
        assert_eq!(detail.run, run.row());
        assert_eq!((detail.output_bytes, detail.error), (0, None));
    }
    let mut listed = subject.stores.runs.list(&all_runs(&org)).await.unwrap().rows;
    listed.sort_by_key(|row| row.id);
    let mut given = vec![plain.row(), full.row(), bare.row()];
    given.sort_by_key(|row| row.id);
    assert_eq!(listed, given);
    assert!(detail(&subject.stores, &plain).await.work.is_some());
    assert!(detail(&subject.stores, &full).await.work.is_none());
}

/// One run that cannot be created leaves nothing of its batch.
pub async fn a_batch_is_created_whole_or_not_at_all(subject: &Subject) {
    let org = org();
    let first = run(&org);
    create(&subject.stores, std::slice::from_ref(&first)).await;
    let mut batch: Vec<_> = (0..50).map(|_| run(&org)).collect();
    batch.iter_mut().for_each(|run| run.hosts = hosts(&["a", "b"]));
    let mut broken = batch.clone();
    broken[49].id = first.id;
    let error = subject.stores.runs.create(&broken, None, &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    assert_eq!(listed(&subject.stores, &all_runs(&org)).await, [first.id]);
    create(&subject.stores, &batch).await;
    assert_eq!(listed(&subject.stores, &all_runs(&org)).await.len(), 51);
    assert_eq!(subject.stores.runs.list_hosts(&all_hosts(&org)).await.unwrap().total, 100);
    create(&subject.stores, &[]).await;
}

/// Another organisation sees nothing.
pub async fn organisations_are_apart(subject: &Subject) {
    let (own, other) = (org(), org());
    let mut run = run(&own);
    run.hosts = hosts(&["a"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let stores = &subject.stores;
    assert!(stores.runs.get(&other, run.id).await.unwrap().is_none());
    assert!(stores.runs.read_log(&other, run.id, None, 0, 10).await.unwrap().is_none());
    assert_eq!(listed(stores, &all_runs(&other)).await, NONE);
    let mut its_hosts = all_hosts(&other);
    its_hosts.filter.run_id = Some(run.id);
    assert_eq!(stores.runs.list_hosts(&its_hosts).await.unwrap().total, 0);
}

/// Services allowed, service asked for, recipient asked for: all must agree.
pub async fn services_and_recipients(subject: &Subject) {
    let org = org();
    let mut runs: Vec<_> = (0..4).map(|_| run(&org)).collect();
    for (run, service) in runs.iter_mut().zip(["a", "b", "b", "it's \"c\""]) {
        run.service = service.to_owned();
    }
    create(&subject.stores, &runs).await;
    let found = async |change: &dyn Fn(&mut RunFilter)| {
        let mut query = all_runs(&org);
        change(&mut query.filter);
        let mut ids = listed(&subject.stores, &query).await;
        assert_eq!(subject.stores.runs.list(&query).await.unwrap().total, ids.len() as i64);
        ids.sort();
        ids
    };
    let ids = |indexes: &[usize]| {
        let mut ids: Vec<_> = indexes.iter().map(|index| runs[*index].id).collect();
        ids.sort();
        ids
    };
    let services = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(found(&|filter| filter.services = services(&["b", "x"])).await, ids(&[1, 2]));
    let several = services(&["a", "it's \"c\""]);
    assert_eq!(found(&|filter| filter.services.clone_from(&several)).await, ids(&[0, 3]));
    assert_eq!(found(&|filter| filter.service = Some("b".to_owned())).await, ids(&[1, 2]));
    let allowed_and_asked = |filter: &mut RunFilter| {
        filter.services = services(&["a"]);
        filter.service = Some("b".to_owned());
    };
    assert_eq!(found(&allowed_and_asked).await, NONE);
    assert_eq!(found(&|filter| filter.recipient = Some(runs[2].recipient)).await, ids(&[2]));
    assert_eq!(found(&|filter| filter.recipient = Some(Uuid::nil())).await, NONE);
}

/// The state as shown: an expired running run is a timeout, from its last microsecond on.
pub async fn status_is_judged_at_the_time_of_asking(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut runs: Vec<_> = (0..4).map(|_| run(&org)).collect();
    let last_moment = at - Duration::seconds(100);
    (runs[1].created_at, runs[1].timeout) = (last_moment, 100);
    let later = last_moment + Duration::microseconds(1);
    (runs[2].created_at, runs[2].timeout) = (later, 100);
    (runs[3].created_at, runs[3].timeout) = (at, 0);
    create(&subject.stores, &runs).await;
    let found = async |status| {
        let mut query = RunQuery { ascending: true, now: at, ..all_runs(&org) };
        query.filter.status = Some(status);
        let rows = subject.stores.runs.list(&query).await.unwrap();
        assert!(rows.rows.iter().all(|row| row.status_at(at) == status));
        assert_eq!(rows.total, rows.rows.len() as i64);
        let mut ids: Vec<_> = rows.rows.iter().map(|row| row.id).collect();
        ids.sort();
        ids
    };
    let ids = |indexes: [usize; 2]| {
        let mut ids = indexes.map(|index| runs[index].id);
        ids.sort();
        ids
    };
    assert_eq!(found(RunStatus::Running).await, ids([0, 2]));
    assert_eq!(found(RunStatus::Timeout).await, ids([1, 3]));
    for none in [RunStatus::Success, RunStatus::Failure, RunStatus::Canceled] {
        assert_eq!(found(none).await, NONE);
    }
    subject.stores.upkeep.expire(at, 100).await.unwrap();
    assert_eq!(found(RunStatus::Timeout).await, ids([1, 3]));
    assert_eq!(found(RunStatus::Running).await, ids([0, 2]));
}

/// One row and one event per run and host, and none for what a connector has yet to send.
pub async fn creation_is_told_once(subject: &Subject) {
    let org = org();
    let (mut own, mut foreign) = (run(&org), foreign_run(&org));
    own.hosts = hosts(&["b", "a"]);
    own.labels = labels(&[("k", "v")]);
    foreign.hosts = hosts(&["a"]);
    create(&subject.stores, &[own.clone(), foreign.clone()]).await;
    let told = ["run create running", "run_host create running", "run_host create running"];
    assert_eq!(subject.told(own.id).await, told);
    assert_eq!(subject.told(foreign.id).await, [""; 0]);
    let rows = subject.probe.outbox(own.id).await;
    let payload = dispatcher_api::events::model::run_payload(&own.row());
    assert_eq!(rows[0].payload, payload);
    assert!(rows.iter().all(|row| row.org_id == org && row.service == "remediations"));
    for host in own.host_rows() {
        let row = rows.iter().find(|row| row.entity_id == host.id).unwrap();
        assert_eq!(row.payload, dispatcher_api::events::model::run_host_payload(&host));
    }
}

/// A request tried again, since the answer to its commit was lost: created, and told once. With
/// another id among them it is none, and nothing of it is there.
pub async fn a_batch_created_twice_is_there_once(subject: &Subject) {
    let org = org();
    let mut batch = [run(&org), foreign_run(&org), run(&org)];
    batch.iter_mut().for_each(|run| run.hosts = hosts(&["a", "b"]));
    create(&subject.stores, &batch).await;
    let told = ["run create running", "run_host create running", "run_host create running"];
    for again in [&batch[..], &batch[..1], &batch[1..]] {
        create(&subject.stores, again).await;
        assert_eq!(subject.told(batch[0].id).await, told);
        assert_eq!(subject.told(batch[1].id).await, [""; 0], "it is still to be sent");
        assert_eq!(listed(&subject.stores, &all_runs(&org)).await.len(), 3);
        assert_eq!(subject.stores.runs.list_hosts(&all_hosts(&org)).await.unwrap().total, 6);
    }
    let [first, _, third] = batch;
    for mixed in [[first.clone(), run(&org)], [run(&org), third], [first.clone(), first]] {
        let error = subject.stores.runs.create(&mixed, None, &[]).await.unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{error}");
        assert_eq!(listed(&subject.stores, &all_runs(&org)).await.len(), 3);
    }
}
