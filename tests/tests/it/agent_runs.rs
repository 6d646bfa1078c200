//! The real worker executes real playbooks over HTTP: to their end, once, whoever dies meanwhile.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_tests::{
    agent_home::{AgentHome, eventually},
    home::Home,
    process::Service,
};
use dispatcher_wire::RunStatus;
use serde_json::json;

use crate::faults::executions;

/// A service with a registered worker's home beside it.
async fn home(name: &str) -> (Home, Service, AgentHome) {
    let home = Home::standalone().unwrap();
    let service = home.start().await.unwrap();
    // Not `worker`: that is the directory of the worker inside the service.
    let state = home.path().join("agent");
    let agent = AgentHome::register(&service, &state, name).await.unwrap();
    (home, service, agent)
}

/// A playbook that leaves a line in a file, prints, and works for some seconds.
fn playbook(marker: &std::path::Path, seconds: f32) -> String {
    working(marker, &format!("command: sleep {seconds}"))
}

/// The same with other work.
fn working(marker: &std::path::Path, work: &str) -> String {
    format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    \
         - name: count\n      ansible.builtin.shell: echo executed >> {0}\n    \
         - name: work\n      ansible.builtin.{work}\n    \
         - name: tell\n      ansible.builtin.debug:\n        msg: all done\n",
        marker.display()
    )
}

#[tokio::test]
async fn a_playbook_is_executed_over_http_and_seen_while_it_runs() {
    let (home, service, agent) = home("worker").await;
    let mut running = agent.start(&service, &[]).await.unwrap();
    let marker = home.path().join("marker");
    let seen = home.path().join("seen");
    let work = format!("wait_for:\n        path: {}\n        sleep: 1", seen.display());
    let url = service.put_playbook("work", working(&marker, &work)).await.unwrap();
    let inputs = json!({ "inputs": { "secrets": { "password": "hunter2" } } });
    let id = agent.dispatch(&service, &url, &inputs).await.unwrap();
    eventually("the first task", async || Ok((executions(&marker) > 0).then_some(())))
        .await
        .unwrap();
    let first = async || Ok(service.log(id, false).await?.contains("TASK [count]").then_some(()));
    eventually("it is seen", first).await.unwrap();
    assert!(!service.run(id).await.unwrap().status.is_final(), "while it goes on");
    std::fs::write(seen, "").unwrap();
    let arguments = format!("/proc/{}/cmdline", running.pid().unwrap());
    let arguments = std::fs::read_to_string(arguments).unwrap();
    let (run, log) = service.ended(id).await.unwrap();
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert!(log.contains("all done"), "{log}");
    assert_eq!(executions(&marker), 1);
    running.stop().await.unwrap();
    let identity = std::fs::read_to_string(agent.state.join("identity.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_str(&identity).unwrap();
    let (own, all) =
        (running.log(), std::fs::read_to_string(home.path().join("service.log")).unwrap());
    for secret in ["hunter2", identity["key"].as_str().unwrap()] {
        assert!(!own.contains(secret) && !all.contains(secret) && !arguments.contains(secret));
    }
}

#[tokio::test]
async fn a_killed_worker_reports_its_run_and_never_repeats_it() {
    let (home, service, agent) = home("worker").await;
    let mut running = agent.start(&service, &[]).await.unwrap();
    let marker = home.path().join("marker");
    let url = service.put_playbook("work", playbook(&marker, 3291.0)).await.unwrap();
    let id = agent.dispatch(&service, &url, &json!({})).await.unwrap();
    eventually("it runs", async || Ok((executions(&marker) > 0).then_some(()))).await.unwrap();
    running.kill().await.unwrap();
    let _again = agent.start(&service, &[]).await.unwrap();
    let (run, log) = service.ended(id).await.unwrap();
    assert_eq!(run.status, RunStatus::Failure, "{log}");
    assert_eq!(run.error.unwrap().code, "DISPATCHER_INTERRUPTED");
    assert_eq!(executions(&marker), 1);
    assert_eq!(crate::outcomes::sleepers(&["3291"]), [""; 0], "left running");
}

#[tokio::test]
async fn a_run_outlives_a_restart_of_the_service() {
    let (home, mut service, agent) = home("worker").await;
    let _running = agent.start(&service, &[]).await.unwrap();
    let marker = home.path().join("marker");
    let url = service.put_playbook("work", playbook(&marker, 3.0)).await.unwrap();
    let id = agent.dispatch(&service, &url, &json!({})).await.unwrap();
    eventually("it runs", async || Ok((executions(&marker) > 0).then_some(()))).await.unwrap();
    service.kill().await.unwrap();
    let service = home.start().await.unwrap();
    let (run, log) = service.ended(id).await.unwrap();
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert_eq!(executions(&marker), 1);
    assert!(log.contains("all done"), "{log}");
}

#[tokio::test]
async fn two_playbooks_at_a_time_and_not_three() {
    let (home, service, agent) = home("worker").await;
    let _running = agent.start(&service, &[("WORKER_CONCURRENCY", "2")]).await.unwrap();
    let gate = home.path().join("gate");
    let playbook = format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.wait_for:\n        \
         path: {}\n        timeout: 100\n",
        gate.display()
    );
    let url = service.put_playbook("gate", playbook).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(agent.dispatch(&service, &url, &json!({})).await.unwrap());
    }
    let started = async || {
        let mut count = 0;
        for id in &ids {
            count += usize::from(service.log(*id, false).await?.contains("TASK"));
        }
        Ok((count == 2).then_some(()))
    };
    eventually("two are under way", started).await.unwrap();
    let third = service.run(ids[2]).await.unwrap();
    assert!(third.pending_reason.unwrap().contains("busy"), "the third waits");
    std::fs::write(&gate, "").unwrap();
    for id in ids {
        let (run, log) = service.ended(id).await.unwrap();
        assert_eq!(run.status, RunStatus::Success, "{log}");
    }
}

