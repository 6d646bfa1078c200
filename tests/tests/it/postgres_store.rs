//! What only a database that many use at once has to get right: repeated calls, claims that race,
//! batches that meet, a server that goes away; and bytes that are no text.

use std::{collections::BTreeMap, time::Duration as StdDuration};

use dispatcher_api::{
    execution::model::{AppendBatch, AppendOutcome, ClaimRequest, Finish, Hold, OutcomeSoFar},
    runs::model::{
        CancelOutcome, CancelRequest, CreateOutcome, NewRoute, NewRun, RunHostFilter, RunHostQuery,
    },
    store::{StoreError, Stores},
};
use dispatcher_tests::postgres::{Database, PrivatePostgres};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

const ORG: &str = "5318290";

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}

fn hosts_with_logs() -> RunHostQuery {
    let filter = RunHostFilter { org_id: ORG.to_owned(), ..RunHostFilter::default() };
    RunHostQuery { filter, with_log: true, log_cap: 1000, limit: 50, offset: 0, now: now() }
}

fn new_run(recipient: Uuid) -> NewRun {
    NewRun {
        id: Uuid::new_v4(),
        org_id: ORG.to_owned(),
        recipient,
        correlation_id: Uuid::new_v4(),
        url: "https://example.com/site.yml".to_owned(),
        labels: BTreeMap::new(),
        timeout: 3600,
        service: "remediations".to_owned(),
        name: None,
        web_console_url: "https://example.com".to_owned(),
        principal: None,
        sat_id: None,
        sat_org_id: None,
        response_full: true,
        created_at: now(),
        hosts: Vec::new(),
        // `json` keeps what `jsonb` refuses.
        route: NewRoute::Worker { inputs: Some(json!({"limit": "a\0"})), sealed_secrets: None },
    }
}

fn claim_of(recipient: Uuid) -> ClaimRequest {
    ClaimRequest {
        recipient,
        claimed_by: "test".to_owned(),
        at_a_time: 1,
        claim: Uuid::new_v4(),
        now: now(),
        lease_until: now() + Duration::minutes(1),
    }
}

fn batch(first_counter: u64, output: &[u8], hosts: &[&str]) -> AppendBatch {
    AppendBatch {
        first_counter,
        output_ends: vec![output.len()],
        output: output.to_vec(),
        separator_at: None,
        output_max: u64::MAX,
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        hosts_max: 1000,
        outcome: OutcomeSoFar {
            stats: Some(hosts.iter().map(|host| ((*host).to_owned(), false)).collect()),
            ..OutcomeSoFar::default()
        },
        lease_until: now() + Duration::minutes(1),
        now: now(),
    }
}

#[tokio::test]
async fn output_that_is_no_text_becomes_text_in_logs_and_stays_bytes_in_chunks() {
    let stores = Database::migrated().await.unwrap().stores().await.unwrap();
    let recipient = Uuid::new_v4();
    let run = new_run(recipient);
    stores.runs.create(std::slice::from_ref(&run), None, &[]).await.unwrap();
    let work = stores.work.claim(&claim_of(recipient)).await.unwrap().unwrap();
    let hold = Hold { run_id: run.id, claim: work.claim, recipient };
    let inputs = stores.work.inputs(hold).await.unwrap().unwrap();
    assert_eq!(inputs.inputs, Some(json!({"limit": "a\0"})));
    let output = b"a\0b\xFFc\n";
    let appended = stores.work.append(hold, &batch(0, output, &["h\0"])).await.unwrap();
    assert_eq!(appended, AppendOutcome::Applied { next_counter: 1, cancel: false });
    let finish =
        Finish { next_counter: 1, host_log_cap: 1000, all_logs_cap: usize::MAX, now: now() };
    for moment in ["while it runs", "when it is final"] {
        let hosts = stores.runs.list_hosts(&hosts_with_logs()).await.unwrap();
        assert_eq!(hosts.rows[0].host, "h\u{FFFD}");
        assert_eq!(hosts.rows[0].log, "a\u{FFFD}b\u{FFFD}c\n", "{moment}");
        let log = stores.runs.read_log(ORG, run.id, None, 0, 1000).await.unwrap().unwrap();
        assert_eq!(log.bytes, output, "{moment}");
        stores.work.finish(hold, &finish).await.unwrap();
    }
}

