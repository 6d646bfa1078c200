//! The lists answer the same from both databases, byte for byte: filters, fields, order, pages, links
//! and errors, for random queries over the same runs.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::runs::model::{NewRun, NewRunHost};
use dispatcher_tests::{
    postgres::Database,
    process::BASE,
    rows,
    service::{InProcess, KEY, ORG, new_run},
};
use proptest::{
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree as _,
    test_runner::TestRunner,
};
use reqwest::Client;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// How many queries are compared.
const QUERIES: usize = 250;
const RUNS: u128 = 48;

const SERVICES: [&str; 5] = ["remediations", "config_manager", "test", "tasks", "Tasks"];
const STATUSES: [&str; 5] = ["running", "success", "failure", "timeout", "canceled"];
/// Names and values of labels: whatever might be taken for a pattern, a path or a quote.
const WORDS: [&str; 10] = ["a", "A", "a.b", "$.a", "\"", "'", "\\", "%", "ä\u{2028}&<", ""];

/// One of a list, by a number.
fn nth<T: Copy>(list: &[T], number: u128) -> T {
    list[usize::try_from(number % list.len() as u128).unwrap()]
}

/// Runs that differ in everything that a list can show or filter by; some began at the same time.
fn runs() -> Vec<NewRun> {
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let run = |number: u128| {
        let hosts = (0..number % 4).map(|host| NewRunHost {
            // Not in the order of the runs.
            id: Uuid::from_u128((number * 37 + host * 11) % 1000 + 1_000_000 * (number + 1)),
            host: format!("{}{host}", nth(&WORDS, number + host)),
            inventory_id: (host != 1).then(|| Uuid::from_u128(number % 5)),
            subscription_manager_id: None,
        });
        let label = |at: u128| (nth(&WORDS, at).to_owned(), nth(&WORDS, at / 3).to_owned());
        let minutes = i64::try_from(number / 3).unwrap();
        NewRun {
            id: Uuid::from_u128(number * 7919 % 1009 + 1),
            org_id: if number % 6 == 5 { "org-2".to_owned() } else { ORG.to_owned() },
            labels: (0..number % 3).map(|at| label(number + at)).collect(),
            service: nth(&SERVICES, number).to_owned(),
            name: number.is_multiple_of(2).then(|| nth(&WORDS, number).to_owned()),
            created_at: now - Duration::minutes(minutes) - Duration::microseconds(minutes),
            // Over long ago, or not soon.
            timeout: if number % 4 == 3 { 0 } else { 86_400 },
            hosts: hosts.collect(),
            ..new_run(Uuid::from_u128(number % 7 + 1))
        }
    };
    (0..RUNS).map(run).collect()
}

/// The states that runs and hosts are put into, as statements that both databases understand.
fn states(blob: impl Fn(Uuid) -> String, runs: &[NewRun]) -> Vec<String> {
    let mut statements = Vec::new();
    for (run, number) in runs.iter().zip(0_u128..) {
        let (status, id) = (nth(&STATUSES, number / 2), blob(run.id));
        statements.push(format!("UPDATE runs SET status = '{status}' WHERE id = {id}"));
        for (host, at) in run.hosts.iter().zip(0_u128..) {
            let (status, id) = (nth(&STATUSES, number + at), blob(host.id));
            let log = format!("log {number} {at}");
            statements.push(format!(
                "UPDATE run_hosts SET status = '{status}', log = '{log}' WHERE id = {id}"
            ));
        }
    }
    statements
}

async fn both() -> [InProcess; 2] {
    let variables = [("IDENTITY_HEADER_FROM", "loopback"), ("RBAC_IMPL", "mock")];
    let sqlite = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let database = Database::migrated().await.unwrap();
    let stores = database.stores().await.unwrap();
    let postgres = InProcess::instance(stores, &variables).await.unwrap();
    let runs = runs();
    for service in [&sqlite, &postgres] {
        service.app.stores.runs.create(&runs, None, &[]).await.unwrap();
    }
    for statement in states(|id| format!("x'{}'", id.simple()), &runs) {
        assert_eq!(rows::change(&sqlite.database(), &statement).unwrap(), 1, "{statement}");
    }
    let client = database.client().await.unwrap();
    for statement in states(|id| format!("'{id}'"), &runs) {
        assert_eq!(client.execute(&statement, &[]).await.unwrap(), 1, "{statement}");
    }
    [sqlite, postgres]
}

/// A parameter, encoded.
fn pair(name: String, value: &str) -> String {
    let pairs = BTreeMap::from([(name, value)]);
    let address = reqwest::Url::parse_with_params("http://h/", pairs).unwrap();
    address.query().unwrap().to_owned()
}

/// Some form of a small UUID, now and then none.
fn uuid() -> impl Strategy<Value = String> {
    (0_u128..9, 0..5).prop_map(|(number, form)| {
        let id = Uuid::from_u128(number);
        match form {
            0 => id.simple().to_string(),
            1 => id.to_string().to_uppercase(),
            2 => id.braced().to_string(),
            3 if number == 0 => "no-uuid".to_owned(),
            _ => id.to_string(),
        }
    })
}

fn fields(known: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(select(known), 1..6)
        .prop_map(|names| pair("fields[data]".to_owned(), &names.join(",")))
}

