//! Rows as the original writes them, read and changed through our stores, and what PostgreSQL cannot
//! hold.

use std::collections::BTreeMap;

use dispatcher_api::{
    runs::model::{CancelOutcome, CancelRequest, RunFilter, RunHostFilter, RunHostQuery, RunQuery},
    store::{Expired, Stores, postgres::PostgresStore},
    uploads::model::{ApplyOutcome, RunnerUpdate, Upload, UploadState},
};
use dispatcher_tests::postgres::Database;
use dispatcher_wire::{RunStatus, event::RunnerEvent};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, macros::datetime};
use tokio_postgres::Client;
use uuid::{Uuid, uuid};

const ORG: &str = "5318290";
const HEARTBEAT: Uuid = uuid!("98875b33-b37e-4c35-be8b-d74f321bac28");
const PLAIN: Uuid = uuid!("11111111-1111-4111-8111-111111111111");
const BARE: Uuid = uuid!("22222222-2222-4222-8222-222222222222");
const HOST: Uuid = uuid!("33333333-3333-4333-8333-333333333333");
const CORRELATION: Uuid = uuid!("44444444-4444-4444-8444-444444444444");
const DISPATCHED: OffsetDateTime = datetime!(2022-04-22 11:15:45.429294 UTC);

/// A run as the original dispatches it, one without anything that may be NULL, and the heartbeat.
const ROWS: &str = "
    INSERT INTO runs (id, recipient, correlation_id, url, labels, status, events, created_at,
                      updated_at, timeout, service, org_id, response_full, playbook_name,
                      playbook_run_url, principal)
    VALUES ('11111111-1111-4111-8111-111111111111', 'dd018b96-da04-4651-84d1-187fa5c23f6c',
            '44444444-4444-4444-8444-444444444444', 'https://example.com/site.yml',
            '{\"id\": \"1234\", \"why\": \"a \\\"b\\\"\"}', 'running', '[]',
            '2022-04-22 11:15:45.429294+00', '2022-04-22 11:15:45.429294+00', 2147483647,
            'remediations', '5318290', true, 'Fix it', 'https://console.example.com', 'jane');
    INSERT INTO runs (id, recipient, correlation_id, url, labels, created_at, updated_at, timeout,
                      org_id)
    VALUES ('22222222-2222-4222-8222-222222222222', 'dd018b96-da04-4651-84d1-187fa5c23f6c',
            '55555555-5555-4555-8555-555555555555', 'https://example.com/bare.yml', 'null',
            '2022-04-22 13:15:45.5+02', '2022-04-22 11:15:45.5+00', 0, '5318290');
    INSERT INTO runs (id, recipient, correlation_id, url, created_at, updated_at, timeout, service,
                      org_id)
    VALUES ('98875b33-b37e-4c35-be8b-d74f321bac28', '00000000-0000-0000-0000-000000000000',
            '00000000-0000-0000-0000-000000000000', 'https://redhat.com', now(), now(), 3600,
            'heartbeat', '5318290');
    INSERT INTO run_hosts (id, run_id, inventory_id, host, status, log, created_at, updated_at)
    VALUES ('33333333-3333-4333-8333-333333333333', '11111111-1111-4111-8111-111111111111',
            'c484f980-ab8d-401b-90e7-aa1d4ccf8c0e', 'db1', 'running', E'ok: gr\\u00fc\\u00df\\n',
            '2022-04-22 11:15:45.429294+00', '2022-04-22 11:15:45.429294+00');
    INSERT INTO run_hosts (id, run_id, host, created_at, updated_at)
    VALUES (gen_random_uuid(), '22222222-2222-4222-8222-222222222222', 'bare', now(), now())";

async fn of_original() -> (Stores, Client) {
    let database = Database::empty().await.unwrap();
    let client = database.client().await.unwrap();
    let tables = include_str!("../../../api/migrations/postgres/V1__contract_tables.sql");
    client.batch_execute(tables).await.unwrap();
    client.batch_execute(ROWS).await.unwrap();
    PostgresStore::migrate(&database.config).await.unwrap();
    (database.stores().await.unwrap(), client)
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}

fn query(filter: RunFilter) -> RunQuery {
    let filter = RunFilter { org_id: ORG.to_owned(), ..filter };
    RunQuery { filter, ascending: true, limit: 50, offset: 0, now: now() }
}

fn host_query(filter: RunHostFilter) -> RunHostQuery {
    let filter = RunHostFilter { org_id: ORG.to_owned(), ..filter };
    RunHostQuery { filter, with_log: true, log_cap: 1000, limit: 50, offset: 0, now: now() }
}

