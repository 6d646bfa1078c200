//! What is sent for what was typed.

use serde_json::{Value, json};

use crate::{
    fake::{RECIPIENT, RUN, Script},
    program::{Home, KEY, ended, fed},
};

const P: &str = "/api/playbook-dispatcher/v1";

fn idle() -> crate::fake::Fake {
    Script::new("success", []).start()
}

#[test]
fn a_file_is_stored_and_dispatched_by_its_address() {
    let (fake, home) = (idle(), Home::new());
    home.file("hello.yml", "- hosts: all\n");
    home.file("hosts", "web1\n");
    home.file("token", "s3cret\n");
    let ended = home.call(
        &fake,
        &[
            "run",
            "hello.yml",
            "-i",
            "hosts",
            "-e",
            "a=1",
            "-l",
            "web1",
            "-t",
            "x,y",
            "--skip-tags",
            "z",
            "--check",
            "--diff",
            "-vv",
            "--timeout",
            "1h",
            "--label",
            "team=a",
            "--secret",
            "t=@token",
        ],
    );
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (0, &*format!("{RUN}\n")),
        "{}",
        ended.stderr
    );
    let put = &fake.asked("PUT", &format!("{P}/playbooks/hello.yml"))[0];
    assert_eq!(put.body, b"- hosts: all\n");
    let post = &fake.asked("POST", "/internal/v2/dispatch")[0];
    assert_eq!(post.header("authorization"), Some(&*format!("PSK {KEY}")));
    assert_eq!(post.header("x-dispatcher-org"), Some("1"));
    assert_eq!(post.header("idempotency-key").unwrap().len(), 36);
    const SHA256: &str = "b5760e64952befe7cf7ff8966dd9ecdc5d901bab0b2a60dae17d495ef5786c63";
    let want = json!([{
        "recipient": RECIPIENT, "org_id": "1", "principal": "tester", "url": "http://stored.example/p",
        "name": "hello.yml", "labels": {"team": "a"}, "timeout": 3600,
        "inputs": {
            "extra_vars": {"a": "1"}, "inventory": "web1\n", "limit": "web1", "tags": ["x", "y"],
            "skip_tags": ["z"], "check": true, "diff": true, "verbosity": 2, "playbook_sha256": SHA256, "secrets": {"t": "s3cret"}
        }
    }]);
    assert_eq!(post.json(), want);
    assert!(!ended.stderr.contains("s3cret"));
}

#[test]
fn a_folder_is_sent_as_a_bundle() {
    let (fake, home) = (idle(), Home::new());
    home.file("site/main.yml", "- hosts: all\n");
    home.file("site/.git/HEAD", "x");
    let ended = home.call(&fake, &["run", "site", "--entry", "main.yml", "--name", "nightly"]);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("left out: .git"), "{}", ended.stderr);
    let put = &fake.asked("PUT", &format!("{P}/playbooks/site?entry=main.yml"))[0];
    assert_eq!((put.header("content-type"), put.body.len() % 512), (Some("application/x-tar"), 0));
    let item = &fake.asked("POST", "/internal/v2/dispatch")[0].json()[0];
    assert_eq!(item["name"], "nightly");
    assert_eq!(item["inputs"]["playbook_sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn a_url_is_dispatched_as_it_is() {
    let (fake, home) = (idle(), Home::new());
    let url = "https://playbooks.example/a/b.yml?token=x";
    let ended =
        home.call(&fake, &["run", url, "-r", "here", "--idempotency-key", "k1", "-o", "json"]);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.status, &answer["id"]), (0, &json!(RUN)));
    assert!(fake.asked("PUT", "/").is_empty());
    let post = &fake.asked("POST", "/internal/v2/dispatch")[0];
    assert_eq!(post.header("idempotency-key"), Some("k1"));
    assert_eq!((&post.json()[0]["url"], &post.json()[0]["name"]), (&json!(url), &json!("b.yml")));
}

