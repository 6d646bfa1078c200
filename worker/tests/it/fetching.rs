//! Where playbooks come from, and what is refused; ansible-runner is played.

use std::time::{Duration, Instant};

use crate::player::{Player, STATS};

/// A runner that shows what it was given.
fn shows() -> String {
    format!("echo \"$@\"; cat $DIR/project/*.yml; echo '{STATS}'")
}

async fn failure(player: &mut Player, url: &str) -> String {
    let run_id = player.dispatcher.dispatch(url, None, 600);
    let known = player.dispatcher.end_of(run_id).await;
    let (code, details) = known.error().unwrap();
    assert_eq!(code, "UNDEFINED_ERROR");
    assert_eq!(known.names(), ["executor_on_start", "executor_on_failed"]);
    details
}

fn bundle(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn playbooks_and_bundles_come_to_their_place() {
    let mut player = Player::with_runner(&shows()).await;
    player.start();
    let single = player.web.playbook("/a.yml", "- hosts: single\n");
    let tar = bundle(&[("site.yml", "- hosts: site\n"), ("roles/x/tasks/main.yml", "[]")]);
    let plain = player.web.answers("/b", &[("200 OK", "", &tar)]);
    let entry = "Content-Type: application/x-tar\r\nDispatcher-Playbook-Entry: other.yml\r\n";
    let other = bundle(&[("other.yml", "- hosts: other\n")]);
    let named = player.web.answers("/c", &[("200 OK", entry, &other)]);
    let redirect = "Location: /a.yml?x=1\r\n";
    let moved = player.web.answers("/d", &[("302 Found", redirect, b"")]);
    let busy: (&str, &str, &[u8]) = ("503 Service Unavailable", "", b"");
    let patient = player.web.answers("/e", &[busy, busy, ("200 OK", "", b"- hosts: patient\n")]);
    for (url, playbook, text) in [
        (single, "--playbook playbook.yml", "hosts: single"),
        (plain, "--playbook site.yml", "hosts: site"),
        (named, "--playbook other.yml", "hosts: other"),
        (moved, "--playbook playbook.yml", "hosts: single"),
        (patient, "--playbook playbook.yml", "hosts: patient"),
    ] {
        let run_id = player.dispatcher.dispatch(&url, None, 600);
        let log = player.dispatcher.end_of(run_id).await.log();
        assert!(log.contains(playbook) && log.contains(text), "{url}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_is_said_without_signatures() {
    let mut player = Player::with_runner(&shows()).await;
    player.config.fetch.bytes = 4096;
    player.start();
    let missing = format!("{}?signature=s3cret", player.web.url("/missing.yml"));
    let told = failure(&mut player, &missing).await;
    assert!(told.contains("/missing.yml: HTTP status 404") && !told.contains("s3cret"), "{told}");

    let long = player.web.answers("/long", &[("200 OK", "", &[b'x'; 5000])]);
    assert!(failure(&mut player, &long).await.contains("longer than 4096 bytes"));
    let zip = player.web.answers("/zip", &[("200 OK", "", b"\x1f\x8b\x08\0")]);
    assert!(failure(&mut player, &zip).await.contains("no readable tar"));
    let headers = "Dispatcher-Playbook-Entry: ../../etc/passwd\r\n";
    let evil = player.web.answers("/evil", &[("200 OK", headers, &bundle(&[("site.yml", "[]")]))]);
    assert!(failure(&mut player, &evil).await.contains("has no playbook"));
    let headers = "Content-Type: application/x-tar\r\n";
    let torn = player.web.answers("/torn", &[("200 OK", headers, b"no tar at all")]);
    assert!(failure(&mut player, &torn).await.contains("no readable tar"));
    assert!(failure(&mut player, "http://example.com/a.yml").await.contains("use https"));
    assert!(failure(&mut player, "file:///etc/passwd").await.contains("scheme file"));

    let away = player
        .web
        .answers("/away", &[("302 Found", "Location: http://example.com/x?s3cret\r\n", b"")]);
    let told = failure(&mut player, &away).await;
    assert!(told.contains("redirects elsewhere") && !told.contains("s3cret"), "{told}");
    let circle = player.web.answers("/circle", &[("302 Found", "Location: /circle\r\n", b"")]);
    assert!(failure(&mut player, &circle).await.contains("more than 3 redirects"));
    assert_eq!(player.web.count("/circle"), 4);
    player.nothing_on_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_answers_is_said_soon() {
    let mut player = Player::with_runner(&shows()).await;
    player.start();
    // Nobody listens there, nor comes to, as may be at a port that was free a moment ago.
    let free = "127.0.0.1:1";
    let begun = Instant::now();
    let told = failure(&mut player, &format!("http://{free}/a.yml")).await;
    assert!(told.contains(&format!("from http://{free}/a.yml: ")), "{told}");
    assert!(told.contains("refused"), "{told}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "it took {took:?}");
}
