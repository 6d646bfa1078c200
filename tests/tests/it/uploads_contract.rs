//! What the contract says of the content of uploads, through HTTP (contract §4.4, §5.1, §5.2): types and
//! encodings, what must not bring the service down, what is kept of large ones.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::uploads::applier::Applier;
use dispatcher_tests::{
    foreign::{JSONL, form, gzip, lines, transcript, xz},
    process::{BASE, PATIENCE},
    rows,
    satellite::{SATELLITE_JSONL, event, finished, printed},
    service::{InProcess, ORG},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::runs_dispatch::{FOREIGN, item};

const SATELLITE: &str = "9274c274-a258-5d00-91fe-dbe0f7849cef";

/// A service with runs on foreign hosts.
struct Hosts(InProcess);

impl Hosts {
    async fn new(more: &[(&str, &str)]) -> Self {
        let first = [("CLOUD_CONNECTOR_IMPL", "mock"), ("IDENTITY_HEADER_FROM", "loopback")];
        let service = InProcess::start_with(&[&first, more].concat(), |stores| stores).await;
        Self(service.unwrap())
    }

    fn applies(&self) {
        let (applier, shutdown) = (Applier::of(&self.0.app), self.0.app.shutdown.clone());
        tokio::spawn(async move { applier.run(shutdown).await });
    }

    /// A new run, and its correlation id.
    async fn run(&self, more: &Value) -> (Uuid, Uuid) {
        let body = json!([item(FOREIGN, more)]);
        let request = self.0.request(Method::POST, "/internal/v2/dispatch").json(&body);
        let made: Value = request.send().await.unwrap().json().await.unwrap();
        let id: Uuid = made[0]["id"].as_str().unwrap_or_else(|| panic!("{made}")).parse().unwrap();
        let row = self.0.app.stores.runs.get(ORG, id).await.unwrap().unwrap().run;
        (id, row.correlation_id)
    }

    /// A run behind a Satellite with one host.
    async fn behind(&self, host: Uuid) -> (Uuid, Uuid) {
        self.run(&json!({
            "recipient_config": { "sat_id": SATELLITE, "sat_org_id": "5" },
            "hosts": [{ "inventory_id": host }],
        }))
        .await
    }

    /// Sends an archive in the name of the organisation; its request id.
    async fn send(&self, kind: &str, archive: &[u8]) -> Value {
        let identity = json!({ "identity": { "type": "System", "org_id": ORG } });
        let (content_type, body) = form("file", Some(kind), archive);
        let request = Client::new()
            .post(format!("{}/api/ingress/v1/upload", self.0.url))
            .header("x-rh-identity", BASE64_STANDARD.encode(identity.to_string()))
            .header("content-type", content_type)
            .body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 202, "{kind}");
        answer.json::<Value>().await.unwrap()["request_id"].take()
    }

    /// State and reason of an upload, once it is settled.
    async fn fate(&self, id: &Value) -> (String, String) {
        let settled = async {
            loop {
                let request = self.0.request(Method::GET, &format!("{BASE}/uploads?limit=200"));
                let page: Value = request.send().await.unwrap().json().await.unwrap();
                let rows = page["data"].as_array().unwrap();
                let own = rows.iter().find(|row| row["id"] == *id).unwrap();
                if own["state"] != "pending" {
                    let text = |name: &str| own[name].as_str().unwrap_or_default().to_owned();
                    return (text("state"), text("reason"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.unwrap()
    }

    async fn applied(&self, kind: &str, archive: &[u8]) {
        let id = self.send(kind, archive).await;
        assert_eq!(self.fate(&id).await, ("applied".to_owned(), String::new()), "{kind}");
    }

    async fn report(&self, events: &[Value]) {
        self.applied(SATELLITE_JSONL, &lines(events)).await;
    }

    /// State and output of the first host of a run, and the state of the run.
    async fn state(&self, run: Uuid) -> (String, String, String) {
        let query = "limit=10&fields[data]=status,stdout&filter[run][id]=";
        let request = self.0.request(Method::GET, &format!("{BASE}/run_hosts?{query}{run}"));
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        let host = page["data"][0].clone();
        let run = self.0.app.stores.runs.get(ORG, run).await.unwrap().unwrap().run;
        let text = |name: &str| host[name].as_str().unwrap().to_owned();
        (text("status"), text("stdout"), run.status.to_string())
    }

    fn events(&self, run: Uuid) -> Vec<Value> {
        let sql = format!("SELECT events FROM runs WHERE hex(id) = upper('{}')", run.simple());
        let text: String = rows::value(&self.0.database(), &sql).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn six_types_are_taken_and_the_bytes_alone_say_what_is_in_them() {
    let hosts = Hosts::new(&[]).await;
    hosts.applies();
    let packs = [|content: &[u8]| Ok(content.to_vec()), gzip, xz];
    for (n, suffix) in ["jsonl", "gzip", "xz"].into_iter().enumerate() {
        // Not what the type says.
        let pack = packs[(n + 1) % packs.len()];
        let (run, id) = hosts.run(&json!({})).await;
        let kind = format!("application/vnd.redhat.playbook.v1+{suffix}");
        hosts.applied(&kind, &pack(&lines(&transcript(id, &["a"]))).unwrap()).await;
        assert_eq!(hosts.state(run).await.2, "success", "{kind}");
        let host = Uuid::new_v4();
        let (run, id) = hosts.behind(host).await;
        let kind = format!("application/vnd.redhat.playbook-sat.v3+{suffix}");
        let events = [printed(id, host, 0, "x"), finished(id, host, "failure")];
        hosts.applied(&kind, &pack(&lines(&events)).unwrap()).await;
        let expected = ("failure", "x", "failure");
        let (state, log, of_run) = hosts.state(run).await;
        assert_eq!((state.as_str(), log.as_str(), of_run.as_str()), expected, "{kind}");
    }
}

#[tokio::test]
async fn what_crashed_the_original_is_only_an_upload() {
    let hosts = Hosts::new(&[]).await;
    hosts.applies();
    let host = Uuid::new_v4();
    let (run, id) = hosts.behind(host).await;
    let broken = json!({ "satellite_connection_code": 1, "satellite_infrastructure_code": 1 });
    for poison in [json!({}), broken] {
        hosts.report(&[event(id, "completed", &poison)]).await;
        assert_eq!(hosts.state(run).await.2, "running", "{poison}");
    }
    // Neither host nor end: it is no success.
    hosts.report(&[event(id, "update", &json!({ "sequence": 0 }))]).await;
    assert_eq!(hosts.state(run).await.2, "running");
    // Lines behind the 500th of a large upload, with output and without.
    let text = "y".repeat(4000);
    let mut many: Vec<Value> = (0..600).map(|n| printed(id, host, n, &text)).collect();
    many[550] = event(id, "update", &json!({ "host": host, "sequence": 550 }));
    many.push(finished(id, host, "success"));
    hosts.applied(SATELLITE_JSONL, &gzip(&lines(&many)).unwrap()).await;
    let (state, log, of_run) = hosts.state(run).await;
    assert_eq!((state.as_str(), log.len(), of_run.as_str()), ("success", 599 * 4000, "success"));
    let stored = hosts.events(run);
    let of = |n: usize| stored[n]["console"].as_str().map(str::to_owned);
    let cut = Some(format!("{}...", "y".repeat(1024)));
    assert_eq!((of(0), of(500)), (cut.clone(), cut));
    let (told, nothing) = (Some("Truncated...".to_owned()), Some(String::new()));
    assert_eq!((of(501), of(502), of(550), of(599)), (told, nothing.clone(), None, nothing));
}

#[tokio::test]
async fn a_large_upload_keeps_its_whole_log_and_shortens_its_events() {
    let hosts = Hosts::new(&[]).await;
    hosts.applies();
    let (run, id) = hosts.run(&json!({})).await;
    let mut events = transcript(id, &[]);
    let end = events.pop().unwrap();
    for n in 1..=700 {
        events.push(json!({
            "event": "verbose", "uuid": "u", "counter": n, "stdout": "ä".repeat(1000),
            "start_line": n, "end_line": n + 1,
        }));
    }
    events.push(json!({ "counter": 701, "end_line": 702, "start_line": 701, "uuid": "u",
                        "event": "playbook_on_stats", "stdout": end["stdout"] }));
    let archive = lines(&events);
    assert!(archive.len() > 1 << 20);
    hosts.applied(JSONL, &gzip(&archive).unwrap()).await;
    let (state, log, of_run) = hosts.state(run).await;
    assert_eq!((state.as_str(), of_run.as_str()), ("success", "success"));
    let whole = format!("{}PLAY RECAP\n", format!("{}\n", "ä".repeat(1000)).repeat(700));
    assert!(log == whole, "{} bytes of {}", log.len(), whole.len());
    let stored = hosts.events(run);
    assert_eq!(stored.len(), 702);
    let of = |n: usize| stored[n]["stdout"].as_str().unwrap().to_owned();
    let cut = format!("{}...", "ä".repeat(512));
    assert_eq!((of(1), of(500)), (cut.clone(), cut));
    assert_eq!(
        (of(501), of(502), of(700)),
        ("Truncated...".to_owned(), String::new(), String::new())
    );
    assert_eq!(of(701), "PLAY RECAP", "the end is kept");
}

#[tokio::test]
async fn in_partial_mode_every_event_counts_for_itself() {
    let hosts = Hosts::new(&[("SATELLITE_RESPONSE_FULL", "false")]).await;
    hosts.applies();
    let host = Uuid::new_v4();
    let (run, id) = hosts.behind(host).await;
    let expect = async |state: &str, log: &str| {
        let (host_state, host_log, of_run) = hosts.state(run).await;
        let got = (host_state.as_str(), host_log.as_str(), of_run.as_str());
        assert_eq!(got, (state, log, "running"));
    };
    hosts.report(&[printed(id, host, 0, "a"), printed(id, host, 1, "b")]).await;
    expect("running", "ab").await;
    hosts.report(&[printed(id, host, 2, "c"), printed(id, host, 3, "d")]).await;
    expect("running", "abcd").await;
    // An end beside a sequence that was there counts, and nothing reopens the host.
    hosts.report(&[printed(id, host, 1, "b"), finished(id, host, "failure")]).await;
    expect("failure", "abcd").await;
    hosts.report(&[printed(id, host, 4, "e")]).await;
    expect("failure", "abcde").await;
    // Beyond what the column holds.
    hosts.report(&[printed(id, host, 40_000, "z")]).await;
    expect("failure", "abcde\\n\\u2026\\nz").await;
    let column = "SELECT max(sat_sequence) FROM run_hosts";
    assert_eq!(rows::value::<i64>(&hosts.0.database(), column).unwrap(), 32_767);
}

#[tokio::test]
async fn an_archive_that_is_gone_is_said_and_holds_nobody_up() {
    let hosts = Hosts::new(&[]).await;
    let (run, id) = hosts.run(&json!({})).await;
    let gone = hosts.send(JSONL, &lines(&transcript(id, &["a"]))).await;
    let object = format!("uploads/{}", gone.as_str().unwrap());
    hosts.0.app.objects.delete(&object).await.unwrap();
    let byte = hosts.send(JSONL, b"{").await;
    let whole = hosts.send(JSONL, &lines(&transcript(id, &["a"]))).await;
    hosts.applies();
    let (state, reason) = hosts.fate(&gone).await;
    let expected = ("invalid", "its archive is not in the object store");
    assert_eq!((state.as_str(), reason.as_str()), expected);
    let (state, reason) = hosts.fate(&byte).await;
    assert_eq!(state, "invalid", "{reason}");
    assert_eq!(hosts.fate(&whole).await.0, "applied");
    assert_eq!(hosts.state(run).await.2, "success");
}

#[tokio::test]
async fn stored_events_are_those_of_the_last_upload_in_its_order_and_hosts_have_the_whole_log() {
    let hosts = Hosts::new(&[]).await;
    hosts.applies();
    let (run, id) = hosts.run(&json!({})).await;
    let mut events = transcript(id, &["b", "a"]);
    events.swap(1, 2);
    events[1]["ignored"] = json!("by everybody");
    events[1]["event_data"]["uuid"] = json!("dropped");
    hosts.applied(JSONL, &lines(&events[..2])).await;
    hosts.applied(JSONL, &lines(&events)).await;
    let stored = hosts.events(run);
    let counters: Vec<_> = stored.iter().map(|event| event["counter"].as_i64().unwrap()).collect();
    assert_eq!(counters, [-1, 2, 1, 3]);
    let kept = json!({
        "counter": 2, "end_line": 2, "event": "runner_on_ok", "start_line": 1, "stdout": "ok: [a]",
        "uuid": events[1]["uuid"], "event_data": { "host": "a", "playbook": "site.yml" },
    });
    assert_eq!(stored[1], kept);
    let query = "fields[data]=host,stdout&filter[run][id]=";
    let request = hosts.0.request(Method::GET, &format!("{BASE}/run_hosts?{query}{run}"));
    let page: Value = request.send().await.unwrap().json().await.unwrap();
    let log = "ok: [b]\nok: [a]\nPLAY RECAP\n";
    let host = |name: &str| json!({ "host": name, "stdout": log });
    let mut seen = page["data"].as_array().unwrap().clone();
    seen.sort_by_key(|host| host["host"].to_string());
    assert_eq!(seen, [host("a"), host("b")]);
}