#[tokio::test]
async fn without_room_nothing_is_taken_and_people_see_why() {
    let (home, service, agent) = home("worker").await;
    let full = [("WORKER_DISK_FREE_MIN", "1000000G")];
    let mut running = agent.start(&service, &full).await.unwrap();
    let marker = home.path().join("marker");
    let url = service.put_playbook("work", playbook(&marker, 0.1)).await.unwrap();
    let id = agent.dispatch(&service, &url, &json!({})).await.unwrap();
    let paused = async || Ok(agent.view(&service).await?.recipient.paused);
    let why = eventually("it says why", paused).await.unwrap();
    assert!(why.contains("WORKER_DISK_FREE_MIN"), "{why}");
    assert!(running.log().contains("nothing new is taken"), "{}", running.log());
    assert_eq!(executions(&marker), 0);
    running.stop().await.unwrap();
    let _again = agent.start(&service, &[]).await.unwrap();
    let (run, log) = service.ended(id).await.unwrap();
    assert_eq!(run.status, RunStatus::Success, "{log}");
    let cleared = async || Ok(agent.view(&service).await?.recipient.paused.is_none().then_some(()));
    eventually("it takes runs again", cleared).await.unwrap();
}

#[tokio::test]
async fn only_what_is_signed_is_executed() {
    let (home, service, agent) = home("worker").await;
    let pair = Ed25519KeyPair::generate().unwrap();
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = BASE64_STANDARD.encode([&prefix, pair.public_key().as_ref()].concat());
    let keys = home.path().join("keys.pem");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    std::fs::write(&keys, pem).unwrap();
    let signed = [("WORKER_VERIFY", "signed"), ("WORKER_VERIFY_KEYS", keys.to_str().unwrap())];
    let _running = agent.start(&service, &signed).await.unwrap();
    let marker = home.path().join("marker");
    let text = playbook(&marker, 0.1);
    let url = service.put_playbook("work", text.clone()).await.unwrap();
    let with = |signature: &[u8]| json!({ "inputs": { "playbook_signature": BASE64_STANDARD.encode(signature) } });
    let other = pair.sign(b"something else");
    for wrong in [json!({}), with(other.as_ref())] {
        let id = agent.dispatch(&service, &url, &wrong).await.unwrap();
        let (run, log) = service.ended(id).await.unwrap();
        assert_eq!(run.status, RunStatus::Failure, "{log}");
        let error = run.error.unwrap();
        assert_eq!(error.code, "ANSIBLE_PLAYBOOK_SIGNATURE_VALIDATION_FAILED", "{}", error.details);
    }
    let pinned = json!({ "inputs": { "playbook_sha256": "0".repeat(64),
        "playbook_signature": BASE64_STANDARD.encode(pair.sign(text.as_bytes())) } });
    let id = agent.dispatch(&service, &url, &pinned).await.unwrap();
    let (run, _) = service.ended(id).await.unwrap();
    assert_eq!(run.error.unwrap().code, "ANSIBLE_PLAYBOOK_SIGNATURE_VALIDATION_FAILED");
    assert_eq!(executions(&marker), 0, "nothing of these was executed");
    let right = with(pair.sign(text.as_bytes()).as_ref());
    let id = agent.dispatch(&service, &url, &right).await.unwrap();
    let (run, log) = service.ended(id).await.unwrap();
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert_eq!(executions(&marker), 1);
}
