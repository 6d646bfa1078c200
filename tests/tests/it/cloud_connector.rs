//! Cloud Connector over HTTP, against a stub that records everything and can be slow, broken, garbled
//! and absent: what goes over the wire to the byte, and what each of its answers comes to.

use std::{path::PathBuf, sync::Arc, sync::Mutex, time::Duration};

use dispatcher_api::uploads::{applier::Applier, token};
use dispatcher_tests::{
    authority::Authority,
    foreign::{accepted, lines, transcript},
    process::{BASE, PATIENCE, Service},
    rows,
    service::{InProcess, ORG},
    stub::{Reply, Seen, Stub},
    tls_listener,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::runs_dispatch::{FOREIGN, item};

const SATELLITE: &str = "9274c274-a258-5d00-91fe-dbe0f7849cef";
const INVENTORY_ID: &str = "c484f980-ab8d-401b-90e7-aa1d4ccf8c0e";
const SUBSCRIPTION_ID: &str = "fe30b997-c15a-44a9-89df-c236c3b5c540";
/// `printf tester | sha256sum`.
const TESTER: &str = "9bba5c53a0545e0c80184b946153c9f58387e3bd1d4ee35740f29ac2e718b019";

/// A service and the Cloud Connector that it knows.
struct Reached {
    stub: Stub,
    service: InProcess,
}

fn taken(_: &Seen) -> Reply {
    Reply::json(201, &json!({ "id": Uuid::new_v4() }))
}

/// What a service needs to know of a stub.
fn variables(port: &str) -> [(&str, &str); 4] {
    [
        ("CLOUD_CONNECTOR_IMPL", "impl"),
        ("CLOUD_CONNECTOR_HOST", "127.0.0.1"),
        ("CLOUD_CONNECTOR_PORT", port),
        ("CLOUD_CONNECTOR_PSK", "s3cret"),
    ]
}

impl Reached {
    /// Everything is taken, unless the test says otherwise.
    async fn new(more: &[(&str, &str)]) -> Self {
        let stub = Stub::start(taken).await.unwrap();
        let port = stub.port().to_string();
        let variables = [&variables(&port), more].concat();
        let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
        Self { stub, service }
    }

    /// Status and body of the answer to a contract route.
    async fn post(&self, path: &str, body: &Value) -> (StatusCode, String) {
        let request = self.service.request(Method::POST, path).json(body);
        let answer = request.header("x-rh-insights-request-id", "request-1").send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn dispatch(&self, item: Value) -> Value {
        let (status, text) = self.post("/internal/v2/dispatch", &json!([item])).await;
        assert_eq!(status, StatusCode::MULTI_STATUS, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }

    /// A run behind a Satellite.
    async fn satellite(&self) -> Uuid {
        let created = self.dispatch(item(FOREIGN, &satellite())).await;
        created["id"].as_str().unwrap_or_else(|| panic!("{created}")).parse().unwrap()
    }

    async fn cancel(&self, run: Uuid) -> String {
        let item = json!([{ "run_id": run, "org_id": ORG, "principal": "tester" }]);
        let (status, text) = self.post("/internal/v2/cancel", &item).await;
        assert_eq!(status, StatusCode::MULTI_STATUS, "{text}");
        text
    }

    fn counted(&self, sql: &str) -> i64 {
        rows::value(&self.service.database(), sql).unwrap()
    }

    /// Runs, runs whose fate is not known, events.
    fn stored(&self) -> (i64, i64, i64) {
        (
            self.counted("SELECT count(*) FROM runs"),
            self.counted("SELECT count(*) FROM run_dispatch WHERE ambiguous = 1"),
            self.counted("SELECT count(*) FROM outbox"),
        )
    }

    async fn correlation_id(&self, run: Uuid) -> Uuid {
        let found = self.service.app.stores.runs.get(ORG, run).await.unwrap();
        found.unwrap().run.correlation_id
    }
}

fn satellite() -> Value {
    json!({
        "recipient_config": { "sat_id": SATELLITE, "sat_org_id": "5" },
        "hosts": [
            { "inventory_id": INVENTORY_ID, "ansible_host": "a" },
            { "inventory_id": SATELLITE_HOST, "subscription_manager_id": SUBSCRIPTION_ID },
        ],
    })
}
const SATELLITE_HOST: &str = "32af5948-301f-449a-a25b-ff34c83264a2";

fn of(recipient: &str, what: &str) -> String {
    format!("/api/cloud-connector/v2/connections/{recipient}/{what}")
}

/// What every call carries, and nothing that would make Cloud Connector let it in another way.
fn check_headers(seen: &Seen) {
    for (name, value) in [
        ("x-rh-insights-request-id", "request-1"),
        ("x-rh-cloud-connector-client-id", "playbook-dispatcher"),
        ("x-rh-cloud-connector-psk", "s3cret"),
        ("x-rh-cloud-connector-org-id", ORG),
        ("x-rh-identity", ""),
        ("x-rh-cloud-connector-account", ""),
        ("authorization", ""),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_host_is_sent_exactly_this() {
    let reached = Reached::new(&[]).await;
    let url = "https://example.com/p?a=1&b=<2>";
    let created = reached.dispatch(item(FOREIGN, &json!({ "url": url }))).await;
    let id: Uuid = created["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(created, json!({ "code": 201, "id": id }));

    let [seen] = reached.stub.take().try_into().unwrap();
    assert_eq!((seen.method.as_str(), &seen.path), ("POST", &of(FOREIGN, "message")));
    check_headers(&seen);
    assert_eq!(seen.header("content-type"), "application/json");
    let body = seen.json().unwrap();
    let return_url = body["metadata"]["return_url"].as_str().unwrap();
    let correlation_id = reached.correlation_id(id).await;
    let expected = format!(
        "{{\"directive\":\"rhc-worker-playbook\",\"metadata\":{{\
         \"crc_dispatcher_correlation_id\":\"{correlation_id}\",\"response_interval\":\"600\",\
         \"return_url\":\"{return_url}\"}},\"payload\":\"{url}\"}}\n"
    );
    assert_eq!(seen.body, expected);

    let base = format!("{}/api/ingress/v1/upload?token=", reached.service.url);
    let token = return_url.strip_prefix(&base).unwrap_or_else(|| panic!("{return_url}"));
    let keyring = &reached.service.app.keyring;
    assert_eq!(token::check(keyring, token, OffsetDateTime::now_utc()).unwrap().run_id, id);
    assert_eq!(reached.stored(), (1, 0, 1));
}

#[tokio::test]
async fn a_satellite_is_sent_exactly_this() {
    let more = [
        ("SATELLITE_RESPONSE_FULL", "false"),
        ("RESPONSE_INTERVAL", "30"),
        ("RETURN_URL", "https://ingress.example/upload"),
        ("CLOUD_CONNECTOR_CLIENT_ID", "another"),
    ];
    let reached = Reached::new(&more).await;
    let asked = json!({ "web_console_url": "https://console.example/&" });
    let mut asked = item(FOREIGN, &asked);
    asked.as_object_mut().unwrap().extend(satellite().as_object().unwrap().clone());
    let created = reached.dispatch(asked).await;
    let id: Uuid = created["id"].as_str().unwrap().parse().unwrap();

    let [seen] = reached.stub.take().try_into().unwrap();
    assert_eq!(seen.path, of(FOREIGN, "message"));
    assert_eq!(seen.header("x-rh-cloud-connector-client-id"), "another");
    assert!(seen.body.contains("https://console.example/&"), "nothing is escaped for HTML");
    let mut body = seen.json().unwrap();
    let return_url = body["metadata"]["return_url"].take();
    let there = "https://ingress.example/upload?token=";
    assert!(return_url.as_str().unwrap().starts_with(there), "{return_url}");
    let expected = json!({
        "directive": "foreman_rh_cloud", "payload": "https://example.com/site.yml",
        "metadata": {
            "operation": "run", "return_url": null, "response_interval": "30",
            "correlation_id": reached.correlation_id(id).await, "playbook_run_name": "a test",
            "playbook_run_url": "https://console.example/&", "sat_id": SATELLITE, "sat_org_id": "5",
            "initiator_user_id": TESTER, "hosts": format!("{INVENTORY_ID},{SATELLITE_HOST}"),
            "response_full": "false", "subscription_manager_ids": SUBSCRIPTION_ID,
        },
    });
    assert_eq!(body, expected);

    let text = reached.cancel(id).await;
    assert_eq!(text, format!("[{{\"code\":202,\"run_id\":\"{id}\"}}]\n"));
    let [seen] = reached.stub.take().try_into().unwrap();
    assert_eq!((seen.method.as_str(), &seen.path), ("POST", &of(FOREIGN, "message")));
    let correlation_id = reached.correlation_id(id).await;
    let expected = format!(
        "{{\"directive\":\"foreman_rh_cloud\",\"metadata\":{{\"correlation_id\":\
         \"{correlation_id}\",\"initiator_user_id\":\"{TESTER}\",\"operation\":\"cancel\"}},\
         \"payload\":\"\"}}\n"
    );
    assert_eq!(seen.body, expected);
}

/// What Cloud Connector may do wrong, and whether a message may have been delivered all the same.
fn misbehaviour() -> Vec<(Reply, bool)> {
    let id = json!({ "id": Uuid::new_v4() });
    vec![
        (Reply::text(400, "no"), false),
        (Reply::json(401, &id), false),
        (Reply::text(403, ""), false),
        (Reply::text(413, ""), false),
        (Reply::text(429, ""), false),
        (Reply::text(500, "broken"), true),
        (Reply::text(502, ""), true),
        (Reply::text(503, ""), true),
        (Reply::json(200, &id), true),
        (Reply::json(302, &id), true),
        (Reply::Answer(201, "text/plain", id.to_string()), true),
        (Reply::json(201, &json!({})), true),
        (Reply::json(201, &json!({ "id": "x" })), true),
        (Reply::json(201, &json!({ "id": null })), true),
        (Reply::Answer(201, "application/json", "{\"id\":".to_owned()), true),
        (Reply::Answer(201, "application/json", String::new()), true),
        (Reply::Half(201), true),
        (Reply::Babble, true),
        (Reply::Cut, true),
    ]
}

#[tokio::test]
async fn what_is_refused_leaves_no_run_and_what_nobody_knows_leaves_one() {
    let reached = Reached::new(&[]).await;
    let failed = json!({ "code": 500, "message": "Unexpected error during processing" });
    let mut expected = (0, 0, 0);
    for (reply, may_have_arrived) in misbehaviour() {
        let what = format!("{reply:?}");
        reached.stub.replies(move |_| reply.clone());
        let answer = reached.dispatch(item(Uuid::new_v4(), &json!({}))).await;
        assert_eq!(answer, failed, "{what}");
        let more = i64::from(may_have_arrived);
        expected = (expected.0 + more, expected.1 + more, 0);
        assert_eq!(reached.stored(), expected, "{what}");
        assert_eq!(reached.stub.take().len(), 1, "{what}: nothing is sent twice");
    }
    for body in [Reply::text(404, "<html>"), Reply::json(404, &json!({ "title": "x" }))] {
        reached.stub.replies(move |_| body.clone());
        let answer = reached.dispatch(item(FOREIGN, &json!({}))).await;
        assert_eq!(answer, json!({ "code": 404, "message": "Receipient not found" }));
        assert_eq!(reached.stored(), expected);
    }
    reached.stub.leave().await;
    assert_eq!(reached.dispatch(item(FOREIGN, &json!({}))).await, failed);
    assert_eq!(reached.stored(), expected, "nobody was there: it was not delivered");
}

#[tokio::test]
async fn a_message_without_an_answer_in_time_may_have_been_delivered() {
    let reached = Reached::new(&[("CLOUD_CONNECTOR_TIMEOUT", "0.3")]).await;
    for (nth, reply) in (1..).zip([
        Reply::Silence,
        Reply::Late(Duration::from_secs(60), 201, "application/json", String::new()),
    ]) {
        reached.stub.replies(move |_| reply.clone());
        let answer = reached.dispatch(item(FOREIGN, &json!({}))).await;
        assert_eq!(answer["code"], 500);
        assert_eq!(reached.stored(), (nth, nth, 0));
    }
}

#[tokio::test]
async fn items_of_one_request_come_out_each_for_itself() {
    let reached = Reached::new(&[]).await;
    let gone = Uuid::new_v4().to_string();
    let broken = Uuid::new_v4().to_string();
    let (is_gone, is_broken) = (gone.clone(), broken.clone());
    reached.stub.replies(move |seen| {
        if seen.path.contains(&is_gone) {
            return Reply::text(404, "");
        }
        if seen.path.contains(&is_broken) { Reply::Cut } else { taken(seen) }
    });
    let items = json!([
        item(&broken, &json!({})),
        item(FOREIGN, &satellite()),
        item(&gone, &json!({})),
        item(FOREIGN, &json!({})),
    ]);
    let (status, text) = reached.post("/internal/v2/dispatch", &items).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    let codes: Vec<_> =
        body.as_array().unwrap().iter().map(|item| item["code"].as_u64().unwrap()).collect();
    assert_eq!((status, codes), (StatusCode::MULTI_STATUS, vec![500, 201, 404, 201]));
    assert_eq!(body[0], json!({ "code": 500, "message": "Unexpected error during processing" }));
    assert_eq!(body[2], json!({ "code": 404, "message": "Receipient not found" }));
    assert_eq!(reached.stub.take().len(), 4);
}

#[tokio::test]
async fn a_run_is_stored_before_anybody_is_told_of_it_and_a_bad_host_tells_nobody() {
    let reached = Reached::new(&[]).await;
    let database: Arc<Mutex<PathBuf>> = Arc::new(Mutex::new(reached.service.database()));
    let seen_runs = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&seen_runs);
    reached.stub.replies(move |seen| {
        let runs = rows::counts(&database.lock().unwrap()).unwrap()["runs"];
        noting.lock().unwrap().push(runs);
        taken(seen)
    });
    reached.dispatch(item(FOREIGN, &json!({}))).await;
    assert_eq!(*seen_runs.lock().unwrap(), [1]);
    reached.stub.take();

    let nameless = item(FOREIGN, &json!({ "hosts": [{ "ansible_host": "a" }, {}] }));
    let items = json!([item(FOREIGN, &json!({})), nameless]);
    let (status, text) = reached.post("/internal/v2/dispatch", &items).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("a host needs ansible_host or inventory_id"), "{text}");
    assert!(reached.stub.take().is_empty());
    reached.dispatch(item(FOREIGN, &json!({}))).await;
    assert_eq!(reached.stub.take().len(), 1, "it lives on");
}

#[tokio::test]
async fn every_end_of_a_cancellation() {
    let reached = Reached::new(&[]).await;
    let id = reached.satellite().await;
    let zero = Uuid::nil();
    let answers = |code: u16| format!("[{{\"code\":{code},\"run_id\":\"{zero}\"}}]\n");
    for (reply, _) in misbehaviour() {
        let what = format!("{reply:?}");
        reached.stub.replies(move |_| reply.clone());
        assert_eq!(reached.cancel(id).await, answers(500), "{what}");
    }
    reached.stub.replies(|_| Reply::text(404, ""));
    assert_eq!(reached.cancel(id).await, answers(409));
    reached.stub.replies(taken);
    assert_eq!(reached.cancel(id).await, format!("[{{\"code\":202,\"run_id\":\"{id}\"}}]\n"));

    let runner = reached.dispatch(item(FOREIGN, &json!({}))).await;
    reached.stub.take();
    let runner: Uuid = runner["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(reached.cancel(runner).await, answers(400));
    assert_eq!(reached.cancel(Uuid::new_v4()).await, answers(404));
    rows::change(&reached.service.database(), "UPDATE runs SET status = 'timeout'").unwrap();
    assert_eq!(reached.cancel(id).await, answers(409));
    assert!(reached.stub.take().is_empty(), "nobody is asked for what is refused here");
    reached.stub.leave().await;
    rows::change(&reached.service.database(), "UPDATE runs SET status = 'running'").unwrap();
    assert_eq!(reached.cancel(id).await, answers(500));
}

#[tokio::test]
async fn an_expired_run_that_the_cleaner_has_not_seen_can_be_canceled() {
    let reached = Reached::new(&[]).await;
    let mut expired = satellite();
    expired["timeout"] = json!(0);
    let created = reached.dispatch(item(FOREIGN, &expired)).await;
    let id: Uuid = created["id"].as_str().unwrap().parse().unwrap();
    assert!(reached.cancel(id).await.contains("202"));
}

#[tokio::test]
async fn who_may_not_dispatch_may_cancel_and_ask() {
    let reached = Reached::new(&[("BLOCKLIST_ORG_IDS", "666")]).await;
    let id = reached.satellite().await;
    rows::change(&reached.service.database(), "UPDATE runs SET org_id = '666'").unwrap();
    let asked = json!([{ "run_id": id, "org_id": "666", "principal": "tester" }]);
    let (_, text) = reached.post("/internal/v2/cancel", &asked).await;
    assert_eq!(text, format!("[{{\"code\":202,\"run_id\":\"{id}\"}}]\n"));
    reached.stub.replies(|_| Reply::json(200, &json!({ "status": "connected" })));
    let asked = json!([{ "recipient": FOREIGN, "org_id": "666" }]);
    let (status, text) = reached.post("/internal/v2/recipients/status", &asked).await;
    assert!(status == StatusCode::OK && text.contains("\"connected\":true"), "{text}");
}

#[tokio::test]
async fn a_database_that_fails_is_not_a_run_that_is_not_there() {
    let reached = Reached::new(&[]).await;
    let id = reached.satellite().await;
    rows::change(&reached.service.database(), "ALTER TABLE runs RENAME TO away").unwrap();
    let item = json!([{ "run_id": id, "org_id": ORG, "principal": "tester" }]);
    let (status, text) = reached.post("/internal/v2/cancel", &item).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text, "{\"message\":\"Internal Server Error\"}\n");
}

#[tokio::test]
async fn the_status_of_recipients() {
    let reached = Reached::new(&[]).await;
    let (other, third) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let asked = json!([
        { "recipient": other, "org_id": "2" },
        { "recipient": FOREIGN, "org_id": ORG },
        { "recipient": third, "org_id": ORG },
    ]);
    let (disconnected, odd) = (other.clone(), third.clone());
    reached.stub.replies(move |seen| {
        let status = if seen.path.contains(&disconnected) {
            "disconnected"
        } else if seen.path.contains(&odd) {
            "Connected"
        } else {
            "connected"
        };
        Reply::json(200, &json!({ "status": status, "dispatchers": {} }))
    });
    let path = "/internal/v2/recipients/status";
    let (status, text) = reached.post(path, &asked).await;
    let line = |connected, org: &str, recipient: &str| {
        format!("{{\"connected\":{connected},\"org_id\":\"{org}\",\"recipient\":\"{recipient}\"}}")
    };
    let expected = format!(
        "[{},{},{}]\n",
        line(false, "2", &other),
        line(true, ORG, FOREIGN),
        line(false, ORG, &third)
    );
    assert_eq!((status, text), (StatusCode::OK, expected));
    let mut seen = reached.stub.take();
    seen.sort_by_key(|seen| seen.path != of(FOREIGN, "status"));
    assert_eq!((seen[0].method.as_str(), seen.len()), ("GET", 3));
    check_headers(&seen[0]);
    let of_other = seen.iter().find(|seen| seen.path == of(&other, "status")).unwrap();
    assert_eq!(of_other.header("x-rh-cloud-connector-org-id"), "2", "each asks for its tenant");
}

#[tokio::test]
async fn a_status_that_is_not_known_is_one_500_without_a_word() {
    let reached = Reached::new(&[]).await;
    let path = "/internal/v2/recipients/status";
    let asked = json!([{ "recipient": FOREIGN, "org_id": ORG }]);
    let nothing = (StatusCode::INTERNAL_SERVER_ERROR, String::new());
    for reply in [
        Reply::text(404, ""),
        Reply::text(500, ""),
        Reply::text(200, "connected"),
        Reply::json(201, &json!({ "status": "connected" })),
        Reply::json(200, &json!({ "status": 1 })),
        Reply::Half(200),
        Reply::Babble,
        Reply::Cut,
    ] {
        let what = format!("{reply:?}");
        reached.stub.replies(move |_| reply.clone());
        assert_eq!(reached.post(path, &asked).await, nothing, "{what}");
    }
    reached.stub.leave().await;
    assert_eq!(reached.post(path, &asked).await, nothing);
}

#[tokio::test]
async fn connections_are_used_again() {
    let reached = Reached::new(&[]).await;
    for _ in 0..20 {
        reached.dispatch(item(FOREIGN, &json!({}))).await;
    }
    let seen = reached.stub.take();
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|seen| seen.connection == 1), "{:?}", seen.last());
}

#[tokio::test]
async fn over_tls_its_certificate_must_lead_to_an_authority_that_is_trusted() {
    let (authority, directory) = (Authority::new().unwrap(), tempfile::tempdir().unwrap());
    let tls = tls_listener::acceptor(&authority, directory.path()).unwrap();
    let stub = Stub::start_with(Some(tls), taken).await.unwrap();
    let port = stub.port().to_string();
    let ca_file = directory.path().join("authority.pem");
    let secure = [&variables(&port)[..], &[("CLOUD_CONNECTOR_SCHEME", "https")]].concat();
    let trusting = [&secure[..], &[("TLS_CA_FILE", ca_file.to_str().unwrap())]].concat();
    for (variables, code, sent) in [(trusting, 201, 1), (secure, 500, 0)] {
        let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
        let request = service.request(Method::POST, "/internal/v2/dispatch");
        let answer = request.json(&json!([item(FOREIGN, &json!({}))])).send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()[0]["code"], code);
        assert_eq!(stub.take().len(), sent);
        let runs = rows::counts(&service.database()).unwrap()["runs"];
        assert_eq!(usize::try_from(runs).unwrap(), sent, "what was not sent leaves no run");
    }
}

#[tokio::test]
async fn the_mock_cancels_as_it_sends() {
    let mock = [("CLOUD_CONNECTOR_IMPL", "mock")];
    let service = InProcess::start_with(&mock, |stores| stores).await.unwrap();
    let post = async |path: &str, body: Value| -> Value {
        let request = service.request(Method::POST, path).json(&body);
        request.send().await.unwrap().json().await.unwrap()
    };
    // A cancellation carries no sat_id, and this recipient wants to see its own.
    for (recipient, code) in [(FOREIGN, 202), ("9200e4a3-c97c-4021-9856-82fa4673e8d2", 500)] {
        let made = post("/internal/v2/dispatch", json!([item(recipient, &satellite())])).await;
        let run = &made[0]["id"];
        let asked = json!([{ "run_id": run, "org_id": ORG, "principal": "tester" }]);
        assert_eq!(post("/internal/v2/cancel", asked).await[0]["code"], code, "{made}");
    }
    let gone =
        json!([{ "recipient": "411cb203-f8c9-480e-ba20-1efbc74e3a33", "org_id": "5318290" }]);
    assert_eq!(post("/internal/v2/recipients/status", gone).await[0]["connected"], false);
}

/// What a host learns from a message: where to send its events, and what they are of.
fn told(seen: &Seen) -> (String, Uuid) {
    let body = seen.json().unwrap();
    let text = |name: &str| body["metadata"][name].as_str().unwrap().to_owned();
    (text("return_url"), text("crc_dispatcher_correlation_id").parse().unwrap())
}

#[tokio::test]
async fn a_run_that_nobody_knew_about_is_settled_by_its_upload() {
    let reached = Reached::new(&[]).await;
    let applier = Applier::of(&reached.service.app);
    let shutdown = reached.service.app.shutdown.clone();
    tokio::spawn(async move { applier.run(shutdown).await });
    reached.stub.replies(|_| Reply::Half(201));
    assert_eq!(reached.dispatch(item(FOREIGN, &json!({}))).await["code"], 500);
    assert_eq!(reached.stored(), (1, 1, 0));

    let (return_url, correlation_id) = told(&reached.stub.take()[0]);
    let archive = lines(&transcript(correlation_id, &["a"]));
    accepted(&return_url, &archive).await.unwrap();
    let applied = async {
        while reached.counted("SELECT count(*) FROM runs WHERE status = 'success'") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, applied).await.unwrap();
    let (runs, ambiguous, events) = reached.stored();
    assert_eq!((runs, ambiguous), (1, 0));
    assert!(events > 0, "consumers are told");
}

#[tokio::test]
async fn a_process_that_dies_after_sending_sends_once_and_the_upload_settles_the_run() {
    let stub = Stub::start(taken).await.unwrap();
    let port = stub.port().to_string();
    for point in ["dispatch.committed", "dispatch.sent", "dispatch.settled"] {
        let directory = tempfile::tempdir().unwrap();
        let crashing = [&variables(&port)[..], &[("DISPATCHER_CRASH_AT", point)]].concat();
        let mut service = Service::start_with(directory.path(), &crashing).await.unwrap();
        let more = json!({ "recipient": FOREIGN });
        let asked = service.item("https://example.com/site.yml", &more);
        assert!(service.dispatch(&asked, Some("once")).await.is_err(), "{point}");
        service.died().await.unwrap();

        let service = Service::start_with(directory.path(), &variables(&port)).await.unwrap();
        let list: Value =
            service.get(&format!("{BASE}/runs?fields[data]=id,status")).await.unwrap();
        assert_eq!(list["data"][0]["status"], "running", "{point}");
        let repeated = service.dispatch(&asked, Some("once")).await;
        assert!(repeated.is_err(), "{point}: it is still in flight");
        let seen = stub.take();
        if point == "dispatch.committed" {
            assert!(seen.is_empty(), "it is never sent later");
            continue;
        }
        assert_eq!(seen.len(), 1, "{point}: sent once");
        let (return_url, correlation_id) = told(&seen[0]);
        accepted(&return_url, &lines(&transcript(correlation_id, &["a"]))).await.unwrap();
        let id = list["data"][0]["id"].as_str().unwrap().parse().unwrap();
        let (run, _) = service.ended(id).await.unwrap();
        assert_eq!(run.status.as_str(), "success", "{point}");
    }
}
