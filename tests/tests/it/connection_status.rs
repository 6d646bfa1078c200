//! `POST /internal/v2/connection_status`, with stubs of Inventory and Sources: who is asked what, what
//! comes of every answer, and the mocks.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::{
    connector::{Connector, SendError},
    runs::model::{NewRun, RunRow},
};
use dispatcher_tests::{
    ports,
    service::{InProcess, ORG},
    stub::{Reply, Seen, Stub},
};
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;

const PATH: &str = "/internal/v2/connection_status";
const TENANT: &str = "5318290";
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
const SATELLITE: &str = "bd54e0e9-5310-45be-b107-fd7c96672ce5";

/// A host's id, client or Satellite by number.
fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// Tells whether recipients are there, and remembers whom it was asked about.
#[derive(Default)]
struct Line {
    asked: Mutex<Vec<(String, Uuid)>>,
    away: Vec<Uuid>,
    broken: Vec<Uuid>,
}

#[async_trait]
impl Connector for Line {
    async fn send(&self, _: &NewRun) -> Result<(), SendError> {
        Err(SendError::NotConnected)
    }

    async fn cancel(&self, _: &RunRow, _: &str) -> Result<(), SendError> {
        Err(SendError::NotConnected)
    }

    async fn is_connected(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        self.asked.lock().unwrap().push((org_id.to_owned(), recipient));
        if self.broken.contains(&recipient) {
            return Err(SendError::Ambiguous("timeout".to_owned()));
        }
        Ok(!self.away.contains(&recipient))
    }
}

fn identity(kind: &str, org_id: &str) -> String {
    let identity = json!({ "identity": { "type": kind, "org_id": org_id } });
    BASE64_STANDARD.encode(identity.to_string())
}

/// Inventory, Sources, and the service between them.
struct Case {
    inventory: Stub,
    sources: Stub,
    line: Arc<Line>,
    service: InProcess,
}

async fn start(line: Line) -> Case {
    start_at(line, None).await
}

/// At another port where there is one: nobody listens there.
async fn start_at(line: Line, elsewhere: Option<u16>) -> Case {
    let inventory = Stub::start(|_| Reply::json(404, &json!({}))).await.unwrap();
    let sources = Stub::start(|_| Reply::json(200, &json!({ "data": [] }))).await.unwrap();
    let ports =
        [inventory.port(), sources.port()].map(|port| elsewhere.unwrap_or(port).to_string());
    let variables = [
        ("IDENTITY_HEADER_FROM", "loopback"),
        ("INVENTORY_CONNECTOR_IMPL", "impl"),
        ("INVENTORY_CONNECTOR_HOST", "127.0.0.1"),
        ("INVENTORY_CONNECTOR_PORT", ports[0].as_str()),
        ("INVENTORY_CONNECTOR_TIMEOUT", "0.5"),
        ("SOURCES_IMPL", "impl"),
        ("SOURCES_HOST", "127.0.0.1"),
        ("SOURCES_PORT", ports[1].as_str()),
        ("SOURCES_TIMEOUT", "0.5"),
    ];
    let line = Arc::new(line);
    let connector = Arc::clone(&line) as Arc<dyn Connector>;
    let service = InProcess::start_connected(&variables, connector).await.unwrap();
    Case { inventory, sources, line, service }
}

async fn post(service: &InProcess, body: String) -> (u16, String) {
    let request = Client::new().post(format!("{}{PATH}", service.url));
    let request = request.header("x-rh-identity", identity("System", TENANT));
    let request = request.header("x-rh-insights-request-id", "request-7");
    let answer = request.header("content-type", "application/json").body(body).send().await;
    let answer = answer.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn ask(service: &InProcess, hosts: &[String]) -> (u16, String) {
    post(service, json!({ "org_id": TENANT, "hosts": hosts }).to_string()).await
}

async fn asked(case: &Case, numbers: &[u128]) -> Value {
    let hosts: Vec<String> = numbers.iter().copied().map(id).collect();
    let (status, body) = ask(&case.service, &hosts).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// A host: its number, a fact of Satellite's (instance, organisation), its client.
type Host<'a> = (u128, Option<(&'a str, Value)>, Option<u128>);