#[tokio::test]
async fn creating_again_what_is_created_changes_nothing() {
    let database = Database::migrated().await.unwrap();
    let stores = database.stores().await.unwrap();
    let runs: Vec<NewRun> = (0..50).map(|_| new_run(Uuid::new_v4())).collect();
    for _ in 0..2 {
        assert_eq!(stores.runs.create(&runs, None, &[]).await.unwrap(), CreateOutcome::Created);
    }
    let counts = "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM outbox)";
    let row = database.client().await.unwrap().query_one(counts, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (50, 50));
}

#[tokio::test]
async fn a_recipient_gets_one_run_however_many_ask() {
    let stores = Database::migrated().await.unwrap().stores().await.unwrap();
    let recipient = Uuid::new_v4();
    let runs: Vec<NewRun> = (0..3).map(|_| new_run(recipient)).collect();
    stores.runs.create(&runs, None, &[]).await.unwrap();
    let asked: Vec<_> = (0..16)
        .map(|_| {
            let work = stores.work.clone();
            tokio::spawn(async move { work.claim(&claim_of(recipient)).await.unwrap() })
        })
        .collect();
    let mut got = Vec::new();
    for asked in asked {
        got.extend(asked.await.unwrap());
    }
    assert_eq!(got.len(), 1, "{got:?}");
}

#[tokio::test]
async fn the_answer_to_a_claim_that_was_lost_is_given_again() {
    let stores = Database::migrated().await.unwrap().stores().await.unwrap();
    let recipient = Uuid::new_v4();
    stores.runs.create(&[new_run(recipient)], None, &[]).await.unwrap();
    let request = claim_of(recipient);
    let first = stores.work.claim(&request).await.unwrap().unwrap();
    assert_eq!(stores.work.claim(&request).await.unwrap(), Some(first));
}

#[tokio::test]
async fn batches_that_meet_do_not_deadlock() {
    let database = Database::migrated().await.unwrap();
    let stores = database.stores().await.unwrap();
    let runs: Vec<NewRun> = (0..40).map(|_| new_run(Uuid::new_v4())).collect();
    stores.runs.create(&runs, None, &[]).await.unwrap();
    let request = |run: &NewRun| CancelRequest {
        run_id: run.id,
        org_id: ORG.to_owned(),
        principal: "jane".to_owned(),
    };
    let mut tasks = Vec::new();
    for turn in 0..8 {
        let mut requests: Vec<_> = runs.iter().map(request).collect();
        requests.rotate_left(turn * 5);
        if turn % 2 == 0 {
            requests.reverse();
        }
        let stores = stores.clone();
        tasks.push(tokio::spawn(async move {
            let later = now() + Duration::hours(2);
            stores.upkeep.expire(later, 7).await.unwrap();
            stores.runs.cancel(&requests, now(), None).await.unwrap()
        }));
    }
    let mut canceled = 0;
    for task in tasks {
        let outcomes = task.await.unwrap();
        canceled += outcomes.iter().filter(|o| **o == CancelOutcome::Canceled).count() as i64;
    }
    let counts = "
        SELECT count(*) FILTER (WHERE status = 'canceled'),
               count(*) FILTER (WHERE status = 'timeout'),
               (SELECT count(*) FROM outbox WHERE run_seq = 2), (SELECT max(run_seq) FROM outbox)
        FROM runs";
    let row = database.client().await.unwrap().query_one(counts, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), canceled);
    assert_eq!(row.get::<_, i64>(0) + row.get::<_, i64>(1), 40);
    assert_eq!((row.get::<_, i64>(2), row.get::<_, i64>(3)), (40, 2), "one change of each run");
}

/// Asks until the database answers as wanted. How long a cut takes to be noticed is not ours to say.
async fn until(stores: &Stores, wanted: impl Fn(&Result<(), StoreError>) -> bool) {
    for _ in 0..600 {
        let answer = stores.upkeep.ping().await;
        assert!(matches!(answer, Ok(()) | Err(StoreError::Unavailable(_))), "{answer:?}");
        if wanted(&answer) {
            return;
        }
        tokio::time::sleep(StdDuration::from_millis(50)).await;
    }
    panic!("the database did not answer as wanted");
}

#[tokio::test]
async fn a_server_that_goes_away_is_unavailable_and_a_cut_connection_is_made_anew() {
    let server = tokio::task::spawn_blocking(PrivatePostgres::start).await.unwrap().unwrap();
    let database = server.migrated().await.unwrap();
    let stores = database.stores().await.unwrap();
    let others = "
        SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND backend_type = 'client backend'";
    let cut = database.client().await.unwrap().query_one(others, &[]).await.unwrap();
    assert_eq!(cut.get::<_, i64>(0), 1);
    until(&stores, Result::is_ok).await;
    drop(server);
    until(&stores, Result::is_err).await;
}
