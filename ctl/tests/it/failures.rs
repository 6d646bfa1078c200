//! What people are told when something is wrong, and the exit status for scripts.

use serde_json::json;

use crate::{
    fake::{RUN, Script},
    program::{Ended, Home, ended},
};

fn idle() -> Script {
    Script::new("success", [])
}

#[track_caller]
fn says(ended: &Ended, status: i32, parts: &[&str]) {
    assert_eq!(ended.status, status, "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "`{part}` is not in: {}", ended.stderr);
    }
}

#[test]
fn a_dispatcher_that_is_not_there_is_named_with_where_its_address_came_from() {
    // Nobody listens there, nor comes to, as may be at a port that was free a moment ago.
    let url = "http://127.0.0.1:1";
    let home = Home::new();
    let mut command = home.bare(&["recipients"]);
    let refused = ended(command.env("DISPATCHER_URL", url).output().unwrap());
    says(&refused, 5, &[url, "DISPATCHER_URL", "refused", "is it running?"]);
    let json = json!({"url": url, "org_id": "1", "recipient": "r", "key_file": "key"});
    home.file("data/standalone.json", &json.to_string());
    home.file("data/key", "abc");
    let refused = ended(home.bare(&["recipients"]).output().unwrap());
    says(&refused, 5, &[url, "./data/standalone.json"]);
}

#[test]
fn a_refused_key_is_told_by_its_place_not_by_itself() {
    for code in [401, 403] {
        let fake = idle().instead("GET", "/", code, r#"{"message":"Forbidden"}"#).start();
        let ended = Home::new().call(&fake, &["recipients"]);
        says(&ended, 1, &["Forbidden", &code.to_string(), "came from DISPATCHER_KEY", &fake.url]);
    }
    let fake = idle().instead("GET", "/", 401, "").start();
    let home = Home::new();
    let mut command = home.bare(&["recipients"]);
    let keyless = ended(command.env("DISPATCHER_URL", &fake.url).output().unwrap());
    says(&keyless, 1, &["no key was sent"]);
}

#[test]
fn problems_show_message_code_and_request() {
    let body = r#"{"message":"no run 1","error_code":"run_not_found","request_id":"r/7"}"#;
    let fake = idle().instead("GET", "/", 404, body).start();
    let ended = Home::new().call(&fake, &["runs", "get", RUN]);
    says(&ended, 1, &["no run 1", "404", "run_not_found", "r/7"]);
    let fake = idle().instead("GET", "/", 503, r#"{"message":"later"}"#).start();
    says(&Home::new().call(&fake, &["uploads"]), 5, &["later", "503", "host/req-1"]);
    let fake = idle().instead("GET", "/", 200, "<html>a portal</html>").start();
    says(&Home::new().call(&fake, &["uploads"]), 5, &["unexpected", "is this a dispatcher"]);
    let fake = idle().instead("GET", "/", 302, "").start();
    says(&Home::new().call(&fake, &["uploads"]), 1, &["302", "leads elsewhere"]);
}

#[test]
fn answers_cannot_steer_the_terminal() {
    let fake =
        idle().instead("GET", "/", 400, "{\"message\":\"\\u001b[2Jx\\u001b]0;t\\u0007\"}").start();
    let ended = Home::new().call(&fake, &["uploads"]);
    assert!(!ended.stderr.contains('\x1b') && !ended.stderr.contains('\x07'), "{:?}", ended.stderr);
}

#[test]
fn the_choice_of_a_recipient_is_explained() {
    let recipient = |n: u8, name: &str, connected: bool| {
        json!({"id": format!("aaaaaaaa-0000-4000-8000-00000000000{n}"), "org_id": "1", "name": name,
               "connected": connected, "active_runs": 0})
    };
    let run = |recipients, args: &[&str]| {
        let mut script = idle();
        script.recipients = recipients;
        let fake = script.start();
        let ended = Home::new().call(&fake, &[&["run", "https://p.example/p.yml"], args].concat());
        assert!(fake.asked("POST", "/").is_empty(), "nothing was dispatched");
        ended
    };
    let two = json!([recipient(1, "web", true), recipient(2, "db", true)]);
    says(&run(two.clone(), &[]), 2, &["2 recipients are connected", "web", "db", "-r"]);
    says(&run(two, &["-r", "mail"]), 2, &["`mail`", "known", "web"]);
    says(&run(json!([]), &[]), 2, &["no recipient is registered"]);
    says(
        &run(json!([recipient(1, "web", false)]), &[]),
        2,
        &["no recipient is connected", "web", "away"],
    );
}

#[test]
fn a_refused_dispatch_says_why() {
    let body = r#"[{"code":404,"message":"Receipient not found"}]"#;
    let fake = idle().instead("POST", "/", 207, body).start();
    let ended = Home::new().call(&fake, &["run", "https://p.example/p.yml", "-f"]);
    says(&ended, 1, &["Receipient not found", "(here)", "dispatchctl recipients"]);
}

#[test]
fn what_is_typed_wrong_is_told_before_anything_is_sent() {
    let fake = idle().start();
    let home = Home::new();
    home.file("p.yml", "x");
    for (args, part) in [
        (&["run", "missing.yml"][..], "missing.yml"),
        (&["run", "p.yml", "-e", "novalue"], "k=v"),
        (&["run", "p.yml", "--timeout", "1w"], "1w"),
        (&["run", "p.yml", "--label", "x"], "k=v"),
        (&["run", "p.yml", "--secret", "hunter2"], "--secret"),
        (&["run", "p.yml", "--cancel-on-interrupt"], "--follow"),
        (&["runs", "list", "--status", "cancelled"], "canceled"),
        (&["runs", "list", "--limit", "201"], "200"),
        (&["runs", "get", "xyz"], "not a run"),
        (&["logs", RUN, ".."], "`..`"),
        (&["playbooks", "get", ".."], "`..`"),
        (&["nonsense"], "nonsense"),
    ] {
        let ended = home.call(&fake, args);
        says(&ended, 2, &[part]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    assert!(fake.asked("POST", "/").is_empty() && fake.asked("PUT", "/").is_empty());
}

#[test]
fn a_broken_contexts_file_is_named() {
    let home = Home::new();
    let path = home.file(".config/dispatcher/contexts.json", "{\"contexts\": {");
    let ended = ended(home.bare(&["recipients"]).output().unwrap());
    says(&ended, 2, &[&path.display().to_string(), "not valid JSON", "line 1"]);
}

#[test]
fn the_long_help_tells_exit_statuses_and_environment() {
    let help = ended(Home::new().bare(&["--help"]).output().unwrap());
    assert_eq!(help.status, 0);
    for part in ["Exit status", "130", "DISPATCHER_KEY", "NO_COLOR"] {
        assert!(help.stdout.contains(part), "{part}");
    }
}