/// From now on Inventory knows these.
fn knows(inventory: &Stub, hosts: &[Host<'_>]) {
    let facts: Vec<Value> = hosts
        .iter()
        .map(|(number, satellite, _)| {
            let facts = satellite.as_ref().map(|(instance, org)| {
                json!({ "satellite_instance_id": instance, "satellite_version": "6.11",
                        "organization_id": org })
            });
            let set = json!([{ "namespace": "satellite", "facts": facts.unwrap_or(json!({})) }]);
            json!({ "id": id(*number), "display_name": "h", "facts": set })
        })
        .collect();
    let profiles: Vec<Value> = hosts
        .iter()
        .map(|(number, _, client)| {
            let profile = json!({ "rhc_client_id": client.map(id), "owner_id": id(99) });
            json!({ "id": id(*number), "system_profile": profile })
        })
        .collect();
    inventory.replies(move |seen: &Seen| {
        let profile = seen.path.contains("/system_profile?");
        let results = if profile { &profiles } else { &facts };
        Reply::json(200, &json!({ "total": results.len(), "results": results }))
    });
}

/// From now on Sources connects every Satellite by this client.
fn connects(sources: &Stub, rhc_id: Value) {
    sources.replies(move |seen: &Seen| {
        let data = if seen.path.ends_with("/rhc_connections") {
            json!([{ "id": "3", "rhc_id": rhc_id, "availability_status": "available" }])
        } else {
            json!([{ "id": "77", "name": "s" }, { "id": "78" }])
        };
        Reply::json(200, &json!({ "meta": { "count": 1 }, "data": data }))
    });
}

fn element(kind: &str, recipient: &str, status: &str, systems: &[u128]) -> Value {
    let (sat_id, sat_org_id) = if kind == "satellite" { (SATELLITE, "5") } else { ("", "") };
    let systems: Vec<String> = systems.iter().copied().map(id).collect();
    json!({ "org_id": TENANT, "recipient": recipient, "recipient_type": kind, "sat_id": sat_id,
            "sat_org_id": sat_org_id, "status": status, "systems": systems })
}

#[tokio::test]
async fn hosts_are_grouped_by_how_they_are_reached_in_order() {
    let case = start(Line { away: vec![Uuid::from_u128(22)], ..Line::default() }).await;
    let behind = || Some((SATELLITE, json!("5")));
    knows(
        &case.inventory,
        &[
            (6, None, None),
            (1, None, Some(21)),
            (2, behind(), None),
            (3, None, Some(22)),
            (4, behind(), Some(23)),
            (5, None, None),
            (7, Some((SATELLITE, json!(6))), None),
        ],
    );
    connects(&case.sources, json!(id(31)));
    let answer = asked(&case, &[1, 2, 3, 4, 5, 6, 7]).await;
    let mut other = element("satellite", &id(31), "connected", &[7]);
    other["sat_org_id"] = json!("6");
    let expected = json!([
        element("satellite", &id(31), "connected", &[2, 4]),
        other,
        element("directConnect", &id(21), "connected", &[1]),
        element("directConnect", &id(22), "disconnected", &[3]),
        element("none", NOBODY, "rhc_not_configured", &[6, 5]),
    ]);
    assert_eq!(answer, expected);
    // Every question names the organisation that asks, that about Satellites, too.
    let mut questions = case.line.asked.lock().unwrap().clone();
    questions.sort_unstable();
    let about = |number| (TENANT.to_owned(), Uuid::from_u128(number));
    assert_eq!(questions, [about(21), about(22), about(31), about(31)]);
}

#[tokio::test]
async fn the_answer_is_exactly_the_contracts() {
    let case = start(Line::default()).await;
    knows(&case.inventory, &[(1, None, Some(21))]);
    let (status, body) = ask(&case.service, &[id(1)]).await;
    let expected = format!(
        "[{{\"org_id\":\"{TENANT}\",\"recipient\":\"{}\",\"recipient_type\":\"directConnect\",\
         \"sat_id\":\"\",\"sat_org_id\":\"\",\"status\":\"connected\",\"systems\":[\"{}\"]}}]\n",
        id(21),
        id(1)
    );
    assert_eq!((status, body), (200, expected));
}

#[tokio::test]
async fn others_are_asked_with_the_identity_and_in_their_words() {
    let case = start(Line::default()).await;
    knows(&case.inventory, &[(1, Some((SATELLITE, json!("5"))), None), (2, None, None)]);
    connects(&case.sources, json!(id(31)));
    asked(&case, &[2, 1, 2]).await;
    let hosts = format!("/api/inventory/v1/hosts/{},{}", id(1), id(2));
    let order = "order_by=display_name&order_how=ASC";
    let mut paths: Vec<String> = case.inventory.seen().into_iter().map(|seen| seen.path).collect();
    paths.sort_unstable();
    let profile = "fields%5Bsystem_profile%5D=rhc_client_id,owner_id";
    assert_eq!(
        paths,
        [format!("{hosts}/system_profile?{profile}&{order}"), format!("{hosts}?{order}")]
    );
    let paths: Vec<String> = case.sources.seen().into_iter().map(|seen| seen.path).collect();
    let sources = "/api/sources/v3.1/sources";
    assert_eq!(
        paths,
        [
            format!("{sources}?filter%5Bsource_ref%5D%5Beq%5D={SATELLITE}"),
            format!("{sources}/77/rhc_connections"),
        ]
    );
    for seen in case.inventory.seen().into_iter().chain(case.sources.seen()) {
        assert_eq!(seen.method, "GET");
        assert_eq!(seen.header("x-rh-identity"), identity("System", TENANT));
        assert_eq!(seen.header("x-rh-insights-request-id"), "request-7");
        assert_eq!(seen.header("x-rh-playbook-dispatcher-internal-request-id"), "");
    }
}

#[tokio::test]
async fn what_inventory_does_not_know_is_not_in_the_answer() {
    let case = start(Line::default()).await;
    assert_eq!(asked(&case, &[1]).await, json!([]), "404 means no hosts");
    knows(&case.inventory, &[]);
    assert_eq!(asked(&case, &[1]).await, json!([]));
    // Fewer than asked for, and others than asked for.
    knows(&case.inventory, &[(2, None, None)]);
    let expected = json!([element("none", NOBODY, "rhc_not_configured", &[2])]);
    assert_eq!(asked(&case, &[1, 2, 3]).await, expected);
    let many: Vec<Host<'_>> = (1..=60).map(|number| (number, None, Some(number))).collect();
    knows(&case.inventory, &many);
    let expected = json!([element("directConnect", &id(7), "connected", &[7])]);
    assert_eq!(asked(&case, &[7]).await, expected);
}

#[tokio::test]
async fn facts_that_are_odd_do_no_harm() {
    let case = start(Line::default()).await;
    connects(&case.sources, json!(id(31)));
    knows(
        &case.inventory,
        &[(1, Some((SATELLITE, json!(null))), Some(21)), (2, Some((SATELLITE, json!(5))), None)],
    );
    let expected = json!([
        element("satellite", &id(31), "connected", &[2]),
        element("none", NOBODY, "rhc_not_configured", &[1]),
    ]);
    assert_eq!(asked(&case, &[1, 2]).await, expected);
    // A client whose id is none: nobody is asked about it.
    let before = case.line.asked.lock().unwrap().len();
    case.inventory.replies(|seen: &Seen| {
        let profile = json!({ "id": id(3), "system_profile": { "rhc_client_id": "not-a-uuid" } });
        let host = json!({ "id": id(3), "facts": null });
        let one = if seen.path.contains("/system_profile?") { profile } else { host };
        Reply::json(200, &json!({ "results": [one] }))
    });
    let expected = json!([element("directConnect", NOBODY, "disconnected", &[3])]);
    assert_eq!(asked(&case, &[3]).await, expected);
    assert_eq!(case.line.asked.lock().unwrap().len(), before);
}

#[tokio::test]
async fn whatever_goes_wrong_with_inventory_is_a_400_without_a_body() {
    let case = start(Line::default()).await;
    let refused = (400, String::new());
    for reply in [
        Reply::json(500, &json!({})),
        Reply::json(403, &json!({})),
        Reply::json(200, &json!({ "total": 0 })),
        Reply::text(200, "{\"results\":[]}"),
        Reply::Answer(200, "application/json", "{\"results\":[".to_owned()),
        Reply::Half(200),
        Reply::Cut,
        Reply::Babble,
        Reply::Silence,
    ] {
        let said = format!("{reply:?}");
        case.inventory.replies(move |_| reply.clone());
        assert_eq!(ask(&case.service, &[id(1)]).await, refused, "{said}");
    }
    // The hosts are known, and their profiles are not: 404 counts there, too.
    for status in [404, 500] {
        case.inventory.replies(move |seen: &Seen| {
            if seen.path.contains("/system_profile?") {
                return Reply::json(status, &json!({}));
            }
            Reply::json(200, &json!({ "results": [{ "id": id(1), "facts": [] }] }))
        });
        assert_eq!(ask(&case.service, &[id(1)]).await, refused, "{status}");
    }
    // Not the id of a host: nobody is asked.
    let before = case.inventory.seen().len();
    assert_eq!(ask(&case.service, &[id(1), "no-id".to_owned()]).await, refused);
    assert_eq!(case.inventory.seen().len(), before);
    let absent = start_at(Line::default(), Some(ports::free().unwrap())).await;
    assert_eq!(ask(&absent.service, &[id(1)]).await, refused);
}

#[tokio::test]
async fn a_satellite_that_sources_does_not_know_is_left_out() {
    let case = start(Line::default()).await;
    knows(
        &case.inventory,
        &[(1, Some((SATELLITE, json!("5"))), None), (2, None, Some(21)), (3, None, None)],
    );
    let rest = json!([
        element("directConnect", &id(21), "connected", &[2]),
        element("none", NOBODY, "rhc_not_configured", &[3]),
    ]);
    let source = || json!({ "data": [{ "id": "77" }] });
    for reply in [
        Reply::json(200, &json!({ "data": [] })),
        Reply::json(200, &json!({ "data": [{ "name": "without an id" }] })),
        Reply::json(200, &json!({})),
        Reply::json(400, &json!({})),
        Reply::json(404, &json!({})),
        Reply::text(200, "{}"),
        Reply::Half(200),
        Reply::Cut,
        Reply::Babble,
        Reply::Silence,
    ] {
        let said = format!("{reply:?}");
        let first = reply.clone();
        case.sources.replies(move |_| first.clone());
        assert_eq!(asked(&case, &[1, 2, 3]).await, rest, "source: {said}");
        case.sources.replies(move |seen: &Seen| {
            let second = seen.path.ends_with("/rhc_connections");
            if second { reply.clone() } else { Reply::json(200, &source()) }
        });
        assert_eq!(asked(&case, &[1, 2, 3]).await, rest, "connection: {said}");
    }
    connects(&case.sources, json!(null));
    assert_eq!(asked(&case, &[1, 2, 3]).await, rest);
    connects(&case.sources, json!("not-a-uuid"));
    let answer = asked(&case, &[1, 2, 3]).await;
    assert_eq!(answer[0], element("satellite", NOBODY, "disconnected", &[1]));
}

#[tokio::test]
async fn a_connector_that_fails_is_one_clean_500() {
    for (client, rhc_id) in [(66, 31), (21, 66)] {
        let broken = vec![Uuid::from_u128(66)];
        let case = start(Line { broken, ..Line::default() }).await;
        knows(
            &case.inventory,
            &[(1, Some((SATELLITE, json!("5"))), None), (2, None, Some(client))],
        );
        connects(&case.sources, json!(id(rhc_id)));
        assert_eq!(ask(&case.service, &[id(1), id(2)]).await, (500, String::new()));
    }
}

#[tokio::test]
async fn the_body_is_checked_first_then_the_identity_and_no_key_is_needed() {
    let case = start(Line::default()).await;
    knows(&case.inventory, &[(1, None, None)]);
    let schema = "request body has an error: doesn't match schema \
                  #/components/schemas/HostsWithOrgId: ";
    let fifty_one: Vec<String> = (1..=51).map(id).collect();
    for (body, reason) in [
        (json!([]), "value must be an object"),
        (
            json!({ "org_id": "1", "hosts": [] }),
            "Error at \"/hosts\": minimum number of items is 1",
        ),
        (
            json!({ "org_id": "1", "hosts": fifty_one }),
            "Error at \"/hosts\": maximum number of items is 50",
        ),
        (
            json!({ "org_id": "1", "hosts": [""] }),
            "Error at \"/hosts/0\": minimum string length is 1",
        ),
        (
            json!({ "org_id": "", "hosts": ["a"] }),
            "Error at \"/org_id\": minimum string length is 1",
        ),
        (
            json!({ "org_id": "12345678901", "hosts": ["a"] }),
            "Error at \"/org_id\": maximum string length is 10",
        ),
        (json!({ "hosts": ["a"] }), "Error at \"/org_id\": property \"org_id\" is missing"),
        (json!({ "org_id": "1" }), "Error at \"/hosts\": property \"hosts\" is missing"),
        (json!({ "org_id": 1, "hosts": ["a"] }), "Error at \"/org_id\": value must be a string"),
        (json!({ "org_id": "1", "hosts": null }), "Error at \"/hosts\": Value is not nullable"),
    ] {
        let message = json!({ "message": format!("{schema}{reason}") });
        // Without an identity: the body comes first.
        let request = Client::new().post(format!("{}{PATH}", case.service.url)).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 400, "{body}");
        assert_eq!(answer.json::<Value>().await.unwrap(), message, "{body}");
    }
    let good = json!({ "org_id": TENANT, "hosts": [id(1)] });
    let request = Client::new().post(format!("{}{PATH}", case.service.url)).json(&good);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let missing = "Bad Request: missing x-rh-identity header\n";
    assert_eq!(answer.text().await.unwrap(), missing);
    assert_eq!(post(&case.service, String::new()).await, (400, String::new()));
    for kind in ["User", "System", "Cert"] {
        let request = Client::new().post(format!("{}{PATH}", case.service.url)).json(&good);
        let request = request.header("x-rh-identity", identity(kind, TENANT));
        assert_eq!(request.send().await.unwrap().status(), 200, "{kind}");
    }
}

