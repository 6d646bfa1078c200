//! Worker and service are upgraded in either order: bodies as the version before sent them, and as a
//! later one may send them (with members that nobody knows yet), are understood both ways.

use dispatcher_wire::{
    execution::{
        AppendReply, ClaimReply, ClaimRequest, Doorbell, FinishReply, FinishRequest, WaitRequest,
    },
    inputs::RunInputs,
    registration::{RegisterReply, RegisterRequest},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use dispatcher_tests::service::{InProcess, new_run};
use reqwest::{Method, StatusCode};

/// What was recorded: `before` from the version before, `later` the same with unknown members.
fn recorded() -> Value {
    serde_json::from_str(include_str!("../fixtures/worker_protocol.json")).unwrap()
}

fn understood<T: DeserializeOwned>(name: &str) -> [T; 2] {
    let recorded = recorded();
    ["before", "later"].map(|age| {
        let body = recorded[age][name].clone();
        assert!(!body.is_null(), "{age} {name} is not recorded");
        serde_json::from_value(body).unwrap_or_else(|error| panic!("{age} {name}: {error}"))
    })
}

#[test]
fn every_body_is_understood_without_what_is_new_and_with_what_is_unknown() {
    for request in understood::<WaitRequest>("wait") {
        assert_eq!((request.wait_seconds, request.at_a_time), (25, 1), "one at a time, as before");
    }
    for request in understood::<ClaimRequest>("claim") {
        assert_eq!((request.claimed_by.as_str(), request.at_a_time), ("web-1", 1));
    }
    assert!(understood::<Doorbell>("doorbell").iter().all(|bell| bell.work));
    assert!(understood::<ClaimReply>("claimed").iter().all(|reply| reply.run.is_some()));
    assert!(understood::<AppendReply>("appended").iter().all(|reply| reply.next_counter == 3));
    assert!(understood::<FinishRequest>("finish").iter().all(|asked| asked.next_counter == 3));
    understood::<FinishReply>("finished");
    understood::<RegisterRequest>("register");
    understood::<RegisterReply>("registered");
}

#[test]
fn inputs_of_before_are_understood_and_unknown_ones_are_never_left_out() {
    let recorded = recorded();
    let inputs: RunInputs = serde_json::from_value(recorded["before"]["inputs"].clone()).unwrap();
    assert!(inputs.check && inputs.playbook_sha256.is_none());
    let later = serde_json::from_value::<RunInputs>(recorded["later"]["inputs"].clone());
    assert!(later.unwrap_err().to_string().contains("unknown field"));
    let said = serde_json::to_value(ClaimRequest { claimed_by: "web-1".to_owned(), at_a_time: 1 });
    assert_eq!(said.unwrap(), recorded["before"]["claim"], "what a service of before expects");
    let said = serde_json::to_value(WaitRequest { wait_seconds: 25, at_a_time: 1 });
    assert_eq!(said.unwrap(), recorded["before"]["wait"]);
    assert_eq!(serde_json::to_value(inputs).unwrap(), recorded["before"]["inputs"]);
}

#[tokio::test]
async fn a_worker_of_before_and_one_of_later_execute_runs_here() {
    for age in ["before", "later"] {
        let service = InProcess::start().await.unwrap();
        let worker = service.worker().await.unwrap();
        let bodies = recorded()[age].clone();
        service.create(new_run(worker.recipient)).await.unwrap();
        service.create(new_run(worker.recipient)).await.unwrap();
        let post = async |path: &str, body: &Value| {
            let answer = worker.request(Method::POST, path).json(body).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{age} {path}");
            answer.json::<Value>().await.unwrap()
        };
        let bell = post("execution/wait", &bodies["wait"]).await;
        assert_eq!(bell["work"], true);
        let claimed = post("execution/claim", &bodies["claim"]).await;
        assert!(claimed["run"]["run_id"].is_string(), "{claimed}");
        let second = post("execution/claim", &bodies["claim"]).await;
        assert_eq!(second["run"], json!(null), "one at a time");
    }
}