async fn listed(stores: &Stores, filter: RunFilter) -> Vec<Uuid> {
    let rows = stores.runs.list(&query(filter)).await.unwrap();
    assert_eq!(rows.total, rows.rows.len() as i64);
    rows.rows.iter().map(|run| run.id).collect()
}

#[tokio::test]
async fn rows_of_the_original_are_read_whole() {
    let (stores, _client) = of_original().await;
    assert_eq!(listed(&stores, RunFilter::default()).await, [PLAIN, BARE, HEARTBEAT]);
    let runs = stores.runs.list(&query(RunFilter::default())).await.unwrap().rows;
    let plain = &runs[0];
    assert_eq!((plain.created_at, plain.updated_at), (DISPATCHED, DISPATCHED));
    assert_eq!(plain.labels, json!({"id": "1234", "why": "a \"b\""}));
    assert_eq!((plain.name.as_deref(), plain.principal.as_deref()), (Some("Fix it"), Some("jane")));
    let bare = &runs[1];
    assert_eq!(bare.labels, Value::Null);
    assert_eq!((&bare.name, &bare.web_console_url, &bare.principal), (&None, &None, &None));
    assert_eq!((bare.sat_id, &bare.sat_org_id, bare.response_full), (None, &None, true));
    assert_eq!(bare.service, "unknown");
    assert_eq!(bare.status_at(now()), RunStatus::Timeout);
    assert_eq!(bare.created_at, datetime!(2022-04-22 11:15:45.5 UTC));

    let detail = stores.runs.get(ORG, PLAIN).await.unwrap().unwrap();
    assert_eq!((detail.work, detail.error, detail.output_bytes), (None, None, 0));
    assert!(stores.runs.get("other", PLAIN).await.unwrap().is_none());
    let log = stores.runs.read_log(ORG, PLAIN, None, 4, 100).await.unwrap().unwrap();
    assert_eq!((log.bytes.as_slice(), log.complete), ("grüß\n".as_bytes(), false));
    let hosts = stores.runs.list_hosts(&host_query(RunHostFilter::default())).await.unwrap();
    assert_eq!((hosts.total, hosts.rows.len()), (2, 2));
    let host = hosts.rows.iter().find(|host| host.id == HOST).unwrap();
    assert_eq!((host.host.as_str(), host.log.as_str()), ("db1", "ok: grüß\n"));
}

#[tokio::test]
async fn filters_find_rows_of_the_original() {
    let (stores, _client) = of_original().await;
    let status = |status| RunFilter { status: Some(status), ..RunFilter::default() };
    assert_eq!(listed(&stores, status(RunStatus::Running)).await, [PLAIN, HEARTBEAT]);
    assert_eq!(listed(&stores, status(RunStatus::Timeout)).await, [BARE]);
    assert!(listed(&stores, status(RunStatus::Success)).await.is_empty());
    let label = |key: &str, value: &str| RunFilter {
        labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..RunFilter::default()
    };
    assert_eq!(listed(&stores, label("why", "a \"b\"")).await, [PLAIN]);
    assert!(listed(&stores, label("why", "a")).await.is_empty());
    let services = vec!["unknown".to_owned(), "remediations".to_owned(), "no\0ne".to_owned()];
    let of_services = RunFilter { services, ..RunFilter::default() };
    assert_eq!(listed(&stores, of_services).await, [PLAIN, BARE]);
}

#[tokio::test]
async fn the_cleaner_times_rows_of_the_original_out() {
    let (stores, client) = of_original().await;
    client.batch_execute("UPDATE runs SET status = 'timeout' WHERE timeout = 0").await.unwrap();
    let left_over = stores.upkeep.expire(now(), 10).await.unwrap();
    assert_eq!(left_over, Expired { runs: 0, hosts: 1 });
    let later = now() + Duration::hours(2);
    assert_eq!(stores.upkeep.expire(later, 10).await.unwrap(), Expired { runs: 1, hosts: 0 });
    assert_eq!(stores.upkeep.expire(later, 10).await.unwrap(), Expired::default());
    // Nobody is told of the heartbeat.
    let told = "SELECT string_agg(entity, ' ') FROM outbox WHERE status = 'timeout'";
    assert_eq!(client.query_one(told, &[]).await.unwrap().get::<_, String>(0), "run_host");
}