#[tokio::test]
async fn workers_of_ours_are_there_while_they_wait() {
    let case = start(Line::default()).await;
    let worker = case.service.worker().await.unwrap();
    let client = worker.recipient.as_u128();
    knows(&case.inventory, &[(1, None, Some(client))]);
    let of = async |org_id: &str| {
        let body = json!({ "org_id": org_id, "hosts": [id(1)] });
        let request = Client::new().post(format!("{}{PATH}", case.service.url)).json(&body);
        let request = request.header("x-rh-identity", identity("User", ORG));
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer[0]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(of(ORG).await, "disconnected");
    worker.wait(0).await.unwrap();
    assert_eq!(of(ORG).await, "connected");
    assert!(case.line.asked.lock().unwrap().is_empty());
    // Nobody learns of workers of another organisation; the connector is asked as about anybody.
    of("org-2").await;
    assert_eq!(*case.line.asked.lock().unwrap(), [("org-2".to_owned(), worker.recipient)]);
}

#[tokio::test]
async fn without_inventory_or_sources_it_says_so() {
    for more in [None, Some(("INVENTORY_CONNECTOR_IMPL", "mock")), Some(("SOURCES_IMPL", "mock"))] {
        let mut variables = vec![("IDENTITY_HEADER_FROM", "loopback")];
        variables.extend(more);
        let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
        let (status, body) = ask(&service, &[id(1)]).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error_code"]), (503, &json!("not_configured")));
        assert_eq!(body["request_id"], "request-7");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains("INVENTORY_CONNECTOR_IMPL") && message.contains("SOURCES_IMPL"));
    }
}