#[test]
fn a_dispatch_whose_answer_was_cut_off_is_sent_again_under_the_same_key() {
    let fake = Script::new("success", [])
        .drops("POST", "/internal/v2/dispatch")
        .instead("POST", "/internal/v2/dispatch", 409, r#"{"message":"in flight"}"#)
        .start();
    let ended = Home::new().call(&fake, &["run", "https://p.example/p.yml", "-r", RECIPIENT]);
    assert_eq!((ended.status, ended.stdout.trim()), (0, RUN), "{}", ended.stderr);
    let keys: Vec<_> = fake
        .asked("POST", "/internal/v2/dispatch")
        .iter()
        .map(|asked| asked.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[test]
fn runs_are_listed_with_filters_and_as_data() {
    let (fake, home) = (idle(), Home::new());
    let filters =
        ["--status", "timeout", "--label", "a=b", "--recipient", "here", "--service", "s"];
    let ended = home.call(&fake, &[&["runs", "list", "--limit", "7"], &filters[..]].concat());
    let header: Vec<_> = ended.stdout.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["RUN", "STATUS", "NAME", "RECIPIENT", "AGE", "TOOK", "LABELS"]);
    assert!(ended.stdout.contains(RUN) && ended.stdout.contains("here"), "{}", ended.stdout);
    let target = &fake.asked("GET", &format!("{P}/runs?"))[0].target;
    for part in [
        "filter%5Bstatus%5D=timeout",
        "filter%5Blabels%5D%5Ba%5D=b",
        &format!("filter%5Brecipient%5D={RECIPIENT}"),
        "filter%5Bservice%5D=s",
        "limit=7&offset=0",
    ] {
        assert!(target.contains(part), "{part} in {target}");
    }
    let json = home.call(&fake, &["runs", "list", "-o", "json"]);
    let runs: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(runs[0]["id"], json!(RUN));
    let yaml = home.call(&fake, &["runs", "list", "-o", "yaml"]);
    assert!(yaml.stdout.starts_with(&format!("- id: {RUN}")), "{}", yaml.stdout);
}

#[test]
fn a_run_is_found_by_its_beginning() {
    let (fake, home) = (idle(), Home::new());
    let ended = home.call(&fake, &["runs", "get", "1A2B"]);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("hello.yml") && ended.stdout.contains("localhost"));
    let none = home.call(&fake, &["runs", "get", "ffff"]);
    assert_eq!(none.status, 1);
    assert!(none.stderr.contains("`ffff`"), "{}", none.stderr);
}

#[test]
fn cancel_says_what_became_of_each() {
    let other = "1a2b3c4d-0000-4000-8000-000000000002";
    let answer = format!(
        r#"[{{"code":202,"run_id":"{RUN}"}},{{"code":409,"run_id":"{}"}}]"#,
        uuid::Uuid::nil()
    );
    let fake =
        Script::new("success", []).instead("POST", "/internal/v2/cancel", 207, &answer).start();
    let ended = Home::new().call(&fake, &["runs", "cancel", "1a2b", other]);
    assert_eq!(ended.status, 1, "one was refused");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(lines[1].contains(RUN) && lines[1].contains("cancel requested"), "{lines:?}");
    assert!(lines[2].contains(other) && lines[2].contains("already ended"), "{lines:?}");
}

#[test]
fn contexts_are_kept_and_chosen() {
    let (fake, home) = (idle(), Home::new());
    let call = |args: &[&str]| ended(home.bare(args).output().unwrap());
    let key = home.file("key", KEY);
    let key = key.display().to_string();
    let set = call(&["context", "set", "a", "--url", &fake.url, "--org", "1", "--key-file", &key]);
    assert_eq!(set.status, 0, "{}", set.stderr);
    assert_eq!(call(&["recipients"]).status, 0);
    assert_eq!(fake.asked("GET", P)[0].header("authorization"), Some(&*format!("PSK {KEY}")));
    assert_eq!(call(&["context", "set", "b", "--url", "https://b.example"]).status, 0);
    let list = call(&["context", "list"]).stdout;
    assert!(list.lines().nth(1).unwrap().starts_with('*'), "{list}");
    assert_eq!(call(&["context", "use", "b"]).status, 0);
    assert!(call(&["context", "show"]).stdout.contains("https://b.example"));
    assert_eq!(call(&["context", "use", "c"]).status, 2);
    assert_eq!(call(&["context", "remove", "b"]).status, 0);
    assert!(!call(&["context", "list"]).stdout.contains('*'));
}

#[test]
fn a_key_that_is_typed_in_is_kept_and_never_shown() {
    let (fake, home) = (idle(), Home::new());
    let url = format!("{}/behind/a/path/", fake.url);
    let set = fed(
        &mut home.bare(&["context", "set", "a", "--url", &url, "--key-stdin"]),
        &format!("{KEY}\n"),
    );
    assert_eq!(set.status, 0, "{}", set.stderr);
    for args in [&["context", "list"][..], &["context", "show"], &["context", "list", "-o", "json"]]
    {
        // That no key is shown is checked for every call.
        assert_eq!(ended(home.bare(args).output().unwrap()).status, 0);
    }
    let missing = ended(home.bare(&["recipients"]).output().unwrap());
    assert_eq!(missing.status, 1, "nothing is at that path of the fake");
    let asked = &fake.asked("GET", "/behind/a/path/api/playbook-dispatcher/v1/recipients?")[0];
    assert_eq!(asked.header("authorization"), Some(&*format!("PSK {KEY}")));
    let wrong = fed(&mut home.bare(&["context", "set", "a", "--key-stdin"]), "two words\n");
    assert_eq!(wrong.status, 2);
    assert!(!wrong.stderr.contains("two words"), "{}", wrong.stderr);
}

#[test]
fn a_secret_comes_from_standard_input() {
    let (fake, home) = (idle(), Home::new());
    let args = ["run", "https://p.example/p.yml", "-r", RECIPIENT, "--secret", "password=-"];
    let ended = fed(&mut home.command(&fake, &args), "s3cret\n");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let item = &fake.asked("POST", "/internal/v2/dispatch")[0].json()[0];
    assert_eq!(item["inputs"]["secrets"], json!({"password": "s3cret"}));
    let twice = fed(&mut home.command(&fake, &[&args[..], &["--secret", "b=-"]].concat()), "");
    assert_eq!(twice.status, 2, "{}", twice.stderr);
}
