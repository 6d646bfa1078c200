//! What the service answers is what the OpenAPI documents say: real answers of every operation, with
//! every member and every error, and no member that is not described.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::{
    connector::mock::MockConnector,
    runs::model::{NewRun, NewRunHost},
};
use dispatcher_tests::{
    process::BASE,
    rows,
    service::{InProcess, KEY, ORG, ORG_ADMIN_KEY, new_run},
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    openapi::{documents, operations},
    openapi_schema::Rules,
    runs_dispatch::{FOREIGN, item},
};

const NOT_CONNECTED: &str = "b5fbb740-5590-45a4-8240-89192dc49199";
const TIMES_OUT: &str = "b31955fb-3064-4f56-ae44-a1c488a28587";
const INVENTORY_ID: Uuid = Uuid::from_u128(0xc484_f980_ab8d_401b_90e7_aa1d_4ccf_8c0e);

/// The formats of answers. Ids are of any version, zero too; where there is no Satellite its id is empty.
fn format(name: &str, text: &str) -> bool {
    let uuid = || text.len() == 36 && Uuid::parse_str(text).is_ok();
    match name {
        "uuid" => uuid(),
        "sat-id-uuid" => text.is_empty() || uuid(),
        "url" => text.starts_with("http://") || text.starts_with("https://"),
        "date-time" => OffsetDateTime::parse(text, &Rfc3339).is_ok(),
        other => panic!("no answer has the format {other}"),
    }
}

/// The service, what it says about itself, and which answers were seen.
struct Case {
    service: InProcess,
    rules: [Rules; 2],
    seen: BTreeSet<String>,
}

async fn start() -> Case {
    let variables = [
        ("IDENTITY_HEADER_FROM", "loopback"),
        ("BLOCKLIST_ORG_IDS", "blocked"),
        ("TENANT_TRANSLATOR_IMPL", "dynamic-mock"),
        ("INVENTORY_CONNECTOR_IMPL", "mock"),
        ("SOURCES_IMPL", "mock"),
    ];
    let service = InProcess::start_connected(&variables, Arc::new(MockConnector)).await.unwrap();
    let documents = documents(&service.url).await;
    let rules = documents.map(|document| Rules { document, closed: true, format });
    Case { service, rules, seen: BTreeSet::new() }
}

fn identity(org_id: &str) -> String {
    let identity = json!({ "identity": { "type": "User", "org_id": org_id } });
    BASE64_STANDARD.encode(identity.to_string())
}

impl Case {
    /// Sends a request to an operation, and holds the answer against what its document says: the answer
    /// of this status, or else an error.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        request: RequestBuilder,
        status: u16,
    ) -> Value {
        let answer = request.send().await.unwrap();
        let (found, kind) = (answer.status().as_u16(), answer.headers()["content-type"].clone());
        let text = answer.text().await.unwrap();
        assert_eq!((found, kind.to_str().unwrap()), (status, "application/json"), "{path}: {text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        let rules = &self.rules[usize::from(path.starts_with("/internal"))];
        let told = &rules.document["paths"][path][method.as_str().to_lowercase()]["responses"];
        let told = match &told[status.to_string()] {
            Value::Null => json!({ "$ref": "#/components/schemas/Error" }),
            answer => {
                self.seen.insert(format!("{method} {path} {status}"));
                let place = answer["$ref"].as_str().map(|place| place.strip_prefix('#').unwrap());
                let answer = place.map_or(answer, |place| rules.document.pointer(place).unwrap());
                answer["content"]["application/json"]["schema"].clone()
            }
        };
        let why = rules.check(&told, &body);
        assert!(why.is_ok(), "{method} {path} {status}: {why:?}: {body}");
        body
    }

    async fn get(&mut self, path: &str, query: &str) -> Value {
        let request = self.service.request(Method::GET, &format!("{path}?{query}"));
        let request = if path.starts_with("/internal") {
            request.header("x-rh-identity", identity(ORG))
        } else {
            request
        };
        self.ask(Method::GET, path, request, 200).await
    }

    async fn post(&mut self, path: &str, body: &Value, status: u16) -> Value {
        let request = self.service.request(Method::POST, path);
        let request = request.header("x-rh-identity", identity(ORG)).json(body);
        self.ask(Method::POST, path, request, status).await
    }

    /// The names that a parameter offers for `fields[data]`.
    fn fields(&self, parameter: &str) -> Vec<String> {
        let names = &self.rules[0].document["components"]["parameters"][parameter]["schema"]["properties"]
            ["data"]["items"]["enum"];
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }
}

