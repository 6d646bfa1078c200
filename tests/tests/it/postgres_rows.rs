//! Rows of the contract's tables (contract §3) on a real PostgreSQL, behind the real routes: what a
//! dispatch leaves, column by column, and what becomes of rows of every kind that the original left.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::uploads::applier::Applier;
use dispatcher_tests::{
    foreign::{JSONL, form, lines, transcript},
    original::SCHEMA,
    postgres::Database,
    process::{BASE, PATIENCE},
    service::{InProcess, KEY},
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

const ORG: &str = "5318290";
const HOST: Uuid = Uuid::from_u128(0xc484_f980_ab8d_401b_90e7_aa1d_4ccf_8c0e);
const STATES: [&str; 5] = ["running", "success", "failure", "timeout", "canceled"];

/// A service over a database, and a look past it.
struct Rows {
    service: InProcess,
    client: tokio_postgres::Client,
}

impl Rows {
    async fn of(database: &Database, more: &[(&str, &str)]) -> Self {
        let first = [
            ("CLOUD_CONNECTOR_IMPL", "mock"),
            ("TENANT_TRANSLATOR_IMPL", "dynamic-mock"),
            ("IDENTITY_HEADER_FROM", "loopback"),
        ];
        let stores = database.stores().await.unwrap();
        let service = InProcess::instance(stores, &[&first, more].concat()).await.unwrap();
        let applier = Applier::of(&service.app);
        let shutdown = service.app.shutdown.clone();
        tokio::spawn(async move { applier.run(shutdown).await });
        Self { service, client: database.client().await.unwrap() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.service.as_key(KEY, method, path).header("x-dispatcher-org", ORG)
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.request(Method::POST, path).json(body);
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.request(Method::GET, &format!("{BASE}/{path}")).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    }

    async fn ids(&self, query: &str) -> Vec<String> {
        let page = self.get(&format!("runs?fields[data]=id&sort_by=created_at:asc&{query}")).await;
        let id = |run: &Value| run["id"].as_str().unwrap().to_owned();
        page["data"].as_array().unwrap().iter().map(id).collect()
    }

    /// Rows that a condition chooses, as JSON.
    async fn rows(&self, table: &str, condition: &str) -> Vec<Value> {
        let sql = format!("SELECT to_jsonb(t) FROM {table} t WHERE {condition}");
        self.client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    async fn run(&self, id: &str) -> Value {
        self.rows("runs", &format!("id = '{id}'")).await.remove(0)
    }

    /// Sends runner events in the name of the organisation, and waits until they are applied.
    async fn upload(&self, events: &[Value]) {
        let identity = json!({ "identity": { "type": "System", "org_id": ORG } });
        let (content_type, body) = form("file", Some(JSONL), &lines(events));
        let request = Client::new()
            .post(format!("{}/api/ingress/v1/upload", self.service.url))
            .header("x-rh-identity", BASE64_STANDARD.encode(identity.to_string()))
            .header("content-type", content_type)
            .body(body);
        assert_eq!(request.send().await.unwrap().status(), 202);
        let applied = async {
            while !self.rows("uploads", "state = 'pending'").await.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, applied).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_leaves_exactly_these_rows() {
    let satellite = json!({ "sat_id": HOST, "sat_org_id": "5" });
    for (full, more) in [(true, None), (false, Some(("SATELLITE_RESPONSE_FULL", "false")))] {
        let database = Database::migrated().await.unwrap();
        let rows = Rows::of(&database, more.as_slice()).await;
        let (recipient, url) = (Uuid::new_v4(), "https://example.com/p?a=1&b=2");
        let items = json!([{
            "recipient": recipient, "org_id": ORG, "principal": "jane", "url": url, "name": "Fix",
            "web_console_url": "https://console.example/1", "labels": { "a": "1" }, "timeout": 60,
            "hosts": [{ "ansible_host": "web1", "inventory_id": HOST,
                        "subscription_manager_id": recipient },
                      { "inventory_id": HOST }],
        }, {
            "recipient": recipient, "org_id": ORG, "principal": "jane", "url": url, "name": "Fix",
            "recipient_config": satellite, "hosts": [{ "inventory_id": HOST }],
        }]);
        let made = rows.post("/internal/v2/dispatch", &items).await;
        let id = |n: usize| made[n]["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let mut run = rows.run(&id(0)).await;
        let (at, correlation_id) = (run["created_at"].clone(), run["correlation_id"].take());
        assert_ne!(correlation_id, json!(Uuid::nil()));
        let expected = json!({
            "id": id(0), "recipient": recipient, "correlation_id": null, "url": url,
            "labels": { "a": "1" }, "status": "running", "events": [], "created_at": at,
            "updated_at": at, "timeout": 60, "service": "test", "org_id": ORG,
            "response_full": true, "playbook_name": "Fix",
            "playbook_run_url": "https://console.example/1", "principal": "jane",
            "sat_org_id": null, "sat_id": null,
        });
        assert_eq!(run, expected);
        let mut hosts =
            rows.rows("run_hosts", &format!("run_id = '{}' ORDER BY host", id(0))).await;
        hosts.iter_mut().for_each(|host| drop(host["id"].take()));
        let host = |name: &str, subscription: Value| {
            json!({
                "id": null, "run_id": id(0), "inventory_id": HOST, "host": name,
                "status": "running", "log": "", "events": [], "created_at": at, "updated_at": at,
                "sat_sequence": null, "subscription_manager_id": subscription,
            })
        };
        let expected = [host(&HOST.to_string(), json!(null)), host("web1", json!(recipient))];
        assert_eq!(hosts, expected);

        let behind = rows.run(&id(1)).await;
        assert_eq!((&behind["sat_id"], &behind["sat_org_id"]), (&json!(HOST), &json!("5")));
        assert_eq!((&behind["labels"], &behind["timeout"]), (&json!({}), &json!(3600)));
        assert_eq!(behind["response_full"], json!(full));

        let by_account = json!([{ "recipient": recipient, "account": "53182", "url": url }]);
        let made = rows.post("/internal/dispatch", &by_account).await;
        let old = rows.run(made[0]["id"].as_str().unwrap()).await;
        assert_eq!((&old["playbook_name"], &old["principal"]), (&json!(null), &json!(null)));
        assert_eq!((&old["org_id"], &old["response_full"]), (&json!("53182-test"), &json!(true)));
        let no_hosts = format!("run_id = '{}'", old["id"].as_str().unwrap());
        assert!(rows.rows("run_hosts", &no_hosts).await.is_empty());
    }
}

/// The run of the original that was left in this state.
fn left(state: usize) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 + state as u128)
}

/// A run in every state with a host in every state; one without anything that may be NULL; one behind a
/// Satellite; the heartbeat; a host without a run.
async fn left_behind() -> Database {
    const RUN: &str = "
        INSERT INTO runs (id, recipient, correlation_id, url, status, created_at, updated_at, timeout,
                          service, org_id, playbook_name, playbook_run_url, principal)
        VALUES ($1, $1, $1, 'https://example.com/p', $2::text::runs_status,
                now() - interval '1 hour' + $3::int * interval '1 second', now(), 7200,
                'remediations', '5318290', 'Fix', 'https://console.example', 'jane')";
    const HOST: &str = "
        INSERT INTO run_hosts (id, run_id, inventory_id, host, status, log, created_at, updated_at)
        VALUES (gen_random_uuid(), $1, gen_random_uuid(), $2::text, $2::text::runs_status,
                'theirs', now(), now())";
    const ODD: &str = "
        INSERT INTO runs (id, recipient, correlation_id, url, labels, created_at, updated_at, timeout,
                          org_id)
        VALUES ('00000000-0000-4000-8000-0000000000aa', '00000000-0000-4000-8000-0000000000aa',
                '00000000-0000-0000-0000-000000000000', 'https://example.com/p', 'null',
                '2022-04-22 13:15:45.5+02', '2022-04-22 11:15:45.429294+00', 0, '5318290');
        INSERT INTO runs (id, recipient, correlation_id, url, created_at, updated_at, timeout, org_id,
                          sat_id, sat_org_id)
        VALUES ('00000000-0000-4000-8000-0000000000bb', '00000000-0000-4000-8000-0000000000bb',
                '00000000-0000-4000-8000-0000000000bb', 'https://example.com/p', now(), now(), 3600,
                '5318290', '00000000-0000-4000-8000-0000000000bb', '5');
        INSERT INTO runs (id, recipient, correlation_id, url, created_at, updated_at, timeout, service,
                          org_id)
        VALUES ('98875b33-b37e-4c35-be8b-d74f321bac28', '00000000-0000-0000-0000-000000000000',
                '00000000-0000-0000-0000-000000000000', 'https://redhat.com', now(), now(), 3600,
                'heartbeat', '5318290');
        INSERT INTO run_hosts (id, host, created_at, updated_at)
        VALUES (gen_random_uuid(), 'of nobody', now(), now())";
    let database = Database::empty().await.unwrap();
    let client = database.client().await.unwrap();
    client.batch_execute(SCHEMA).await.unwrap();
    for (n, state) in STATES.into_iter().enumerate() {
        client.execute(RUN, &[&left(n), &state, &i32::try_from(n).unwrap()]).await.unwrap();
        for host in STATES {
            client.execute(HOST, &[&left(n), &host]).await.unwrap();
        }
    }
    client.batch_execute(ODD).await.unwrap();
    dispatcher_api::store::postgres::PostgresStore::migrate(&database.config).await.unwrap();
    database
}

const BARE: &str = "00000000-0000-4000-8000-0000000000aa";
const BEHIND: &str = "00000000-0000-4000-8000-0000000000bb";
const HEARTBEAT: &str = "98875b33-b37e-4c35-be8b-d74f321bac28";

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_rows_of_every_kind() {
    let database = left_behind().await;
    let rows = Rows::of(&database, &[]).await;
    let all = "fields[data]=correlation_id,created_at,id,labels,name,org_id,recipient,service,status,\
               timeout,updated_at,url,web_console_url";
    let page = rows.get(&format!("runs?{all}&filter[recipient]={BARE}")).await;
    let expected = json!([{
        "correlation_id": Uuid::nil(), "created_at": "2022-04-22T11:15:45.5Z", "id": BARE,
        "labels": null, "org_id": ORG, "recipient": BARE, "service": "unknown",
        "status": "timeout", "timeout": 0, "updated_at": "2022-04-22T11:15:45.429294Z",
        "url": "https://example.com/p", "web_console_url": "",
    }]);
    assert_eq!(page["data"].to_string(), expected.to_string());
    for (n, state) in STATES.into_iter().enumerate() {
        let found = rows.ids(&format!("filter[status]={state}")).await;
        let own = left(n).to_string();
        let expected = match state {
            "running" => vec![own, BEHIND.to_owned(), HEARTBEAT.to_owned()],
            "timeout" => vec![BARE.to_owned(), own],
            _ => vec![own],
        };
        assert_eq!(found, expected, "{state}");
        let hosts = rows.get(&format!("run_hosts?filter[status]={state}&limit=200")).await;
        // Of a timeout it is the run that counts, whatever the host says.
        assert_eq!(hosts["meta"]["total"], 5, "{state}");
    }
    let hosts = rows.get("run_hosts?fields[data]=host,status,stdout&limit=200").await;
    let hosts = hosts["data"].as_array().unwrap();
    assert_eq!(hosts.len(), 25, "one that is nobody's is shown to nobody");
    assert!(hosts.iter().all(|host| host["stdout"] == "theirs" && host["host"] == host["status"]));
    assert_eq!(rows.ids("filter[service]=heartbeat").await, [HEARTBEAT]);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_cancellations_and_the_cleaner_take_rows_of_every_kind() {
    let database = left_behind().await;
    let rows = Rows::of(&database, &[]).await;
    let cancel = |run: String| {
        let item = json!([{ "run_id": run, "org_id": ORG, "principal": "jane" }]);
        let rows = &rows;
        async move { rows.post("/internal/v2/cancel", &item).await[0].clone() }
    };
    let accepted = json!({ "code": 202, "run_id": BEHIND });
    assert_eq!(cancel(BEHIND.to_owned()).await, accepted);
    let refused = json!({ "code": 400, "run_id": Uuid::nil() });
    assert_eq!(cancel(left(0).to_string()).await, refused);

    let end = ["success", "success", "failure", "success", "success"];
    for (n, end) in end.into_iter().enumerate() {
        rows.upload(&transcript(left(n), &STATES)).await;
        let run = rows.run(&left(n).to_string()).await;
        assert_eq!(run["status"], end, "{}", STATES[n]);
        let of_run = format!("run_id = '{}' ORDER BY host", left(n));
        let hosts = rows.rows("run_hosts", &of_run).await;
        assert_eq!(hosts.len(), 5, "{hosts:?}");
        for host in hosts {
            let name = host["host"].as_str().unwrap();
            // What succeeded or failed stays with its output; the rest takes the late result.
            let kept = ["success", "failure"].contains(&name);
            let status = if kept { name } else { "success" };
            assert_eq!((host["status"].as_str(), name), (Some(status), name), "{host}");
            assert_eq!(host["log"] == "theirs", kept, "{host}");
            assert_eq!(host["updated_at"] == host["created_at"], kept, "{host}");
            assert!(host["inventory_id"].is_string(), "{host}");
        }
    }
    let changed = rows.run(&left(0).to_string()).await["events"].clone();
    let names = changed.as_array().unwrap().iter().map(|event| event["event"].clone());
    let mut expected = vec![json!("executor_on_start")];
    expected.extend(vec![json!("runner_on_ok"); 5]);
    expected.push(json!("playbook_on_stats"));
    assert_eq!(names.collect::<Vec<_>>(), expected);
    assert_eq!(rows.run(&left(1).to_string()).await["events"], json!([]), "it was over");

    let app = &rows.service.app;
    let later = time::OffsetDateTime::now_utc() + time::Duration::hours(2);
    let expired = app.stores.upkeep.expire(later, 100).await.unwrap();
    assert_eq!(expired.runs, 3, "the bare one, the one behind a Satellite, the heartbeat");
    for run in [BARE, BEHIND, HEARTBEAT] {
        assert_eq!(rows.run(run).await["status"], "timeout");
    }
    let told = rows.rows("outbox", &format!("run_id = '{HEARTBEAT}'")).await;
    assert!(told.is_empty(), "{told:?}");
}
