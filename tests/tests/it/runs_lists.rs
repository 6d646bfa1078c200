//! The lists of runs and run hosts over the real router: exact answers, filters, fields, links, and
//! what is refused.

use std::collections::BTreeMap;

use dispatcher_api::runs::model::{NewRun, NewRunHost};
use dispatcher_tests::{
    process::BASE,
    rows,
    service::{InProcess, KEY, ORG, new_run},
    worker,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

const RECIPIENT: Uuid = Uuid::from_u128(0xdd01_8b96_da04_4651_84d1_187f_a5c2_3f6c);
const INVENTORY_ID: Uuid = Uuid::from_u128(0xc484_f980_ab8d_401b_90e7_aa1d_4ccf_8c0e);

/// A run that began so many seconds ago, with an id of that number.
fn aged(number: u128, seconds: i64) -> NewRun {
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let created_at = now - Duration::seconds(seconds);
    NewRun { id: Uuid::from_u128(number), created_at, ..new_run(RECIPIENT) }
}

fn host(name: &str, inventory_id: Option<Uuid>) -> NewRunHost {
    let (host, subscription_manager_id) = (name.to_owned(), None);
    NewRunHost { id: Uuid::new_v4(), host, inventory_id, subscription_manager_id }
}

async fn get_as(service: &InProcess, org_id: &str, list: &str, query: &str) -> (StatusCode, Value) {
    let request = reqwest::Client::new()
        .get(format!("{}{BASE}/{list}?{query}", service.url))
        .header("authorization", format!("PSK {KEY}"))
        .header("x-dispatcher-org", org_id);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn get(service: &InProcess, list: &str, query: &str) -> Value {
    let (status, body) = get_as(service, ORG, list, query).await;
    assert_eq!(status, StatusCode::OK, "{query}: {body}");
    body
}

/// The numbers of the runs a query finds, in order.
async fn found(service: &InProcess, query: &str) -> Vec<u128> {
    let body = get(service, "runs", &format!("fields[data]=id&{query}")).await;
    let data = body["data"].as_array().unwrap();
    assert_eq!(body["meta"]["count"], json!(data.len()));
    let id = |run: &Value| run["id"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128();
    data.iter().map(id).collect()
}

async fn refusal(service: &InProcess, list: &str, query: &str) -> String {
    let (status, body) = get_as(service, ORG, list, query).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_item_is_exactly_the_contracts() {
    let service = InProcess::start().await.unwrap();
    let created_at =
        OffsetDateTime::UNIX_EPOCH + Duration::days(60_000) + Duration::microseconds(120);
    let labels = BTreeMap::from([("a&b".to_owned(), "<1>".to_owned())]);
    let hosts = vec![host("b", None), host("a", Some(INVENTORY_ID))];
    let run = NewRun { created_at, labels, hosts, ..aged(1, 0) };
    let correlation_id = run.correlation_id;
    service.create(run).await.unwrap();

    let request = service.request(Method::GET, &format!("{BASE}/runs"));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let id = Uuid::from_u128(1);
    let expected = format!(
        "{{\"data\":[{{\"id\":\"{id}\",\"labels\":{{\"a\\u0026b\":\"\\u003c1\\u003e\"}},\
         \"org_id\":\"{ORG}\",\"recipient\":\"{RECIPIENT}\",\"status\":\"running\",\
         \"timeout\":3600,\"url\":\"https://example.com/site.yml\"}}],\
         \"links\":{{\"first\":\"{BASE}/runs?limit=50\\u0026offset=0\",\
         \"last\":\"{BASE}/runs?limit=50\\u0026offset=0\"}},\
         \"meta\":{{\"count\":1,\"total\":1}}}}\n"
    );
    assert_eq!(answer.text().await.unwrap(), expected);

    let all = "fields[data]=web_console_url,updated_at,service,name&fields[data]=created_at,\
               correlation_id,name";
    let body = get(&service, "runs", all).await;
    let expected = json!({
        "correlation_id": correlation_id, "created_at": "2134-04-11T00:00:00.00012Z",
        "name": "a test", "service": "test", "updated_at": "2134-04-11T00:00:00.00012Z",
        "web_console_url": "https://example.com/runs",
    });
    assert_eq!(body["data"][0].to_string(), expected.to_string());

    let body = get(&service, "run_hosts", "").await;
    let of = |host: &Value| host["host"].as_str().unwrap().to_owned();
    let mut hosts = body["data"].as_array().unwrap().clone();
    hosts.sort_by_key(of);
    let expected = |name: &str| json!({"host": name, "run": {"id": id}, "status": "running"});
    assert_eq!(hosts, [expected("a"), expected("b")]);
    let all = "fields[data]=links,inventory_id,stdout&filter[inventory_id]=";
    let body = get(&service, "run_hosts", &format!("{all}{INVENTORY_ID}")).await;
    let expected = json!([{
        "inventory_id": INVENTORY_ID,
        "links": {"inventory_host": format!("/api/inventory/v1/hosts/{INVENTORY_ID}")},
        "stdout": "",
    }]);
    assert_eq!(body["data"].to_string(), expected.to_string());
}

#[tokio::test]
async fn runs_are_sorted_and_paged_with_links() {
    let service = InProcess::start().await.unwrap();
    let at = OffsetDateTime::now_utc().truncate_to_microsecond();
    for number in [3, 1, 2] {
        let run = NewRun { created_at: at, ..aged(number, 0) };
        service.create(run).await.unwrap();
    }
    service.create(aged(4, 60)).await.unwrap();
    assert_eq!(found(&service, "").await, [1, 2, 3, 4], "ties by id");
    assert_eq!(found(&service, "sort_by=created_at:asc").await, [4, 1, 2, 3]);
    assert_eq!(found(&service, "limit=2&offset=1").await, [2, 3]);
    assert_eq!(found(&service, "offset=4").await, [0_u128; 0]);

    let body = get(&service, "runs", "sort_by=created_at&offset=2&limit=1&x=%C3%A9").await;
    let link =
        |offset: u32| format!("{BASE}/runs?limit=1&offset={offset}&sort_by=created_at&x=%C3%A9");
    let expected = json!({"first": link(0), "last": link(3), "next": link(3), "previous": link(1)});
    assert_eq!(body["links"], expected);
    assert_eq!(body["meta"], json!({"count": 1, "total": 4}));
    let (_, others) = get_as(&service, "other", "runs", "").await;
    assert_eq!((&others["data"], &others["meta"]["total"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn filters_are_anded_and_expiry_counts_at_once() {
    let service = InProcess::start().await.unwrap();
    let label = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    service
        .create(NewRun { labels: label(&[("a", "1"), ("b", "2")]), ..aged(1, 1) })
        .await
        .unwrap();
    service
        .create(NewRun { labels: label(&[("a", "1")]), timeout: 10, ..aged(2, 60) })
        .await
        .unwrap();
    let other = Uuid::from_u128(77);
    let service_name = "tasks".to_owned();
    service
        .create(NewRun { recipient: other, service: service_name, ..aged(3, 120) })
        .await
        .unwrap();
    rows::change(&service.database(), "UPDATE runs SET status = 'success' WHERE service = 'tasks'")
        .unwrap();
    for (query, expected) in [
        ("filter[status]=running", vec![1]),
        ("filter[status]=timeout", vec![2]),
        ("filter[status]=success", vec![3]),
        ("filter[status]=canceled", vec![]),
        ("filter[service]=tasks", vec![3]),
        ("filter[recipient]=", vec![1, 2, 3]),
        ("filter[recipient]=0000000000000000000000000000004D", vec![3]),
        ("filter[recipient]=urn:uuid:00000000-0000-0000-0000-00000000004d", vec![3]),
        ("filter[labels][a]=1", vec![1, 2]),
        ("filter[labels][a]=1&filter[labels][b]=2", vec![1]),
        ("filter[labels][a]=2&filter[labels][a]=1", vec![1, 2]),
        ("filter[labels][a]=1&filter[status]=timeout", vec![2]),
        ("filter[labels][1]=a", vec![]),
        ("filter[run][id]=x&filter[run][salad]=1&fields[salad]=x", vec![1, 2, 3]),
    ] {
        assert_eq!(found(&service, query).await, expected, "{query}");
    }
    let body = get(&service, "runs", "filter[status]=timeout").await;
    assert_eq!(body["data"][0]["status"], "timeout", "shown before the cleaner was there");
}

#[tokio::test]
async fn host_filters_look_at_the_run_where_the_contract_says() {
    let service = InProcess::start().await.unwrap();
    let hosts = |name: &str| vec![host(name, None)];
    let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    service.create(NewRun { hosts: hosts("one"), labels, ..aged(1, 1) }).await.unwrap();
    let expired = NewRun { hosts: hosts("two"), timeout: 10, ..aged(2, 60) };
    service.create(NewRun { service: "tasks".to_owned(), ..expired }).await.unwrap();
    let names = async |query: &str| {
        let body = get(&service, "run_hosts", &format!("fields[data]=host,status&{query}")).await;
        let mut names: Vec<String> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|host| {
                format!("{} {}", host["host"].as_str().unwrap(), host["status"].as_str().unwrap())
            })
            .collect();
        names.sort_unstable();
        names
    };
    let (one, two) = ("one running", "two running");
    for (query, expected) in [
        ("", vec![one, two]),
        ("filter[status]=running", vec![one]),
        ("filter[status]=timeout", vec![two]),
        ("filter[status]=success", vec![]),
        ("filter[run][id]=00000000000000000000000000000002", vec![two]),
        ("filter[run][service]=tasks", vec![two]),
        ("filter[run][labels][a]=1", vec![one]),
        ("filter[run][labels][a]=1&filter[run][service]=tasks", vec![]),
        ("filter[labels][a]=2", vec![one, two]),
    ] {
        assert_eq!(names(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn bad_queries_are_refused_in_the_contracts_words() {
    const REPEATED: &str = "Invalid format for parameter limit: \
                            multiple values for single value parameter 'limit'";
    let service = InProcess::start().await.unwrap();
    service.create(aged(1, 0)).await.unwrap();
    for (query, message) in [
        ("filter[recipient]=x", "Unable to parse recipient!"),
        ("fields[data]=id,salad", "unknown field: salad"),
        ("fields[data]=", "unknown field: "),
        ("fields[data]=account", "unknown field: account"),
        ("filter[recipient]=x&fields[data]=salad", "unknown field: salad"),
        ("fields[data]=salad&limit=1&limit=1", REPEATED),
        ("limit=1&limit=1&sort_by=created_at", REPEATED),
        (
            "filter[salad]=1",
            "Invalid format for parameter filter: error assigning value to destination: \
             field [salad] is not present in destination object",
        ),
        ("limit=201", "parameter \"limit\" in query has an error: number must be at most 200"),
        (
            "filter[salad]=1&limit=0",
            "parameter \"limit\" in query has an error: number must be at least 1",
        ),
        (
            "filter[status]=cancelled&sort_by=id",
            "parameter \"filter\" in query has an error: Error at \"/status\": value is not one of \
             the allowed values [\"running\",\"success\",\"failure\",\"timeout\",\"canceled\"]",
        ),
        (
            "sort_by=id&limit=0",
            "parameter \"sort_by\" in query has an error: value is not one of the allowed values \
             [\"created_at\",\"created_at:asc\",\"created_at:desc\"]",
        ),
    ] {
        assert_eq!(refusal(&service, "runs", query).await, message, "{query}");
    }
    for query in [
        "filter[status]=",
        "filter[status]=cancelled",
        "filter[service]=",
        "filter[labels]=x",
        "filter[labels][a]=%00",
        "sort_by=id",
        "limit=0",
        "offset=-1",
        "limit=1&limit=1",
    ] {
        refusal(&service, "runs", query).await;
    }
    let unreadable = "Unable to parse inventory id!";
    for (query, message) in [
        ("filter[inventory_id]=x", unreadable),
        ("filter[inventory_id]=", unreadable),
        ("filter[run][id]=x", "Unable to parse run id!"),
        ("filter[run][id]=", "Unable to parse run id!"),
        ("fields[data]=url", "unknown field: url"),
    ] {
        assert_eq!(refusal(&service, "run_hosts", query).await, message, "{query}");
    }
    refusal(&service, "run_hosts", "filter[run][id]=x&filter[run][id]=x").await;
    refusal(&service, "run_hosts", "filter[run][service]=%00").await;
}

#[tokio::test]
async fn a_database_that_fails_is_a_500_that_says_nothing_of_it() {
    let service = InProcess::start().await.unwrap();
    rows::change(&service.database(), "ALTER TABLE runs RENAME TO away").unwrap();
    for list in ["runs", "run_hosts"] {
        let (status, body) = get_as(&service, ORG, list, "").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body, json!({"message": "Internal Server Error"}));
    }
}

#[tokio::test]
async fn output_of_an_open_run_is_shown_up_to_a_limit_and_says_so() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    let hosts = vec![host("one", None)];
    service.create(NewRun { hosts, ..new_run(worker.recipient) }).await.unwrap();
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    worker.append(&run, 1, &[worker::printed("one", "hello")]).await.unwrap();
    let stdout = async |limit: u32| {
        let query = format!("fields[data]=stdout&limit={limit}");
        let body = get(&service, "run_hosts", &query).await;
        body["data"][0]["stdout"].as_str().unwrap().to_owned()
    };
    assert_eq!(stdout(50).await, "hello\n");
    let line = "x".repeat(200_000);
    for counter in 2..9 {
        worker.append(&run, counter, &[worker::printed("one", &*line)]).await.unwrap();
    }
    let shown = stdout(50).await;
    let budget = 64 * 1024 * 1024;
    assert!(shown.len() <= budget / 50 && shown.len() > 1_300_000, "{} bytes", shown.len());
    assert!(shown.starts_with("hello\nx") && shown.ends_with("x\n"));
    assert!(shown.contains("bytes are left out here, the run's own log has all]"));
    assert!(stdout(200).await.len() <= budget / 200);
    assert_eq!(stdout(40).await.len(), 6 + 7 * 200_001, "whole where it fits");
}