/// Three runs: one with everything, one without a name whose time is over, one that others may not see.
async fn three_runs(service: &InProcess) {
    let host = |name: &str, inventory_id| NewRunHost {
        id: Uuid::new_v4(),
        host: name.to_owned(),
        inventory_id,
        subscription_manager_id: None,
    };
    let hosts = vec![host("a", Some(INVENTORY_ID)), host("b", None)];
    let labels = [("a&b".to_owned(), "<1>".to_owned())].into();
    service.create(NewRun { hosts, labels, ..new_run(Uuid::new_v4()) }).await.unwrap();
    let created_at = OffsetDateTime::now_utc().truncate_to_microsecond() - Duration::hours(1);
    let expired =
        NewRun { name: None, principal: None, timeout: 0, created_at, ..new_run(Uuid::new_v4()) };
    service.create(expired).await.unwrap();
    let other = NewRun { org_id: "org-2".to_owned(), ..new_run(Uuid::new_v4()) };
    service.create(other).await.unwrap();
}

/// The members that the items of a page have.
fn members(page: &Value) -> BTreeSet<String> {
    let items = page["data"].as_array().unwrap().iter();
    items.flat_map(|item| item.as_object().unwrap().keys().cloned()).collect()
}

#[tokio::test]
async fn lists_are_as_described_with_every_member_there_is() {
    let mut case = start().await;
    three_runs(&case.service).await;
    let lists = [
        (format!("{BASE}/runs"), "RunsFields", 2),
        (format!("{BASE}/run_hosts"), "RunHostFields", 2),
        ("/internal/v2/run_hosts".to_owned(), "RunHostFields", 2),
    ];
    for (path, parameter, count) in lists {
        let names = case.fields(parameter);
        let all = case.get(&path, &format!("fields[data]={}", names.join(","))).await;
        assert_eq!(all["meta"], json!({ "count": count, "total": count }), "{path}");
        assert_eq!(members(&all), names.iter().cloned().collect(), "{path}");
        let shown = case.get(&path, "").await;
        let defaults = &case.rules[0].document["components"]["parameters"][parameter]["schema"]["properties"]
            ["data"]["default"];
        let defaults =
            defaults.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        assert_eq!(members(&shown), defaults.collect(), "{path}");
        for name in names {
            let one = case.get(&path, &format!("fields[data]={name}")).await;
            assert!(members(&one).is_subset(&[name.clone()].into()), "{path}: {name}");
        }
        // A page with both neighbours, one of nothing, and the largest.
        let page = case.get(&path, "limit=1&offset=1").await;
        assert!(page["links"]["previous"].is_string(), "{page}");
        let page = case.get(&path, "limit=1").await;
        assert!(page["links"]["next"].is_string(), "{page}");
        let page = case.get(&path, "limit=200&offset=7").await;
        assert_eq!(page["data"], json!([]));
    }
    let states = case.get(&format!("{BASE}/runs"), "fields[data]=status,name").await;
    assert_eq!(
        states["data"],
        json!([{ "name": "a test", "status": "running" }, { "status": "timeout" }])
    );
    // In every state that there is.
    for state in ["success", "failure", "canceled", "timeout"] {
        for table in ["runs", "run_hosts"] {
            let sql = format!("UPDATE {table} SET status = '{state}'");
            rows::change(&case.service.database(), &sql).unwrap();
        }
        for path in ["runs", "run_hosts"] {
            let page = case.get(&format!("{BASE}/{path}"), "fields[data]=status").await;
            assert_eq!(page["data"][0]["status"], state, "{path}");
        }
    }
}

