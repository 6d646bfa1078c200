//! Logging in with the device flow, and what the login is used for. The scripted dispatcher is the
//! SSO server, too.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::{
    fake::{Asked, Fake, Script},
    program::{Ended, Home, ended},
};

const P: &str = "/api/playbook-dispatcher/v1";

fn begins() -> Script {
    let providers = json!({"data": [{"issuers": ["{url}/other", "{url}/sso"], "client_id": "cli",
                                     "scopes": ["openid"]}]});
    let discovery = json!({"issuer": "{url}/sso", "token_endpoint": "{url}/sso/token",
                           "device_authorization_endpoint": "{url}/sso/device",
                           "revocation_endpoint": "{url}/sso/revoke"});
    let device = json!({"device_code": "DEVICE", "user_code": "ABCD-EFGH", "expires_in": 60,
                        "verification_uri": "https://sso.example/device", "interval": 1});
    Script::new("success", [])
        .instead("GET", &format!("{P}/identity/providers"), 200, &providers.to_string())
        .instead("GET", "/sso/.well-known/openid-configuration", 200, &discovery.to_string())
        .instead("POST", "/sso/device", 200, &device.to_string())
}

fn tokens(script: Script, name: &str, expires_in: i64) -> Script {
    let tokens = json!({"access_token": format!("ACCESS{name}"), "expires_in": expires_in,
                        "refresh_token": format!("REFRESH{name}"), "token_type": "Bearer"});
    script.instead("POST", "/sso/token", 200, &tokens.to_string())
}

fn refuses(script: Script, error: &str) -> Script {
    script.instead("POST", "/sso/token", 400, &json!({ "error": error }).to_string())
}

fn known(script: Script) -> Script {
    let identity = json!({"identity": {"kind": "user", "id": "u-1", "name": "ada", "org_id": "1",
                                       "role": "operator", "way": "bearer"}});
    script.instead("GET", &format!("{P}/identity"), 200, &identity.to_string())
}

/// A call with nothing but the context.
fn call(home: &Home, arguments: &[&str]) -> Ended {
    let ended = ended(home.bare(arguments).output().unwrap());
    for secret in ["ACCESS", "REFRESH", "DEVICE"] {
        assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "{ended:?}");
    }
    ended
}

fn with_context(fake: &Fake) -> Home {
    let home = Home::new();
    let set = call(&home, &["context", "set", "prod", "--url", &fake.url, "--org", "1"]);
    assert_eq!(set.status, 0, "{}", set.stderr);
    home
}

fn bearers(asked: &[Asked]) -> Vec<String> {
    asked.iter().map(|asked| asked.header("authorization").unwrap_or("none").to_owned()).collect()
}

fn forms(fake: &Fake, path: &str) -> Vec<String> {
    let asked = fake.asked("POST", path);
    asked.into_iter().map(|asked| String::from_utf8(asked.body).unwrap()).collect()
}

#[test]
fn a_person_logs_in_and_the_login_is_used_until_logged_out() {
    let script = known(tokens(refuses(begins(), "authorization_pending"), "1", 3600));
    let fake = known(script).instead("POST", "/sso/revoke", 200, "").start();
    let home = with_context(&fake);
    let login = call(&home, &["login", "--scope", "offline_access"]);
    assert_eq!(login.status, 0, "{}", login.stderr);
    for part in ["https://sso.example/device", "ABCD-EFGH", "logged in to `prod` as ada"] {
        assert!(login.stderr.contains(part), "{}", login.stderr);
    }
    assert_eq!(forms(&fake, "/sso/device"), ["client_id=cli&scope=openid+offline_access"]);
    let polls = forms(&fake, "/sso/token");
    assert!(polls.len() == 2 && polls[0].contains("device_code=DEVICE"), "{polls:?}");
    let path = home.dir.path().join(".config/dispatcher/contexts.json");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let who = call(&home, &["identity"]);
    assert!(who.stdout.contains("ada") && who.stdout.contains("bearer"), "{}", who.stdout);
    assert_eq!(call(&home, &["recipients"]).status, 0);
    assert_eq!(bearers(&fake.asked("GET", &format!("{P}/recipients"))), ["Bearer ACCESS1"]);
    let providers = fake.asked("GET", &format!("{P}/identity/providers"));
    assert_eq!(bearers(&providers), ["none"]);
    let list = call(&home, &["context", "list"]);
    assert!(list.stdout.contains(&format!("login at {}/sso", fake.url)), "{}", list.stdout);
    assert!(call(&home, &["context", "show"]).stdout.contains("(login)"));

    let logout = call(&home, &["logout"]);
    assert_eq!(logout.status, 0, "{}", logout.stderr);
    assert!(!logout.stderr.contains("was not told"), "{}", logout.stderr);
    assert_eq!(forms(&fake, "/sso/revoke"), ["token=REFRESH1&client_id=cli"]);
    assert!(!std::fs::read_to_string(path).unwrap().contains("ACCESS"));
    call(&home, &["recipients"]);
    let asked = bearers(&fake.asked("GET", &format!("{P}/recipients")));
    assert_eq!(asked, ["Bearer ACCESS1", "none"]);
}

