//! What belongs to one run does nothing for another: the token of its uploads, the link of its
//! playbook, its claim. (An upload that carries another run's events is in `uploads`.)

use dispatcher_api::uploads::token::{self, Bearer};
use dispatcher_tests::{
    process::BASE,
    service::{InProcess, ORG},
    worker::{self, ScriptedWorker, lines, printed},
};
use dispatcher_wire::{
    execution::{CLAIM_HEADER, ClaimedRun, FIRST_COUNTER_HEADER},
    view::PlaybookView,
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::runs_dispatch::item;

/// A worker that holds a run of a stored playbook, and has begun it.
async fn holding(service: &InProcess, name: &str) -> (ScriptedWorker, ClaimedRun) {
    let put = service.request(Method::PUT, &format!("{BASE}/playbooks/{name}"));
    let put = put.body(format!("- hosts: all\n  name: {name}\n")).send().await.unwrap();
    let playbook: PlaybookView = put.error_for_status().unwrap().json().await.unwrap();
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    let body = json!([item(worker.recipient, &json!({ "url": playbook.url }))]);
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(&body);
    let created: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(created[0]["code"], 201, "{created}");
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    (worker, run)
}

/// The token with which uploads of a run are sent.
fn upload_token(service: &InProcess, run: &ClaimedRun) -> String {
    let bearer = Bearer { run_id: run.run_id, org_id: ORG.to_owned() };
    let expires = OffsetDateTime::now_utc() + time::Duration::HOUR;
    token::issue(&service.app.keyring, &bearer, expires)
}

async fn refused_all(requests: Vec<(&str, RequestBuilder)>) {
    for (what, request) in requests {
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(
            [400, 401, 403, 404, 409].contains(&status.as_u16()),
            "{what}: {status}: {}",
            answer.text().await.unwrap()
        );
    }
}

#[tokio::test]
async fn what_belongs_to_one_run_does_nothing_for_another() {
    let service = InProcess::start().await.unwrap();
    let (own_worker, own) = holding(&service, "own").await;
    let (_other_worker, other) = holding(&service, "other").await;
    let (client, token) = (Client::new(), upload_token(&service, &own));
    let (content, link) = other.url.split_once('?').unwrap();
    let (_, own_link) = own.url.split_once('?').unwrap();
    assert_ne!(link, own_link);
    let at = |path: &str| format!("{}{BASE}/runs/{}/{path}", service.url, other.run_id);
    let events = || lines(&[printed("a", "forged")]).unwrap();
    let append = |request: RequestBuilder| request.header(FIRST_COUNTER_HEADER, "1").body(events());
    let claim = own.claim.to_string();
    let as_worker = |method: Method, path: &str| {
        own_worker.request(method, &format!("runs/{}/{path}", other.run_id))
    };
    let finish = json!({ "next_counter": 1 });
    let refused: Vec<(&str, RequestBuilder)> = vec![
        ("the link's signature, another playbook", client.get(format!("{content}?{own_link}"))),
        ("an upload token in place of a signature", client.get(format!("{content}?token={token}"))),
        ("a link's signature, an upload", {
            let url = format!("{}/api/ingress/v1/upload?{own_link}", service.url);
            client.post(url).body("x")
        }),
        ("an upload token, the log", client.get(at(&format!("log?token={token}")))),
        ("an upload token as a bearer, the log", client.get(at("log")).bearer_auth(&token)),
        ("an upload token, events", append(client.post(at(&format!("events?token={token}"))))),
        (
            "an upload token as a bearer, events",
            append(client.post(at("events")).bearer_auth(&token)),
        ),
        ("an upload token as a bearer, inputs", client.get(at("inputs")).bearer_auth(&token)),
        (
            "the claim, events",
            append(as_worker(Method::POST, "events").header(CLAIM_HEADER, &claim)),
        ),
        ("the claim, inputs", as_worker(Method::GET, "inputs").header(CLAIM_HEADER, &claim)),
        ("the claim, the end", {
            as_worker(Method::POST, "finish").header(CLAIM_HEADER, &claim).json(&finish)
        }),
        ("the other's claim by another recipient, events", {
            append(as_worker(Method::POST, "events").header(CLAIM_HEADER, other.claim.to_string()))
        }),
        ("the other's claim by another recipient, the end", {
            let request = as_worker(Method::POST, "finish");
            request.header(CLAIM_HEADER, other.claim.to_string()).json(&finish)
        }),
    ];
    refused_all(refused).await;
    for run in [&own, &other] {
        let detail = service.app.stores.runs.get(ORG, run.run_id).await.unwrap().unwrap();
        assert!(!detail.run.status.is_final());
        let log = service.request(Method::GET, &format!("{BASE}/runs/{}/log", run.run_id));
        assert_eq!(log.send().await.unwrap().text().await.unwrap(), "");
    }
    // What is one's own still works.
    own_worker.append(&own, 1, &[printed("a", "own")]).await.unwrap();
    assert!(client.get(&own.url).send().await.unwrap().status().is_success());
}