/// A parameter that both lists know, or that none does.
fn any_parameter() -> BoxedStrategy<String> {
    let word = || select(WORDS.as_slice());
    let labels = |prefix: &'static str| {
        (word(), word()).prop_map(move |(name, value)| pair(format!("{prefix}[{name}]"), value))
    };
    let of = |name: &'static str, values: &'static [&'static str]| {
        select(values).prop_map(move |value| pair(name.to_owned(), value))
    };
    prop_oneof![
        6 => of("filter[status]", &STATUSES),
        6 => labels("filter[labels]"),
        6 => labels("filter[run][labels]"),
        4 => (1..60_i64).prop_map(|limit| pair("limit".to_owned(), &limit.to_string())),
        4 => (0..60_i64).prop_map(|offset| pair("offset".to_owned(), &offset.to_string())),
        1 => of("limit", &["0", "200", "201", "x", ""]),
        1 => of("offset", &["-1", "9223372036854775807", "1.5"]),
        1 => of("filter[status]", &["", "Running"]),
        1 => of("filter[salad]", &["x"]),
        1 => of("filter[labels][a]", &["\0"]),
        1 => of("other", &WORDS),
    ]
    .boxed()
}

fn of_runs() -> BoxedStrategy<String> {
    const FIELDS: [&str; 13] = [
        "id",
        "org_id",
        "recipient",
        "correlation_id",
        "url",
        "labels",
        "timeout",
        "status",
        "service",
        "name",
        "web_console_url",
        "created_at",
        "updated_at",
    ];
    let sort = ["created_at", "created_at:asc", "created_at:desc", "id"];
    prop_oneof![
        4 => any_parameter(),
        2 => fields(&FIELDS),
        1 => select(SERVICES.as_slice()).prop_map(|name| pair("filter[service]".into(), name)),
        1 => uuid().prop_map(|id| pair("filter[recipient]".into(), &id)),
        1 => select(sort.to_vec()).prop_map(|sort| pair("sort_by".into(), sort)),
    ]
    .boxed()
}

fn of_hosts(ids: Vec<Uuid>) -> BoxedStrategy<String> {
    const FIELDS: [&str; 6] = ["host", "run", "status", "stdout", "links", "inventory_id"];
    let run = any::<Index>()
        .prop_map(move |at| pair("filter[run][id]".into(), &at.get(&ids).to_string()));
    let service =
        || select(SERVICES.as_slice()).prop_map(|name| pair("filter[run][service]".into(), name));
    prop_oneof![
        4 => any_parameter(),
        2 => fields(&FIELDS),
        1 => service(),
        1 => run,
        1 => uuid().prop_map(|id| pair("filter[run][id]".into(), &id)),
        1 => uuid().prop_map(|id| pair("filter[inventory_id]".into(), &id)),
    ]
    .boxed()
}

/// Which list, who asks (with an identity only runs of some services are shown), and the query.
fn question() -> BoxedStrategy<(&'static str, bool, String)> {
    let query = |parameters| {
        proptest::collection::vec(parameters, 0..6).prop_map(|all: Vec<String>| all.join("&"))
    };
    let ids = runs().iter().map(|run| run.id).collect();
    prop_oneof![
        (Just("runs"), any::<bool>(), query(of_runs())),
        (Just("run_hosts"), any::<bool>(), query(of_hosts(ids))),
    ]
    .boxed()
}

async fn ask(service: &InProcess, by_identity: bool, path: &str) -> (u16, String) {
    let request = Client::new().get(format!("{}{path}", service.url));
    let request = if by_identity {
        let identity = json!({ "identity": { "type": "User", "org_id": ORG } });
        request.header("x-rh-identity", BASE64_STANDARD.encode(identity.to_string()))
    } else {
        request.header("authorization", format!("PSK {KEY}")).header("x-dispatcher-org", ORG)
    };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_answer_random_queries_alike() {
    let [sqlite, postgres] = both().await;
    let (mut runner, questions) = (TestRunner::default(), question());
    let (mut found, mut followed, mut refused, mut apart) = (0, 0, 0, Vec::new());
    for _ in 0..QUERIES {
        let (list, by_identity, query) = questions.new_tree(&mut runner).unwrap().current();
        let mut path = format!("{BASE}/{list}?{query}");
        // The first page, and those that its links lead to.
        for _ in 0..3 {
            let one = ask(&sqlite, by_identity, &path).await;
            let other = ask(&postgres, by_identity, &path).await;
            if one != other && apart.len() < 20 {
                let asked = format!("by_identity={by_identity} {path}");
                apart.push(format!("{asked}\n  SQLite: {one:?}\n  PostgreSQL: {other:?}"));
            }
            assert!([200, 400].contains(&one.0), "{path}: {one:?}");
            let page: Value = serde_json::from_str(&one.1).unwrap();
            refused += usize::from(one.0 == 400);
            found += usize::from(page["meta"]["count"].as_i64() > Some(0));
            let Some(next) = page["links"]["next"].as_str() else { break };
            followed += 1;
            path = next.to_owned();
        }
    }
    assert!(apart.is_empty(), "{}", apart.join("\n"));
    // Otherwise the test is about nothing.
    let least = QUERIES / 100;
    assert!(found > least && followed > least && refused > least, "{found} {followed} {refused}");
}