/// The names of a filter's members, those inside of others in brackets; any label's name is `x`.
fn filters(rules: &Rules, schema: &Value, prefix: &str, found: &mut Vec<String>) {
    for (name, member) in rules.plain(schema)["properties"].as_object().unwrap() {
        let (name, member) = (format!("{prefix}[{name}]"), rules.plain(member));
        if member["properties"].is_object() {
            filters(rules, &member, &name, found);
        } else if member["type"] == "object" {
            found.push(format!("{name}[x]"));
        } else {
            found.push(name);
        }
    }
}

#[tokio::test]
async fn every_filter_that_is_described_filters_and_no_other_does() {
    let mut case = start().await;
    three_runs(&case.service).await;
    for (path, parameter, expected) in
        [("runs", "RunsFilter", 4), ("run_hosts", "RunHostFilter", 5)]
    {
        let path = format!("{BASE}/{path}");
        let mut names = Vec::new();
        let schema = &case.rules[0].document["components"]["parameters"][parameter]["schema"];
        filters(&case.rules[0], schema, "filter", &mut names);
        assert_eq!(names.len(), expected, "{names:?}");
        for name in names {
            let value = match name.as_str() {
                "filter[status]" => "canceled".to_owned(),
                name if name.ends_with("id]") || name.ends_with("recipient]") => {
                    Uuid::new_v4().to_string()
                }
                _ => "nothing".to_owned(),
            };
            let page = case.get(&path, &format!("{name}={value}")).await;
            assert_eq!(page["meta"]["total"], 0, "{name}");
        }
        let request = case.service.request(Method::GET, &format!("{path}?filter[salad]=1"));
        case.ask(Method::GET, &path, request, 400).await;
    }
}

#[tokio::test]
async fn outcomes_of_items_are_as_described() {
    let mut case = start().await;
    let satellite = json!({
        "recipient_config": { "sat_id": FOREIGN, "sat_org_id": "5" },
        "hosts": [{ "inventory_id": INVENTORY_ID }],
    });
    let dispatch = "/internal/v2/dispatch";
    let items = json!([
        item(FOREIGN, &json!({})),
        item(FOREIGN, &json!({ "org_id": "blocked" })),
        item(NOT_CONNECTED, &json!({})),
        item(TIMES_OUT, &json!({})),
        item(FOREIGN, &satellite),
    ]);
    let made = case.post(dispatch, &items, 207).await;
    let codes = |items: &Value| -> Vec<u64> {
        items.as_array().unwrap().iter().map(|item| item["code"].as_u64().unwrap()).collect()
    };
    assert_eq!(codes(&made), [201, 400, 404, 500, 201]);

    let by_account = |account: &str, recipient: &str| json!({ "account": account, "recipient": recipient, "url": "https://example.com/site.yml" });
    let items = json!([
        by_account("0000001", FOREIGN),
        by_account("1234", FOREIGN),
        by_account("1", NOT_CONNECTED),
    ]);
    let accounts = case.post("/internal/dispatch", &items, 207).await;
    assert_eq!(codes(&accounts), [201, 404, 404]);

    let cancel =
        |run: &Value, org_id: &str| json!({ "run_id": run, "org_id": org_id, "principal": "p" });
    let items = json!([
        cancel(&made[4]["id"], ORG),
        cancel(&made[0]["id"], ORG),
        cancel(&made[4]["id"], "other"),
        cancel(&json!("9200e4a3-c97c-4021-9856-82fa4673e8d2"), ORG),
    ]);
    let canceled = case.post("/internal/v2/cancel", &items, 207).await;
    assert_eq!(codes(&canceled), [202, 400, 400, 404]);
    rows::change(&case.service.database(), "UPDATE runs SET status = 'success'").unwrap();
    let late = case.post("/internal/v2/cancel", &json!([cancel(&made[4]["id"], ORG)]), 207).await;
    assert_eq!(codes(&late), [409]);
}

