//! Output to the end, across cuts, and the outcome as exit status.

use std::io::Read;

use crate::{
    fake::{RUN, Script, Stream},
    program::{Home, ended},
};

const LINES: &[u8] = b"PLAY [all] ***\nok: [localhost]\n";

fn run_to_the_end(outcome: &'static str) -> i32 {
    let fake = Script::new(outcome, [Stream::Whole(LINES.to_vec())]).start();
    let home = Home::new();
    home.file("hello.yml", "- hosts: all\n");
    let ended = home.call(&fake, &["run", "hello.yml", "--follow"]);
    assert_eq!(ended.stdout.as_bytes(), LINES, "plain when piped");
    let want = format!("{outcome} after 2.5s  (localhost {outcome})");
    assert!(ended.stderr.contains(&want), "{}", ended.stderr);
    ended.status
}

#[test]
fn the_outcome_is_the_exit_status() {
    assert_eq!(run_to_the_end("success"), 0);
    assert_eq!(run_to_the_end("failure"), 1);
    assert_eq!(run_to_the_end("canceled"), 3);
    assert_eq!(run_to_the_end("timeout"), 4);
}

#[test]
fn a_cut_stream_is_taken_up_where_it_was_cut() {
    let streams = [
        Stream::Cut(b"TASK [a".to_vec()),
        Stream::Cut(b"] ***\nok: ".to_vec()),
        Stream::Whole(b"[h]\n".to_vec()),
        Stream::Whole(b"last\n".to_vec()),
    ];
    let fake = Script::new("success", streams).start();
    let ended = Home::new().call(&fake, &["logs", "-f", RUN]);
    assert_eq!((ended.status, ended.stdout.as_str()), (0, "TASK [a] ***\nok: [h]\nlast\n"));
    let path = format!("/api/playbook-dispatcher/v1/runs/{RUN}/log");
    let asked: Vec<_> = fake.asked("GET", &path).into_iter().map(|asked| asked.target).collect();
    let from = |byte: u64| format!("{path}?from={byte}&follow=true");
    assert_eq!(asked, [from(0), from(7), from(17), from(21)]);
    assert!(ended.stderr.contains("going on from byte 7"), "{}", ended.stderr);
}

#[test]
fn a_stream_that_cannot_be_taken_up_ends_with_where_to_go_on() {
    let streams = (0..3).map(|_| Stream::Cut(Vec::new()));
    let mut script = Script::new("success", streams);
    script.streams.push_front(Stream::Cut(b"one\n".to_vec()));
    let fake = script.start();
    let ended = Home::new().call(&fake, &["logs", "-f", RUN, "--retries", "1"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (5, "one\n"));
    assert!(ended.stderr.contains(&format!("logs -f --from 4 {RUN}")), "{}", ended.stderr);
}

#[test]
fn stored_output_is_printed_from_where_it_is_asked_for() {
    let fake =
        Script::new("success", [Stream::Cut(b"cd".to_vec()), Stream::Whole(b"ef\n".to_vec())]);
    let fake = fake.start();
    let ended = Home::new().call(&fake, &["logs", RUN, "web1", "--from", "2"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (0, "cdef\n"));
    let asked =
        fake.asked("GET", &format!("/api/playbook-dispatcher/v1/runs/{RUN}/hosts/web1/log"));
    assert!(asked[0].target.ends_with("?from=2") && asked[1].target.ends_with("?from=4"));
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let many = b"ok: [localhost]\n".repeat(200_000);
    let fake = Script::new("success", [Stream::Whole(many)]).start();
    let mut child = Home::new().command(&fake, &["logs", RUN]).spawn().unwrap();
    let mut head = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!((ended.status, ended.stderr.as_str()), (141, ""));
}

#[test]
fn a_listing_into_a_closed_pipe_does_not_panic() {
    let fake = Script::new("success", []).start();
    for args in [&["runs", "list"][..], &["completion", "bash"], &["recipients", "-o", "json"]] {
        // Its reader has left before it begins.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = ended(Home::new().command(&fake, args).stdout(writer).output().unwrap());
        assert_eq!((ended.status, ended.stderr.as_str()), (141, ""), "{args:?}");
    }
}

#[test]
fn data_at_the_end_leaves_standard_output_to_itself() {
    let fake = Script::new("failure", [Stream::Whole(LINES.to_vec())]).start();
    let ended = Home::new().call(&fake, &["logs", "-f", RUN, "-o", "json"]);
    let run: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (ended.status, &run["status"], &run["hosts"][0]["host"]),
        (1, &"failure".into(), &"localhost".into())
    );
    assert!(ended.stderr.contains("ok: [localhost]"));
}

#[test]
fn colours_are_for_those_who_ask() {
    let always = Script::new("success", [Stream::Whole(LINES.to_vec())]).start();
    let ended = Home::new().call(&always, &["logs", RUN, "--color", "always"]);
    assert_eq!(ended.stdout, "\x1b[1mPLAY [all] ***\x1b[0m\n\x1b[32mok: [localhost]\x1b[0m\n");
}