#[tokio::test]
async fn runs_of_the_original_are_canceled_elsewhere() {
    let (stores, _client) = of_original().await;
    let request = |run_id, org_id: &str| CancelRequest {
        run_id,
        org_id: org_id.to_owned(),
        principal: "jane".to_owned(),
    };
    let requests = [request(PLAIN, ORG), request(Uuid::new_v4(), ORG), request(BARE, "other")];
    let outcomes = stores.runs.cancel(&requests, now(), None).await.unwrap();
    assert!(matches!(&outcomes[0], CancelOutcome::Elsewhere(run) if run.id == PLAIN));
    assert_eq!(outcomes[1..], [CancelOutcome::NotFound, CancelOutcome::OtherOrg]);
}

#[tokio::test]
async fn an_upload_full_of_nul_is_applied_to_a_run_of_the_original() {
    let (stores, client) = of_original().await;
    let upload = Upload {
        id: Uuid::new_v4(),
        org_id: ORG.to_owned(),
        run_id: None,
        object: "uploads/1".to_owned(),
        size: 1,
        state: UploadState::Pending,
        reason: None,
        attempt: 0,
        created_at: now(),
    };
    stores.uploads.accept(&upload).await.unwrap();
    let lease = std::time::Duration::from_secs(60);
    let claimed = stores.uploads.claim(Uuid::new_v4(), now(), lease).await.unwrap().unwrap();
    let event = RunnerEvent {
        event: "verbose".to_owned(),
        stdout: Some("a\0b".to_owned()),
        ..RunnerEvent::default()
    };
    let update = RunnerUpdate {
        correlation_id: CORRELATION,
        status: RunStatus::Failure,
        hosts: vec![
            ("db1".to_owned(), RunStatus::Failure),
            ("d\0b2".to_owned(), RunStatus::Success),
        ],
        log: "a\0b".to_owned(),
        events: vec![event],
        error: Some(("CO\0DE".to_owned(), "why\0".to_owned())),
    };
    let applied = stores.uploads.apply(&claimed, &update.clone().into(), now()).await.unwrap();
    assert_eq!(applied, ApplyOutcome::Applied);
    let hosts = stores.runs.list_hosts(&host_query(RunHostFilter::default())).await.unwrap().rows;
    let of_run: BTreeMap<_, _> = hosts
        .iter()
        .filter(|host| host.run_id == PLAIN)
        .map(|host| (host.host.as_str(), (host.status, host.log.as_str())))
        .collect();
    assert_eq!(of_run["db1"], (RunStatus::Failure, "a\u{FFFD}b"));
    assert_eq!(of_run["d\u{FFFD}b2"], (RunStatus::Success, "a\u{FFFD}b"));
    let events = client.query_one("SELECT events FROM runs WHERE id = $1", &[&PLAIN]).await;
    assert_eq!(events.unwrap().get::<_, Value>(0)[0]["stdout"], "a\u{FFFD}b");
    let detail = stores.runs.get(ORG, PLAIN).await.unwrap().unwrap();
    assert_eq!(detail.error, Some(("CO\u{FFFD}DE".to_owned(), "why\u{FFFD}".to_owned())));
}

#[tokio::test]
async fn what_postgresql_cannot_hold_is_nowhere() {
    let (stores, _client) = of_original().await;
    let nul = "5318290\0";
    let mut of_nul = query(RunFilter::default());
    of_nul.filter.org_id = nul.to_owned();
    assert_eq!(stores.runs.list(&of_nul).await.unwrap().total, 0);
    let label = BTreeMap::from([("a\0".to_owned(), "b".to_owned())]);
    assert!(listed(&stores, RunFilter { labels: label, ..RunFilter::default() }).await.is_empty());
    let service = Some("remediations\0".to_owned());
    assert!(listed(&stores, RunFilter { service, ..RunFilter::default() }).await.is_empty());
    assert!(stores.runs.get(nul, PLAIN).await.unwrap().is_none());
    assert!(stores.runs.read_log(nul, PLAIN, None, 0, 9).await.unwrap().is_none());
    assert!(stores.runs.read_log(ORG, PLAIN, Some("d\0"), 0, 9).await.unwrap().is_none());
    assert_eq!(stores.recipients.list(nul, &BTreeMap::new(), 5, 0).await.unwrap().total, 0);
    assert_eq!(stores.uploads.list(nul, 5, 0).await.unwrap().total, 0);
    assert_eq!(stores.playbooks.list(nul, 5, 0).await.unwrap().total, 0);
    assert!(stores.playbooks.get(ORG, "a\0").await.unwrap().is_none());
    assert!(stores.playbooks.find_content(nul, &[0; 32]).await.unwrap().is_none());
}