#[tokio::test]
async fn connections_and_the_version_are_as_described() {
    let mut case = start().await;
    let away = "411cb203-f8c9-480e-ba20-1efbc74e3a33";
    let asked = json!([
        { "recipient": away, "org_id": "5318290" }, { "recipient": FOREIGN, "org_id": "5318290" },
    ]);
    let told = case.post("/internal/v2/recipients/status", &asked, 200).await;
    let connected: Vec<&Value> =
        told.as_array().unwrap().iter().map(|one| &one["connected"]).collect();
    assert_eq!(connected, [&json!(false), &json!(true)]);
    let asked = json!({ "org_id": "5318290", "hosts": ["anything"] });
    let told = case.post("/internal/v2/connection_status", &asked, 200).await;
    let kinds: Vec<&Value> =
        told.as_array().unwrap().iter().map(|one| &one["recipient_type"]).collect();
    assert_eq!(kinds, [&json!("satellite"), &json!("directConnect")]);
    let request = Client::new().get(format!("{}/internal/version", case.service.url));
    case.ask(Method::GET, "/internal/version", request, 200).await;
}

#[tokio::test]
async fn errors_are_as_described() {
    let mut case = start().await;
    let (runs, hosts) = (format!("{BASE}/runs"), format!("{BASE}/run_hosts"));
    let with = |case: &Case, key: &str, org: &str, path: &str| {
        let request = Client::new().get(format!("{}{path}", case.service.url));
        request.header("authorization", key).header("x-dispatcher-org", org)
    };
    let (good, of_org) = (format!("PSK {KEY}"), format!("PSK {ORG_ADMIN_KEY}"));
    for path in [runs.as_str(), hosts.as_str(), "/internal/v2/run_hosts"] {
        for (key, org, query, status) in [
            (good.as_str(), ORG, "?limit=0", 400),
            (good.as_str(), ORG, "?fields[data]=salad", 400),
            ("PSK", ORG, "", 401),
            ("PSK unknown", ORG, "", 403),
            (of_org.as_str(), "org-2", "", 403),
        ] {
            let request = with(&case, key, org, &format!("{path}{query}"));
            let on_behalf = path.starts_with("/internal").then(|| identity(org));
            let request =
                on_behalf.into_iter().fold(request, |it, who| it.header("x-rh-identity", who));
            case.ask(Method::GET, path, request, status).await;
        }
        let wrong = case.service.request(Method::DELETE, path);
        case.ask(Method::DELETE, path, wrong, 404).await;
    }
    for path in ["/internal/nothing", &format!("{BASE}/nothing")] {
        let request = case.service.request(Method::GET, path);
        case.ask(Method::GET, path, request, 404).await;
    }
    let bodies: Vec<String> = operations(&case.rules[1].document)
        .into_iter()
        .filter(|(_, _, operation)| operation["requestBody"].is_object())
        .map(|(_, path, _)| path)
        .collect();
    for path in &bodies {
        case.post(path, &json!([{}]), 400).await;
        let large = case.service.request(Method::POST, path).body("x".repeat(600_000));
        case.ask(Method::POST, path, large, 413).await;
    }
    let wanted = json!([{ "recipient": FOREIGN, "org_id": ORG }]);
    let path = "/internal/v2/recipients/status";
    for (key, status) in [("PSK", 401), ("PSK unknown", 403)] {
        let request = Client::new().post(format!("{}{path}", case.service.url)).json(&wanted);
        case.ask(Method::POST, path, request.header("authorization", key), status).await;
    }
    let without =
        InProcess::start_with(&[("IDENTITY_HEADER_FROM", "loopback")], |stores| stores).await;
    case.service = without.unwrap();
    let path = "/internal/v2/connection_status";
    let error = case.post(path, &json!({ "org_id": ORG, "hosts": ["h"] }), 503).await;
    assert_eq!(error["error_code"], "not_configured");
    // Of every error that is described, a real one was seen.
    let told = |index: usize| {
        let all = operations(&case.rules[index].document).into_iter();
        all.flat_map(|(method, path, operation)| {
            let codes = operation["responses"].as_object().unwrap().keys().cloned();
            codes.map(move |code| format!("{method} {path} {code}")).collect::<Vec<_>>()
        })
    };
    let errors = told(0).chain(told(1)).filter(|place| place.contains(" 4"));
    assert_eq!(case.seen, errors.collect());
}
