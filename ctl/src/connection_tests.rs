//! Which address, key and organisation win, and where a key is never sent.

use std::{collections::HashMap, fs, path::Path};

use clap::Parser;

use super::*;
use crate::cli::Cli;

struct Home {
    dir: tempfile::TempDir,
    vars: HashMap<String, String>,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let vars = HashMap::from([("HOME".to_owned(), path(""))]);
        Self { dir, vars }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    fn contexts(self, json: &str) -> Self {
        let path = file::path(&|name| self.vars.get(name).cloned()).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let parsed: Contexts = serde_json::from_str(json).unwrap();
        parsed.save(&path).unwrap();
        self
    }

    fn standalone(self, url: &str) -> Self {
        let data = self.dir.path().join("data");
        let this = self.with("DISPATCHER_DATA_DIR", &data.display().to_string());
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("psk"), "standaloneKey\n").unwrap();
        let json =
            serde_json::json!({"url": url, "org_id": "local", "recipient": "r", "key_file": "psk"});
        fs::write(data.join("standalone.json"), json.to_string()).unwrap();
        this
    }

    fn resolve(&self, options: &[&str]) -> Result<Connection> {
        let line = ["dispatchctl"].iter().chain(options).chain(&["recipients"]);
        let cli = Cli::try_parse_from(line).unwrap();
        Connection::resolve_with(&cli.at, &|name| self.vars.get(name).cloned())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn org(connection: &Connection) -> &str {
    connection.org.as_ref().map_or("", |org| &org.value)
}

fn key(connection: &Connection) -> &str {
    connection.key.as_ref().map_or("", |key| key.value.expose())
}

const TWO: &str = r#"{"current": "a", "contexts": {
    "a": {"url": "https://a.example/", "key": "keyA", "org": "1"},
    "b": {"url": "http://b.example", "key": "keyB", "insecure": true},
    "c": {"url": "http://c.example", "key": "keyC"}}}"#;

#[test]
fn the_named_context_wins_over_the_current_one() {
    let home = Home::new().contexts(TWO);
    let a = home.resolve(&[]).unwrap();
    assert_eq!((a.url.value.as_str(), key(&a)), ("https://a.example/", "keyA"));
    assert_eq!(a.org.unwrap().value, "1");
    let b = home.resolve(&["--context", "b"]).unwrap();
    assert_eq!(key(&b), "keyB");
    let home = home.with("DISPATCHER_CONTEXT", "b");
    assert_eq!(key(&home.resolve(&[]).unwrap()), "keyB");
    assert_eq!(key(&home.resolve(&["--context", "a"]).unwrap()), "keyA");
    let unknown = home.resolve(&["--context", "z"]).unwrap_err();
    assert!(unknown.message().contains("`z`"));
}

#[test]
fn options_win_over_the_environment_and_that_over_the_context() {
    let home = Home::new().contexts(TWO).with("DISPATCHER_KEY", "keyE").with("DISPATCHER_ORG", "2");
    let found = home.resolve(&[]).unwrap();
    assert_eq!((key(&found), org(&found)), ("keyE", "2"));
    let file = home.file("k", "keyF\n");
    let found = home.resolve(&["--key-file", &file, "--org", "3"]).unwrap();
    assert_eq!((key(&found), org(&found)), ("keyF", "3"));
    assert!(found.key.unwrap().from.contains(&file));
}

#[test]
fn a_key_is_not_taken_along_to_another_address() {
    let home = Home::new().contexts(TWO);
    let trouble = home.resolve(&["--url", "https://evil.example"]).unwrap_err();
    assert!(trouble.message().contains("belongs to another address"), "{}", trouble.message());
    assert_eq!(key(&home.resolve(&["--url", "https://a.example/"]).unwrap()), "keyA");
    let home = home.with("DISPATCHER_KEY", "keyE");
    let found = home.resolve(&["--url", "https://other.example"]).unwrap();
    assert_eq!(key(&found), "keyE");
    assert!(found.org.is_none(), "an organisation belongs to its address, too");
}

#[test]
fn a_key_is_not_sent_in_the_clear_to_another_machine() {
    let home = Home::new().contexts(TWO);
    assert!(home.resolve(&["--context", "c"]).unwrap_err().message().contains("plain http"));
    assert_eq!(key(&home.resolve(&["--context", "b"]).unwrap()), "keyB");
    let home = Home::new().with("DISPATCHER_KEY", "k");
    for (url, allowed) in [
        ("http://127.0.0.1:8000", true),
        ("http://[::1]:8000", true),
        ("http://localhost:8000", true),
        ("https://d.example", true),
        ("http://d.example", false),
        ("http://10.0.0.1", false),
        ("http://127.0.0.1.evil.example", false),
        ("http://localhost.evil.example", false),
    ] {
        assert_eq!(home.resolve(&["--url", url]).is_ok(), allowed, "{url}");
    }
}

#[test]
fn without_a_context_a_standalone_dispatcher_is_found() {
    let home = Home::new().standalone("http://127.0.0.1:8000");
    let found = home.resolve(&[]).unwrap();
    assert_eq!((key(&found), org(&found)), ("standaloneKey", "local"));
    assert!(found.url.from.contains("standalone.json"));
    let elsewhere = Home::new().standalone("http://d.example").resolve(&[]).unwrap_err();
    assert!(elsewhere.message().contains("not on this machine"));
    assert!(Home::new().resolve(&[]).unwrap_err().message().contains("no dispatcher is named"));
    let gone = Home::new().with("DISPATCHER_DATA_DIR", "/no/such").resolve(&[]).unwrap_err();
    assert!(gone.message().contains("/no/such"), "{}", gone.message());
}

#[test]
fn a_named_folder_wins_over_the_current_context_but_not_over_a_named_one() {
    let home = Home::new().contexts(TWO).standalone("http://127.0.0.1:8000");
    assert_eq!(key(&home.resolve(&[]).unwrap()), "standaloneKey");
    assert_eq!(key(&home.resolve(&["--context", "b"]).unwrap()), "keyB");
}

#[test]
fn what_is_not_a_key_is_refused_and_not_shown() {
    let home = Home::new().contexts(TWO);
    let file = home.file("k", "-----BEGIN secret-----");
    let trouble = home.resolve(&["--key-file", &file]).unwrap_err();
    assert!(trouble.message().contains(&file) && !trouble.message().contains("BEGIN"));
    let missing = home.resolve(&["--key-file", "/no/such"]).unwrap_err();
    assert!(missing.message().contains("/no/such"));
    assert!(!format!("{:?}", Key::parse("abc", "x").unwrap()).contains("abc"));
    assert!(Path::new(&file).exists());
}

#[test]
fn an_address_must_be_one() {
    let home = Home::new();
    for url in ["d.example", "ftp://d.example", "http://", "http://h/?a=b"] {
        assert!(home.resolve(&["--url", url]).is_err(), "{url}");
    }
    let trouble = home.resolve(&["--url", "http://u:hunter2@h"]).unwrap_err();
    assert!(!trouble.message().contains("hunter2"));
}
