//! What dispatches, cancellations and calls of services outside are counted as, on the metrics port
//! of the real process: the names, labels and buckets that existing dashboards look for.

use dispatcher_api::config::execution::DEFAULT_LOCAL_ORG;
use dispatcher_tests::{
    ports,
    process::Service,
    stub::{Reply, Seen, Stub},
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::runs_dispatch::FOREIGN;

fn reply(seen: &Seen) -> Reply {
    match seen.path.rsplit('/').next() {
        Some("orgIds") => Reply::json(200, &json!({ "0000001": DEFAULT_LOCAL_ORG })),
        Some("status") => Reply::json(200, &json!({ "status": "connected" })),
        _ if seen.path.contains(FOREIGN) => Reply::json(201, &json!({ "id": Uuid::new_v4() })),
        _ => Reply::text(404, ""),
    }
}

async fn metrics(port: &str) -> String {
    let url = format!("http://127.0.0.1:{port}/metrics");
    reqwest::get(url).await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

/// The value of the one line that begins so and has these labels, in any order.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<String> {
    let line = text.lines().find(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
    });
    Some(line?.rsplit(' ').next()?.to_owned())
}

const CONNECTOR: &str = "component=\"cloud-connector\"";
const MESSAGE: &str = "operation=\"postMessage\"";

/// What is 0 before anything has happened.
const AT_FIRST: [(&str, &[&str]); 8] = [
    ("api_cloud_connector_sent_total", &[]),
    ("api_run_canceled_total", &[]),
    ("app_run_canceled_error_total", &[]),
    ("api_validation_failure_total", &["type=\"satellite\""]),
    ("api_cloud_connector_error_total", &["type=\"error\"", "request=\"satellite\""]),
    ("api_cloud_connector_error_total", &["type=\"no_connection\"", "request=\"ansible\""]),
    ("api_error_total", &["type=\"db\"", "subtype=\"playbook_run_read\"", "api_version=\"v1\""]),
    (
        "api_error_total",
        &["subtype=\"playbook_run_create\"", "request=\"satellite\"", "api_version=\"v2\""],
    ),
];

/// What it is afterwards.
const COUNTED: [(&str, &[&str], &str); 11] = [
    ("api_cloud_connector_sent_total", &[], "3"),
    ("api_run_canceled_total", &[], "1"),
    ("app_run_canceled_error_total", &[], "1"),
    ("api_validation_failure_total", &["type=\"satellite\""], "1"),
    ("api_cloud_connector_error_total", &["type=\"no_connection\"", "request=\"ansible\""], "1"),
    ("api_run_created_total", &["request=\"ansible\"", "api_version=\"v1\""], "1"),
    ("api_run_created_total", &["request=\"satellite\"", "api_version=\"v2\""], "1"),
    ("client_request_duration_seconds_count", &[CONNECTOR, MESSAGE, "result=\"201\""], "3"),
    (
        "client_request_duration_seconds_bucket",
        &[CONNECTOR, MESSAGE, "result=\"404\"", "le=\"10\""],
        "1",
    ),
    (
        "client_request_duration_seconds_count",
        &[CONNECTOR, "operation=\"getStatus\"", "result=\"200\""],
        "1",
    ),
    (
        "tenant_translator_request_duration_seconds_count",
        &["operation=\"eans_to_org_ids\"", "result=\"200\""],
        "1",
    ),
];

#[tokio::test]
async fn everything_is_counted_under_the_names_that_are_known() {
    let stub = Stub::start(reply).await.unwrap();
    let (port, own_port) = (stub.port().to_string(), ports::free().unwrap().to_string());
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("METRICS_PORT", own_port.as_str()),
        ("CLOUD_CONNECTOR_IMPL", "impl"),
        ("CLOUD_CONNECTOR_HOST", "127.0.0.1"),
        ("CLOUD_CONNECTOR_PORT", &port),
        ("TENANT_TRANSLATOR_IMPL", "impl"),
        ("TENANT_TRANSLATOR_HOST", "127.0.0.1"),
        ("TENANT_TRANSLATOR_PORT", &port),
    ];
    let service = Service::start_with(directory.path(), &variables).await.unwrap();
    let before = metrics(&own_port).await;
    for (name, labels) in AT_FIRST {
        assert_eq!(value(&before, name, labels).as_deref(), Some("0"), "{name} {labels:?}");
    }

    let post = async |path: &str, body: Value| -> Value {
        let answer = service.request(Method::POST, path).json(&body).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let url = "https://example.com/site.yml";
    let by_account = json!([{ "recipient": FOREIGN, "account": "0000001", "url": url }]);
    assert_eq!(post("/internal/dispatch", by_account).await[0]["code"], 201);
    let satellite = json!({
        "recipient": FOREIGN,
        "recipient_config": { "sat_id": FOREIGN, "sat_org_id": "5" },
        "hosts": [{ "inventory_id": FOREIGN }],
    });
    let gone = json!({ "recipient": Uuid::new_v4() });
    let items = json!([service.item(url, &satellite), service.item(url, &gone)]);
    let made = post("/internal/v2/dispatch", items).await;
    assert_eq!((&made[0]["code"], &made[1]["code"]), (&json!(201), &json!(404)));
    let half = json!({ "recipient_config": { "sat_id": FOREIGN } });
    post("/internal/v2/dispatch", json!([service.item(url, &half)])).await;
    let run: Uuid = made[0]["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(service.cancel(run).await.unwrap(), 202);
    assert_eq!(service.cancel(Uuid::new_v4()).await.unwrap(), 404);
    let asked = json!([{ "recipient": FOREIGN, "org_id": service.org_id }]);
    assert_eq!(post("/internal/v2/recipients/status", asked).await[0]["connected"], true);

    let after = metrics(&own_port).await;
    for (name, labels, expected) in COUNTED {
        assert_eq!(value(&after, name, labels).as_deref(), Some(expected), "{name} {labels:?}");
    }

    stub.leave().await;
    post("/internal/v2/dispatch", json!([service.item(url, &gone)])).await;
    let after = metrics(&own_port).await;
    let labels = [CONNECTOR, MESSAGE, "result=\"error\""];
    let failed = value(&after, "client_request_duration_seconds_count", &labels);
    assert_eq!(failed.as_deref(), Some("1"));
    let labels = ["type=\"error\"", "request=\"ansible\""];
    assert_eq!(value(&after, "api_cloud_connector_error_total", &labels).as_deref(), Some("1"));
}