#[tokio::test]
async fn the_mocks_answer_as_the_originals_do() {
    let variables = [
        ("IDENTITY_HEADER_FROM", "loopback"),
        ("INVENTORY_CONNECTOR_IMPL", "mock"),
        ("SOURCES_IMPL", "mock"),
        ("CLOUD_CONNECTOR_IMPL", "mock"),
    ];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let (status, body) = ask(&service, &["anything".to_owned()]).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let satellite = json!({
        "org_id": TENANT, "recipient": "d415fc2d-9700-4e30-9621-6a410ccc92d8",
        "recipient_type": "satellite", "sat_id": SATELLITE, "sat_org_id": "5",
        "status": "connected", "systems": ["c484f980-ab8d-401b-90e7-aa1d4ccf8c0e"],
    });
    let direct = json!({
        "org_id": TENANT, "recipient": "32af5948-301f-449a-a25b-ff34c83264a2",
        "recipient_type": "directConnect", "sat_id": "", "sat_org_id": "",
        "status": "connected", "systems": ["fe30b997-c15a-44a9-89df-c236c3b5c540"],
    });
    assert_eq!((status, body), (200, json!([satellite, direct])));
    let timeout = "0e97ad0d-8649-4ef1-a3aa-492024cc84bf".to_owned();
    assert_eq!(ask(&service, &[timeout]).await, (400, String::new()));
    let (_, body) = ask(&service, &["nil-satellite-version-host".to_owned()]).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body[0]["systems"], json!(["nil-satellite-version-host"]));
}
