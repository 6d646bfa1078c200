//! People and keys end to end: the real service, the real command line, a real issuer.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use dispatcher_tests::{
    authority::Authority,
    oidc::Issuer,
    process::{BASE, PATIENCE, Service, binary},
    tls_listener,
};
use dispatcher_wire::service_key;
use serde_json::{Value, json};
use tokio::process::Command;

/// The command line, told of nothing but a folder of its own.
fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("dispatchctl").unwrap());
    command.args(arguments).env_clear().env("HOME", home).current_dir(home);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn ended(mut command: Command) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Asks with a key until the answer has this status, which every question has that is asked later
/// than that.
async fn until_answered(service: &Service, key: &str, status: u16, at_most: Duration) {
    let client = reqwest::Client::new();
    let since = Instant::now();
    loop {
        let request = client.get(format!("{}{BASE}/runs", service.url));
        let asked = since.elapsed();
        let answer = request.header("authorization", format!("PSK {key}")).send().await.unwrap();
        if answer.status() == status {
            return;
        }
        assert!(asked < at_most, "{} when asked {asked:?} later", answer.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_key_opens_until_it_is_revoked_and_the_program_knows_when() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(&directory.path().join("data")).await.unwrap();
    let call = async |arguments: &[&str]| {
        // The data folder is `./data`, where the program looks by itself.
        ended(program(directory.path(), arguments)).await
    };
    let (status, who, stderr) = call(&["identity", "-o", "json"]).await;
    assert_eq!(status, Some(0), "{stderr}");
    let who: Value = serde_json::from_str(&who).unwrap();
    assert_eq!(who["identity"]["role"], "admin");

    let (status, key, stderr) = call(&["keys", "create", "--service", "ci"]).await;
    assert_eq!(status, Some(0), "{stderr}");
    let key = key.trim_end();
    let id = service_key::id_of(key).unwrap();
    until_answered(&service, key, 200, PATIENCE).await;
    let (status, second, stderr) = call(&["keys", "rotate", id, "--overlap", "1h"]).await;
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("in force on 1 of 1 instance"), "{stderr}");
    until_answered(&service, second.trim_end(), 200, PATIENCE).await;
    until_answered(&service, key, 200, PATIENCE).await;
    let (status, _, stderr) = call(&["keys", "revoke", id]).await;
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("in force on 1 of 1 instance"), "{stderr}");
    // Confirmed, and refused at once.
    until_answered(&service, key, 403, Duration::from_secs(1)).await;
    let (_, list, _) = call(&["keys", "list", "--live"]).await;
    assert!(!list.contains(id) && list.contains("ci"), "{list}");
    let (_, log, _) = call(&["audit", "--action", "key."]).await;
    for action in ["key.create", "key.rotate", "key.revoke"] {
        assert!(log.contains(action), "{log}");
    }
    assert!(!log.contains(key));
}

#[tokio::test]
async fn a_person_logs_in_at_the_issuer_and_is_known_to_the_service() {
    let issuer = Issuer::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let name = issuer.issuer();
    let variables = [("SSO_ISSUER", name.as_str()), ("SSO_ROLE_MAP", "dispatchers=operator")];
    let service = Service::start_with(&directory.path().join("d"), &variables).await.unwrap();
    let home = directory.path();
    let set = ["context", "set", "prod", "--url", &service.url];
    assert_eq!(ended(program(home, &set)).await.0, Some(0));
    let login = tokio::spawn(ended(program(home, &["login"])));
    let since = Instant::now();
    let code = loop {
        if let Some(code) = issuer.user_codes().into_iter().next() {
            break code;
        }
        assert!(since.elapsed() < PATIENCE && !login.is_finished(), "no code is shown");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let claims = json!({"org_id": service.org_id, "realm_access": {"roles": ["dispatchers"]}});
    issuer.approve(&code, &claims).unwrap();
    let (status, _, stderr) = login.await.unwrap();
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains(&code) && stderr.contains("logged in to `prod`"), "{stderr}");
    let (status, who, stderr) = ended(program(home, &["identity", "-o", "json"])).await;
    assert_eq!(status, Some(0), "{stderr}");
    let who: Value = serde_json::from_str(&who).unwrap();
    assert_eq!(who["identity"]["role"], "operator");
    assert_eq!(who["identity"]["org_id"], service.org_id.as_str());
    let (status, list, stderr) = ended(program(home, &["recipients", "list"])).await;
    assert_eq!(status, Some(0), "{stderr}");
    assert!(list.contains(&service.recipient.to_string()), "{list}");
    let (status, _, stderr) = ended(program(home, &["keys", "list"])).await;
    assert!(status == Some(1) && stderr.contains("role_required"), "{stderr}");
    assert_eq!(ended(program(home, &["logout"])).await.0, Some(0));
    let (status, _, stderr) = ended(program(home, &["identity"])).await;
    assert!(status == Some(1) && stderr.contains("no key was sent"), "{stderr}");
}

#[tokio::test]
async fn an_issuer_whose_authority_only_the_operator_knows() {
    let (authority, directory) = (Authority::new().unwrap(), tempfile::tempdir().unwrap());
    let file = directory.path().join("authority.pem");
    let acceptor = tls_listener::acceptor(&authority, directory.path()).unwrap();
    let issuer = Issuer::start_with(Some(acceptor)).unwrap();
    let (name, file) = (issuer.issuer(), file.to_str().unwrap());
    assert!(name.starts_with("https://"), "{name}");
    for (number, trusted) in [("1", true), ("2", false)] {
        let mut variables = vec![("SSO_ISSUER", name.as_str())];
        variables.extend(trusted.then_some(("TLS_CA_FILE", file)));
        let service =
            Service::start_with(&directory.path().join(number), &variables).await.unwrap();
        let token = issuer.token(&json!({"org_id": service.org_id})).unwrap();
        let since = Instant::now();
        loop {
            let request = reqwest::Client::new().get(format!("{}{BASE}/runs", service.url));
            let status = request.bearer_auth(&token).send().await.unwrap().status();
            let log = std::fs::read_to_string(service.directory.join("service.log")).unwrap();
            // It was told why not, and nobody is let in.
            if !trusted && log.to_lowercase().contains("unknownissuer") && !status.is_success() {
                break;
            }
            if trusted && status.is_success() {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "trusted: {trusted}, {status}\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
