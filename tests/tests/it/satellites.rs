//! Runs behind a Satellite through HTTP: dispatched over the mock of Cloud Connector, reported by
//! uploads in three encodings, canceled by event, shown by the lists.

use std::time::Duration;

use dispatcher_api::uploads::applier::Applier;
use dispatcher_tests::{
    foreign::{form, gzip, lines, xz},
    process::{BASE, PATIENCE},
    satellite::{SATELLITE_JSONL, broken, completed, finished, printed},
    service::{InProcess, ORG},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

const EXAMPLE: &str = include_str!("../../../examples/events/satellite-success.jsonl");
const SATELLITE: Uuid = uuid::uuid!("9274c274-a258-5d00-91fe-dbe0f7849cef");
/// A recipient that takes runs of that Satellite only, by the mock.
const RECIPIENT: Uuid = uuid::uuid!("9200e4a3-c97c-4021-9856-82fa4673e8d2");
const TYPES: [&str; 3] = [
    SATELLITE_JSONL,
    "application/vnd.redhat.playbook-sat.v3+gzip",
    "application/vnd.redhat.playbook-sat.v3+xz",
];

/// A service with a run of two hosts behind a Satellite.
struct Behind {
    service: InProcess,
    run: Uuid,
    correlation_id: Uuid,
    a: Uuid,
    b: Uuid,
}

impl Behind {
    async fn new(variables: &[(&str, &str)]) -> Self {
        Self::at(RECIPIENT, variables).await
    }

    async fn at(recipient: Uuid, variables: &[(&str, &str)]) -> Self {
        let trusted = [("CLOUD_CONNECTOR_IMPL", "mock"), ("IDENTITY_HEADER_FROM", "loopback")];
        let variables = [&trusted, variables].concat();
        let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
        let applier = Applier::of(&service.app);
        let shutdown = service.app.shutdown.clone();
        tokio::spawn(async move { applier.run(shutdown).await });
        let mut hosts = [Uuid::new_v4(), Uuid::new_v4()];
        hosts.sort();
        let [a, b] = hosts;
        let item = json!([{
            "recipient": recipient, "org_id": ORG, "principal": "somebody", "name": "update",
            "url": "https://example.com/site.yml",
            "recipient_config": { "sat_id": SATELLITE, "sat_org_id": "5" },
            "hosts": [{ "ansible_host": "web1", "inventory_id": a }, { "inventory_id": b }],
        }]);
        let request = service.request(Method::POST, "/internal/v2/dispatch").json(&item);
        let created: Value = request.send().await.unwrap().json().await.unwrap();
        let run: Uuid =
            created[0]["id"].as_str().unwrap_or_else(|| panic!("{created}")).parse().unwrap();
        let row = service.app.stores.runs.get(ORG, run).await.unwrap().unwrap().run;
        Self { service, run, correlation_id: row.correlation_id, a, b }
    }

    /// Sends an archive as a Satellite does, by its identity; waits until it is settled. Its state
    /// and the reason.
    async fn fate(&self, kind: &str, archive: &[u8]) -> (String, String) {
        let identity = json!({ "identity": { "type": "System", "org_id": ORG } }).to_string();
        let (content_type, body) = form("file", Some(kind), archive);
        let request = reqwest::Client::new()
            .post(format!("{}/api/ingress/v1/upload", self.service.url))
            .header("x-rh-identity", base64(identity.as_bytes()))
            .header("content-type", content_type)
            .body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let id = answer.json::<Value>().await.unwrap()["request_id"].clone();
        let settled = async {
            loop {
                let page = self.get(&format!("{BASE}/uploads?limit=200")).await;
                let rows = page["data"].as_array().unwrap();
                let own = rows.iter().find(|row| row["id"] == id).unwrap();
                if own["state"] != "pending" {
                    let text = |name: &str| own[name].as_str().unwrap_or_default().to_owned();
                    return (text("state"), text("reason"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, settled).await.unwrap()
    }

    async fn report(&self, events: &[Value]) {
        let fate = self.fate(SATELLITE_JSONL, &lines(events)).await;
        assert_eq!(fate, ("applied".to_owned(), String::new()));
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.service.request(Method::GET, path).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    }

    async fn status(&self) -> String {
        let page = self.get(&format!("{BASE}/runs?fields%5Bdata%5D=id,status")).await;
        let rows = page["data"].as_array().unwrap();
        let own = rows.iter().find(|row| row["id"] == json!(self.run)).unwrap();
        own["status"].as_str().unwrap().to_owned()
    }

    /// Inventory id, state and output of every host, by inventory id.
    async fn hosts(&self) -> Vec<(String, String, String)> {
        let query = "fields%5Bdata%5D=host,status,stdout,inventory_id&filter%5Brun%5D%5Bid%5D=";
        let page = self.get(&format!("{BASE}/run_hosts?{query}{}", self.run)).await;
        let text = |host: &Value, name: &str| host[name].as_str().unwrap().to_owned();
        let host =
            |host: &Value| (text(host, "inventory_id"), text(host, "status"), text(host, "stdout"));
        let mut hosts: Vec<_> = page["data"].as_array().unwrap().iter().map(host).collect();
        hosts.sort();
        hosts
    }

    fn host(&self, id: Uuid, status: &str, log: &str) -> (String, String, String) {
        (id.to_string(), status.to_owned(), log.to_owned())
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn three_encodings_bring_a_run_to_its_end() {
    let packs = [|content: &[u8]| Ok(content.to_vec()), gzip, xz];
    for (pack, kind) in packs.into_iter().zip(TYPES) {
        let behind = Behind::new(&[]).await;
        let events = EXAMPLE
            .replace("00000000-0000-0000-0000-000000000000", &behind.correlation_id.to_string())
            .replace("5d6c7c0e-3f2b-4b1f-9a54-0b8f6b1d0c01", &behind.a.to_string())
            .replace("8a1e2f90-6c7d-4e3a-8b21-7d9e5f3a2b02", &behind.b.to_string());
        let archive = pack(events.as_bytes()).unwrap();
        assert_eq!(behind.status().await, "running");
        assert_eq!(behind.fate(kind, &archive).await, ("applied".to_owned(), String::new()));
        assert_eq!(behind.status().await, "success");
        let first = "PLAY [all]\n\nok: [web1] => {\"changed\": false}\n";
        let second = "PLAY [all]\n\nchanged: [web2]\n";
        let expected =
            [behind.host(behind.a, "success", first), behind.host(behind.b, "success", second)];
        assert_eq!(behind.hosts().await, expected);
        assert_eq!(behind.fate(kind, &archive).await.0, "applied", "and once more");
        assert_eq!(behind.hosts().await, expected);
    }
}

#[tokio::test]
async fn a_cancellation_is_asked_for_and_comes_true_by_an_event() {
    // The metadata of a cancellation carries no `sat_id`, for which the mock refuses it elsewhere.
    let behind = Behind::at(Uuid::new_v4(), &[]).await;
    let id = behind.correlation_id;
    behind.report(&[printed(id, behind.a, 0, "a"), finished(id, behind.a, "success")]).await;
    let item = json!([{ "run_id": behind.run, "org_id": ORG, "principal": "somebody" }]);
    let request = behind.service.request(Method::POST, "/internal/v2/cancel").json(&item);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!([{ "run_id": behind.run, "code": 202 }]));
    assert_eq!(behind.status().await, "running", "nothing is written by asking");
    behind.report(&[finished(id, behind.b, "canceled"), completed(id, "canceled")]).await;
    assert_eq!(behind.status().await, "canceled");
    behind.report(&[completed(id, "success")]).await;
    assert_eq!(behind.status().await, "canceled", "it stays");
    let expected = [behind.host(behind.a, "success", "a"), behind.host(behind.b, "canceled", "")];
    assert_eq!(behind.hosts().await, expected);
    let again = behind.service.request(Method::POST, "/internal/v2/cancel").json(&item);
    let answer: Value = again.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer[0]["code"], 409, "{answer}");
}

#[tokio::test]
async fn in_partial_mode_output_is_added_and_what_is_missing_is_marked() {
    let behind = Behind::new(&[("SATELLITE_RESPONSE_FULL", "false")]).await;
    let (id, a) = (behind.correlation_id, behind.a);
    behind.report(&[printed(id, a, 0, "zero "), printed(id, a, 3, "three")]).await;
    let log = async || behind.hosts().await[0].2.clone();
    assert_eq!(log().await, "zero \\n\\u2026\\nthree");
    behind.report(&[printed(id, a, 2, "two "), printed(id, a, 1, "one ")]).await;
    assert_eq!(log().await, "zero one two three");
    behind.report(&[broken(id, "\nthe Satellite is away")]).await;
    assert_eq!(log().await, "zero one two three\nthe Satellite is away");
    assert_eq!(behind.status().await, "failure");
    let run = behind.get(&format!("{BASE}/runs/{}", behind.run)).await;
    assert_eq!(run["error"]["code"], "SATELLITE_CONNECTION_ERROR", "{run}");
}

#[tokio::test]
async fn what_is_not_an_event_of_a_satellite_is_invalid() {
    let behind = Behind::new(&[]).await;
    let (id, a) = (behind.correlation_id, behind.a);
    let mut bad = printed(id, a, 1, "x");
    bad["sequence"] = json!(-1);
    let archive = lines(&[printed(id, a, 0, "x"), bad]);
    let (state, reason) = behind.fate(SATELLITE_JSONL, &archive).await;
    assert_eq!(
        (state.as_str(), reason.as_str()),
        ("invalid", "line 2: sequence must be at least 0")
    );
    let (state, reason) =
        behind.fate(SATELLITE_JSONL, &lines(&[printed(Uuid::new_v4(), a, 0, "x")])).await;
    assert_eq!(state, "applied");
    assert!(reason.contains("has no such run"), "{reason}");
    assert_eq!(behind.status().await, "running");
    assert!(behind.hosts().await.iter().all(|host| host.1 == "running" && host.2.is_empty()));
}