#[test]
fn a_login_that_is_refused_or_not_offered_says_so() {
    for (error, part) in [("access_denied", "refused in the browser"), ("expired_token", "in time")]
    {
        let fake = refuses(begins(), error).start();
        let login = call(&with_context(&fake), &["login"]);
        assert_eq!(login.status, 1);
        assert!(login.stderr.contains(part), "{}", login.stderr);
    }
    let none = Script::new("success", []);
    let none = none.instead("GET", &format!("{P}/identity/providers"), 200, r#"{"data": []}"#);
    let login = call(&with_context(&none.start()), &["login"]);
    assert!(login.status == 1 && login.stderr.contains("takes no logins"), "{}", login.stderr);
    let login = call(&Home::new(), &["login"]);
    assert!(login.status == 2 && login.stderr.contains("context set"), "{}", login.stderr);
}

#[test]
fn a_token_is_renewed_before_it_ends_and_once_after_a_refusal() {
    // The first one is about to end, the second one is refused.
    let script = known(tokens(begins(), "1", 5));
    let script = tokens(tokens(script, "2", 3600), "3", 3600);
    let refused = json!({"message": "no", "error_code": "token_invalid", "request_id": "r"});
    let fake = script.instead("GET", &format!("{P}/recipients"), 401, &refused.to_string()).start();
    let home = with_context(&fake);
    assert_eq!(call(&home, &["login"]).status, 0);
    assert_eq!(bearers(&fake.asked("GET", &format!("{P}/identity"))[1..]), ["Bearer ACCESS2"]);
    assert_eq!(call(&home, &["recipients"]).status, 0);
    let asked = bearers(&fake.asked("GET", &format!("{P}/recipients")));
    assert_eq!(asked, ["Bearer ACCESS2", "Bearer ACCESS3"]);
    let renewals = forms(&fake, "/sso/token");
    assert_eq!(renewals.len(), 3);
    assert!(renewals[1].contains("grant_type=refresh_token&refresh_token=REFRESH1"));
    assert!(renewals[2].contains("refresh_token=REFRESH2"));
    assert_eq!(call(&home, &["recipients"]).status, 0, "the new one is kept");
    assert_eq!(forms(&fake, "/sso/token").len(), 3);
}

#[test]
fn a_login_that_is_over_asks_for_another() {
    let fake = refuses(known(tokens(begins(), "1", 3600)), "invalid_grant").start();
    let home = with_context(&fake);
    assert_eq!(call(&home, &["login"]).status, 0);
    let path = home.dir.path().join(".config/dispatcher/contexts.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    kept["contexts"]["prod"]["login"]["expires_at"] = json!(1);
    std::fs::write(&path, kept.to_string()).unwrap();
    let over = call(&home, &["recipients"]);
    assert_eq!(over.status, 1);
    assert!(over.stderr.contains("dispatchctl login --context prod"), "{}", over.stderr);
}

#[test]
fn a_login_is_not_taken_along_to_another_address() {
    let fake = known(tokens(begins(), "1", 3600)).start();
    let home = with_context(&fake);
    assert_eq!(call(&home, &["login"]).status, 0);
    let other = Script::new("success", []).start();
    let elsewhere = call(&home, &["recipients", "--url", &other.url]);
    assert_eq!(elsewhere.status, 2, "{}", elsewhere.stderr);
    assert!(other.asked("GET", "/").is_empty());
}
