//! Keys of services, the audit log, and who one is.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::{
    fake::Script,
    program::{Home, KEY},
};

const P: &str = "/api/playbook-dispatcher/v1";
const SECRET: &str = "abcd1234SECRETsecretSECRETsecretSECRET000000";

fn key(id: &str) -> Value {
    json!({"id": id, "service": "tasks", "role": "operator", "org_id": "1", "source": "database",
           "state": "live", "created_at": "2026-01-01T00:00:00Z", "created_by": "service:ops"})
}

fn made() -> String {
    json!({"secret": SECRET, "key": key("abcd1234"), "replaces": key("old12345"), "auth_version": 7})
        .to_string()
}

fn confirmed(live: u64, in_force: u64, trackers: u64) -> String {
    json!({"version": 7, "instances": {"live": live, "in_force": in_force},
           "trackers": {"live": 1, "in_force": trackers}})
    .to_string()
}

fn script() -> Script {
    Script::new("success", [])
}

#[test]
fn a_new_key_is_on_standard_output_alone() {
    let (fake, home) =
        (script().instead("POST", &format!("{P}/keys"), 201, &made()).start(), Home::new());
    let ended = home.call(&fake, &["keys", "create", "--service", "tasks", "--role", "admin"]);
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (0, &*format!("{SECRET}\n")),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("made abcd1234") && !ended.stderr.contains(SECRET));
    let asked = fake.asked("POST", &format!("{P}/keys"))[0].json();
    assert_eq!(
        (&asked["service"], &asked["role"], &asked["org_id"]),
        (&json!("tasks"), &json!("admin"), &json!("1"))
    );
    assert_eq!(asked["id"].as_str().unwrap().len(), 8);
    assert!(asked.get("all_orgs").is_none());
}

#[test]
fn a_new_key_goes_to_a_private_file() {
    let (fake, home) =
        (script().instead("POST", &format!("{P}/keys"), 201, &made()).start(), Home::new());
    let create = ["keys", "create", "--service", "tasks", "--all-orgs", "--output-file", "new-key"];
    let ended = home.call(&fake, &create);
    assert_eq!((ended.status, ended.stdout.as_str()), (0, ""), "{}", ended.stderr);
    let path = home.dir.path().join("new-key");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{SECRET}\n"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let asked = fake.asked("POST", &format!("{P}/keys"))[0].json();
    assert_eq!((&asked["all_orgs"], asked.get("org_id")), (&json!(true), None));
    let again = home.call(&fake, &create);
    assert_eq!(again.status, 2, "{}", again.stderr);
    assert_eq!(fake.asked("POST", &format!("{P}/keys")).len(), 1, "no key without a place for it");
    let failing = ["keys", "create", "--service", "tasks", "--output-file", "other"];
    assert_ne!(home.call(&fake, &failing).status, 0);
    assert!(!home.dir.path().join("other").exists());
}

#[test]
fn a_key_whose_answer_was_lost_is_revoked() {
    let revoked = json!({"key": key("abcd1234"), "auth_version": 8}).to_string();
    let fake = script()
        .drops("POST", &format!("{P}/keys"))
        .instead("DELETE", &format!("{P}/keys/"), 200, &revoked)
        .start();
    let ended = Home::new().call(&fake, &["keys", "create", "--service", "tasks"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (5, ""));
    assert!(ended.stderr.contains("is revoked again"), "{}", ended.stderr);
    let id = fake.asked("POST", &format!("{P}/keys"))[0].json()["id"].as_str().unwrap().to_owned();
    assert_eq!(fake.asked("DELETE", &format!("{P}/keys/{id}")).len(), 1);
    assert_eq!(fake.asked("POST", &format!("{P}/keys")).len(), 1, "not sent twice");
}

#[test]
fn a_rotation_waits_until_it_is_in_force() {
    let fake = script()
        .instead("POST", &format!("{P}/keys/old12345/rotate"), 201, &made())
        .instead("GET", &format!("{P}/auth/confirmations?version=7"), 200, &confirmed(4, 2, 1))
        .instead("GET", &format!("{P}/auth/confirmations?version=7"), 200, &confirmed(4, 4, 1))
        .start();
    let ended = Home::new().call(&fake, &["keys", "rotate", "old12345", "--overlap", "1h"]);
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (0, &*format!("{SECRET}\n")),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("in force on 4 of 4 instances"), "{}", ended.stderr);
    assert_eq!(fake.asked("POST", P)[0].json()["overlap_seconds"], 3600);
}

#[test]
fn a_revocation_that_nobody_confirms_fails() {
    let revoked = json!({"key": key("abcd1234"), "auth_version": 7}).to_string();
    let mut script = script().instead("DELETE", &format!("{P}/keys/abcd1234"), 200, &revoked);
    for _ in 0..100 {
        script = script.instead("GET", &format!("{P}/auth/"), 200, &confirmed(4, 0, 0));
    }
    let ended = Home::new().call(&script.start(), &["keys", "revoke", "abcd1234"]);
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains("revoked abcd1234"), "{}", ended.stderr);
    assert!(ended.stderr.contains("0 of 4 instances"), "{}", ended.stderr);
}

#[test]
fn keys_and_the_log_are_tables() {
    let page = |rows: Value| {
        let count = rows.as_array().unwrap().len();
        json!({"data": rows, "meta": {"count": count, "total": 9}}).to_string()
    };
    let row = json!({"id": 1, "at": "2026-01-01T00:00:00Z", "principal_kind": "service",
                     "principal_id": "ops", "role": "admin", "action": "key.revoke",
                     "target": "abcd1234"});
    let identity = json!({"identity": {"kind": "service", "id": "ops", "org_id": null,
                                       "role": "admin", "way": "psk"}});
    let fake = script()
        .instead(
            "GET",
            &format!("{P}/keys?service=tasks&live=true"),
            200,
            &page(json!([key("abcd1234")])),
        )
        .instead("GET", &format!("{P}/keys?service=tasks&live=true"), 200, &page(json!([])))
        .instead("GET", &format!("{P}/audit?action=key.&limit=1"), 200, &page(json!([row])))
        .instead("GET", &format!("{P}/identity"), 200, &identity.to_string())
        .start();
    let home = Home::new();
    let keys = home.call(&fake, &["keys", "list", "--service", "tasks", "--live"]);
    assert_eq!(keys.status, 0, "{}", keys.stderr);
    assert!(keys.stdout.contains("abcd1234  tasks    operator  1"), "{}", keys.stdout);
    let log = home.call(&fake, &["audit", "--action", "key.", "--limit", "1"]);
    assert!(log.stdout.contains("service:ops  admin  key.revoke  abcd1234"), "{}", log.stdout);
    assert!(log.stderr.contains("8 more: --offset 1"), "{}", log.stderr);
    let who = home.call(&fake, &["identity"]);
    assert!(who.stdout.contains("ops") && who.stdout.contains("every one"), "{}", who.stdout);
    assert!(!who.stdout.contains(KEY));
}
