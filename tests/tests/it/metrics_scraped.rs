//! The metrics port of the real process, as dashboards of the original read it: what is there at 0
//! before anything has happened, with which labels and buckets; what the database's failures, uploads
//! and services outside are counted as.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::{config::execution::DEFAULT_LOCAL_ORG, store::sqlite};
use dispatcher_tests::{
    foreign::{JSONL, form, lines, transcript},
    ports,
    process::{BASE, PATIENCE, Service},
    rows,
    satellite::{SATELLITE_JSONL, printed},
    scrape::{Labels, Scrape, labels},
    stub::{Reply, Seen, Stub},
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::runs_dispatch::FOREIGN;

const DISPATCH: &str = "/internal/v2/dispatch";

/// A process with a metrics port.
struct Measured {
    service: Service,
    port: u16,
    directory: TempDir,
}

impl Measured {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = ports::free().unwrap();
        let own = port.to_string();
        let first = [("METRICS_PORT", own.as_str()), ("IDENTITY_HEADER_FROM", "loopback")];
        let variables = [&first, variables].concat();
        let service = Service::start_with(directory.path(), &variables).await.unwrap();
        Self { service, port, directory }
    }

    async fn scrape(&self) -> Scrape {
        Scrape::of(self.port).await.unwrap()
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join(sqlite::FILE_NAME)
    }

    fn rename(&self, table: &str, name: &str) {
        let sql = format!("ALTER TABLE {table} RENAME TO {name}");
        rows::change(&self.database(), &sql).unwrap();
    }

    /// A request in the name of the usual organisation, without a key.
    fn identified(&self, method: Method, path: &str) -> RequestBuilder {
        let identity = json!({ "identity": { "type": "User", "org_id": DEFAULT_LOCAL_ORG } });
        let request = Client::new().request(method, format!("{}{path}", self.service.url));
        request.header("x-rh-identity", BASE64_STANDARD.encode(identity.to_string()))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        answer(self.service.request(Method::POST, path).json(body)).await
    }

    /// Sends an archive in the name of the organisation; the status.
    async fn upload(&self, kind: &str, archive: &[u8]) -> u16 {
        let (content_type, body) = form("file", Some(kind), archive);
        let request = self.identified(Method::POST, "/api/ingress/v1/upload");
        answer(request.header("content-type", content_type).body(body)).await.0
    }

    /// Sends one that is taken, and waits until it is settled.
    async fn settled(&self, kind: &str, archive: &[u8]) {
        assert_eq!(self.upload(kind, archive).await, 202);
        let settled = async {
            loop {
                let page: Value =
                    self.service.get(&format!("{BASE}/uploads?limit=200")).await.unwrap();
                let rows = page["data"].as_array().unwrap();
                if rows.iter().all(|row| row["state"] != "pending") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.unwrap();
    }

    async fn until(&self, name: &str, pairs: &[(&str, &str)], least: f64) {
        let reached = async {
            while self.scrape().await.value(name, pairs).unwrap_or_default() < least {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await;
        in_time.unwrap_or_else(|_| panic!("{name} {pairs:?} never is {least}"));
    }
}

async fn answer(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Every combination of values of these labels.
fn all(of: &[(&str, &[&str])]) -> BTreeSet<Labels> {
    let mut all = vec![Labels::new()];
    for (name, values) in of {
        let with = |labels: &Labels| {
            let labels = labels.clone();
            values.iter().map(move |value| {
                let mut labels = labels.clone();
                labels.insert((*name).to_owned(), (*value).to_owned());
                labels
            })
        };
        all = all.iter().flat_map(with).collect();
    }
    all.into_iter().collect()
}

const KINDS: (&str, &[&str]) = ("request", &["ansible", "satellite"]);
const TYPES: (&str, &[&str]) = ("request_type", &["playbook", "playbook-sat"]);
const RUN_CREATE: &str = "playbook_run_create";
const RUN_READ: &str = "playbook_run_read";

#[tokio::test]
async fn what_can_be_counted_is_there_at_0_with_the_originals_labels() {
    let measured = Measured::start(&[]).await;
    let scrape = measured.scrape().await;
    let failures = ("subtype", &[RUN_CREATE, "playbook_run_host_create", RUN_READ][..]);
    let expected = [
        ("api_validation_failure_total", all(&[("type", &["anemic-tenant", "satellite"])])),
        (
            "api_error_total",
            all(&[("type", &["db"]), failures, KINDS, ("api_version", &["v1", "v2"])]),
        ),
        ("api_cloud_connector_error_total", all(&[("type", &["error", "no_connection"]), KINDS])),
        ("api_cloud_connector_sent_total", all(&[])),
        ("api_rbac_error_total", all(&[])),
        ("api_rbac_rejected_total", all(&[])),
        ("api_run_canceled_total", all(&[])),
        ("app_run_canceled_error_total", all(&[])),
        ("validator_success_total", all(&[TYPES])),
        ("validator_failure_total", all(&[TYPES])),
        ("validator_error_total", all(&[("phase", &["unmarshall", "s3fetch"]), TYPES])),
        ("response_consumer_playbook_run_updated_total", all(&[])),
        ("response_consumer_playbook_run_update_miss_total", all(&[])),
        ("response_consumer_playbook_run_sequence_out_of_order_total", all(&[])),
        ("response_consumer_error_total", all(&[("type", &["db_update", "header_missing"])])),
    ];
    for (name, labels) in expected {
        assert_eq!(scrape.labels_of(name), labels, "{name}");
        for labels in labels {
            let pairs: Vec<_> = labels.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(scrape.value(name, &pairs), Some(0.0), "{name} {pairs:?}");
        }
    }
    assert!(scrape.labels_of("api_run_created_total").is_empty(), "nobody has dispatched");
}

#[tokio::test]
async fn requests_are_counted_and_timed_by_route_in_seventeen_buckets() {
    let measured = Measured::start(&[]).await;
    let runs = format!("{BASE}/runs");
    measured.service.get::<Value>(&runs).await.unwrap();
    for path in ["/nowhere", "/no-where-else"] {
        assert_eq!(answer(measured.service.request(Method::GET, path)).await.0, 404);
    }
    assert_eq!(measured.post(DISPATCH, &json!([])).await.0, 400);
    let scrape = measured.scrape().await;
    let requests = |status, method, handler| {
        let pairs = [("status", status), ("method", method), ("handler", handler)];
        scrape.value("echo_http_requests_total", &pairs)
    };
    assert_eq!(requests("2xx", "GET", &runs), Some(1.0));
    assert_eq!(requests("4xx", "GET", "/not-found"), Some(2.0));
    assert_eq!(requests("4xx", "POST", DISPATCH), Some(1.0));
    let duration = "echo_http_request_duration_seconds";
    let of_runs = [("method", "GET"), ("handler", runs.as_str())];
    let buckets = [
        "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1",
        "2.5", "5", "10", "15", "20", "30", "+Inf",
    ];
    assert_eq!(scrape.buckets(duration, &of_runs), buckets);
    assert_eq!(scrape.value(&format!("{duration}_count"), &of_runs), Some(1.0));
}

#[tokio::test]
async fn every_failure_of_the_database_is_counted() {
    let translator = Stub::start(|_| Reply::json(200, &json!({ "0000001": DEFAULT_LOCAL_ORG })));
    let translator = translator.await.unwrap();
    let port = translator.port().to_string();
    let measured = Measured::start(&[
        ("CLOUD_CONNECTOR_IMPL", "mock"),
        ("TENANT_TRANSLATOR_IMPL", "impl"),
        ("TENANT_TRANSLATOR_HOST", "127.0.0.1"),
        ("TENANT_TRANSLATOR_PORT", &port),
    ])
    .await;
    let url = "https://example.com/site.yml";
    let satellite = json!({
        "recipient": FOREIGN, "recipient_config": { "sat_id": FOREIGN, "sat_org_id": "5" },
        "hosts": [{ "inventory_id": FOREIGN }],
    });
    let foreign = json!({ "recipient": FOREIGN });
    let items =
        json!([measured.service.item(url, &foreign), measured.service.item(url, &satellite)]);
    let by_account = json!([{ "recipient": FOREIGN, "account": "0000001", "url": url }]);
    let failed = json!({ "code": 500, "message": "Unexpected error during processing" });
    // The look at recipients fails, then the commit.
    for table in ["recipients", "runs"] {
        measured.rename(table, "away");
        for (path, body) in [(DISPATCH, &items), ("/internal/dispatch", &by_account)] {
            let (status, text) = measured.post(path, body).await;
            assert_eq!(status, 207, "{text}");
            let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
            assert!(answers.iter().all(|answer| *answer == failed), "{text}");
        }
        if table == "recipients" {
            measured.rename("away", table);
        }
    }
    let broken = (500, "{\"message\":\"Internal Server Error\"}\n".to_owned());
    for list in ["runs", "run_hosts"] {
        let request = measured.identified(Method::GET, &format!("{BASE}/{list}"));
        assert_eq!(answer(request).await, broken, "{list}");
    }
    let identity = measured.identified(Method::GET, "").build().unwrap();
    let identity = identity.headers()["x-rh-identity"].clone();
    let hosts = measured.service.request(Method::GET, "/internal/v2/run_hosts");
    assert_eq!(answer(hosts.header("x-rh-identity", identity)).await, broken);
    let cancel =
        json!([{ "run_id": Uuid::new_v4(), "org_id": DEFAULT_LOCAL_ORG, "principal": "p" }]);
    assert_eq!(measured.post("/internal/v2/cancel", &cancel).await, broken);

    let scrape = measured.scrape().await;
    for (subtype, request, version, count) in [
        (RUN_CREATE, "ansible", "v1", 2.0),
        (RUN_CREATE, "ansible", "v2", 2.0),
        (RUN_CREATE, "satellite", "v2", 2.0),
        (RUN_READ, "ansible", "v1", 2.0),
        (RUN_READ, "ansible", "v2", 2.0),
    ] {
        let pairs =
            [("type", "db"), ("subtype", subtype), ("request", request), ("api_version", version)];
        assert_eq!(scrape.value("api_error_total", &pairs), Some(count), "{pairs:?}");
    }
    assert_eq!(scrape.value("app_run_canceled_error_total", &[]), Some(0.0));
}

#[tokio::test]
async fn uploads_are_counted_as_validator_and_consumer_counted_them() {
    let measured =
        Measured::start(&[("CLOUD_CONNECTOR_IMPL", "mock"), ("UPLOAD_LEASE", "10")]).await;
    let item = measured.service.item("https://example.com/p", &json!({ "recipient": FOREIGN }));
    let run = measured.service.dispatch(&item, None).await.unwrap();
    let id = measured.service.run(run).await.unwrap().correlation_id;
    let events = transcript(id, &["a", "b"]);
    measured.settled(JSONL, &lines(&events[..3])).await;
    measured.settled(JSONL, &lines(&events[..2])).await;
    measured.settled(JSONL, &lines(&transcript(Uuid::new_v4(), &["a"]))).await;
    measured.settled(JSONL, b"garbage").await;
    let of_satellite = lines(&[printed(Uuid::new_v4(), Uuid::new_v4(), 0, "x")]);
    measured.settled(SATELLITE_JSONL, &of_satellite).await;
    let bad = [of_satellite, b"garbage\n".to_vec()].concat();
    measured.settled(SATELLITE_JSONL, &bad).await;
    assert_eq!(measured.upload(SATELLITE_JSONL, b"").await, 400);
    assert_eq!(measured.upload(JSONL, &vec![b' '; (1 << 20) + 1]).await, 413);

    let scrape = measured.scrape().await;
    let created = scrape.labels_of("api_run_created_total");
    let names: Vec<Vec<_>> = created.iter().map(|of| of.keys().collect()).collect();
    assert_eq!(names, [["api_version", "dispatching_service", "request"]], "{created:?}");
    let of = |name: &str, kind| scrape.value(name, &[("request_type", kind)]);
    assert_eq!(of("validator_success_total", "playbook"), Some(3.0));
    assert_eq!(of("validator_success_total", "playbook-sat"), Some(1.0));
    assert_eq!(of("validator_failure_total", "playbook"), Some(2.0));
    assert_eq!(of("validator_failure_total", "playbook-sat"), Some(2.0));
    let consumed =
        |name: &str| scrape.value(&format!("response_consumer_playbook_run_{name}_total"), &[]);
    assert_eq!(consumed("updated"), Some(1.0));
    assert_eq!(consumed("update_miss"), Some(2.0));
    assert_eq!(consumed("sequence_out_of_order"), Some(1.0));

    // A database that fails costs nothing: the upload is applied when it is back.
    let failures = ("response_consumer_error_total", &[("type", "db_update")][..]);
    assert_eq!(scrape.value(failures.0, failures.1), Some(0.0));
    measured.rename("run_hosts", "away");
    assert_eq!(measured.upload(JSONL, &lines(&events)).await, 202);
    measured.until(failures.0, failures.1, 1.0).await;
    measured.rename("away", "run_hosts");
    measured.until("response_consumer_playbook_run_updated_total", &[], 2.0).await;
    assert_eq!(measured.service.run(run).await.unwrap().status.as_str(), "success");
}

/// All services outside at once.
fn outside(seen: &Seen) -> Reply {
    let id = "0e97ad0d-8649-4ef1-a3aa-492024cc84bf";
    let path = seen.path.as_str();
    if path.starts_with("/api/rbac/") {
        let read =
            json!({ "permission": "playbook-dispatcher:run:read", "resourceDefinitions": [] });
        Reply::json(200, &json!({ "data": [read] }))
    } else if path.contains("/system_profile?") {
        Reply::json(200, &json!({ "results": [] }))
    } else if path.starts_with("/api/inventory/") {
        let facts = json!({ "satellite_instance_id": "s", "organization_id": "5" });
        let set = json!([{ "namespace": "satellite", "facts": facts }]);
        Reply::json(200, &json!({ "results": [{ "id": id, "facts": set }] }))
    } else if path.starts_with("/api/sources/") {
        Reply::json(200, &json!({ "data": [{ "id": "7", "rhc_id": FOREIGN }] }))
    } else {
        Reply::json(200, &json!({ "status": "connected" }))
    }
}

#[tokio::test]
async fn calls_of_services_outside_are_timed_by_their_result() {
    let stub = Stub::start(outside).await.unwrap();
    let port = stub.port().to_string();
    let names = ["RBAC", "INVENTORY_CONNECTOR", "SOURCES", "CLOUD_CONNECTOR"];
    let variables: Vec<(String, &str)> = names
        .iter()
        .flat_map(|name| {
            let own = [("IMPL", "impl"), ("HOST", "127.0.0.1"), ("PORT", port.as_str())];
            own.map(|(what, value)| (format!("{name}_{what}"), value))
        })
        .collect();
    let mut variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    variables.push(("RBAC_CACHE_TTL", "0"));
    let measured = Measured::start(&variables).await;
    let runs = || answer(measured.identified(Method::GET, &format!("{BASE}/runs")));
    assert_eq!(runs().await.0, 200);
    let body = json!({ "org_id": "1", "hosts": ["0e97ad0d-8649-4ef1-a3aa-492024cc84bf"] });
    let request = measured.identified(Method::POST, "/internal/v2/connection_status").json(&body);
    let (status, text) = answer(request).await;
    assert_eq!(status, 200, "{text}");
    stub.replies(|_| Reply::text(502, ""));
    assert_eq!(runs().await.0, 503);
    stub.leave().await;
    assert_eq!(runs().await.0, 503);

    let scrape = measured.scrape().await;
    let name = "client_request_duration_seconds";
    let buckets =
        ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
    for (component, operation, result, count) in [
        ("rbac", "getPermissions", "200", 1.0),
        ("rbac", "getPermissions", "502", 1.0),
        ("rbac", "getPermissions", "error", 1.0),
        ("inventory", "GetHostConnectionDetails", "200", 2.0),
        ("sources", "postMessage", "200", 2.0),
        ("cloud-connector", "getStatus", "200", 1.0),
    ] {
        let pairs = [("component", component), ("operation", operation), ("result", result)];
        assert_eq!(scrape.value(&format!("{name}_count"), &pairs), Some(count), "{pairs:?}");
        assert_eq!(scrape.buckets(name, &pairs), buckets, "{pairs:?}");
    }
    let found = scrape.labels_of(&format!("{name}_count"));
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found.contains(&labels(&[
        ("component", "rbac"),
        ("operation", "getPermissions"),
        ("result", "error")
    ])));
    assert_eq!(scrape.value("api_rbac_error_total", &[]), Some(2.0));
}
