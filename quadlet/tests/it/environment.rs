//! Values arrive in the process as they were written: what Podman and systemd read of the
//! environment files is what the variables said.

use std::{collections::BTreeMap, path::Path};

use proptest::prelude::*;
use quadletgen::{
    entry::What,
    layout::Layout,
    render,
    variables::{Facts, Variables},
};
use serde_json::{Value, json};

fn file(set: Value, name: &str) -> String {
    let Value::Object(set) = set else { panic!("no mapping") };
    let variables = Variables::new(set, &Facts::default()).unwrap();
    let entries = render::render(&variables, &Layout::system()).unwrap();
    let entry = entries.iter().find(|entry| entry.path == Path::new(name)).unwrap();
    let What::File { content, mode } = &entry.what else { panic!("{name} is a link") };
    assert_eq!(*mode, 0o600);
    content.clone()
}

/// As Podman reads `--env-file`: lines, comments, everything behind the first `=` as it is.
fn as_podman(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty());
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    lines.map(pair).collect()
}

/// As systemd reads `EnvironmentFile=` with values in double quotes.
fn as_systemd(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap();
        let inner = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        let mut plain = String::new();
        let mut letters = inner.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => {
                    let escaped = letters.next_if(|next| "\"\\`$".contains(*next));
                    plain.push(escaped.unwrap_or('\\'));
                }
                '"' => panic!("a quote ends the value: {line}"),
                other => plain.push(other),
            }
        }
        (name.to_owned(), plain)
    };
    lines.map(pair).collect()
}

fn service(settings: &Value) -> BTreeMap<String, String> {
    as_podman(&file(
        json!({ "dispatcher_settings": settings }),
        "/etc/dispatcher-api/dispatcher-api.env",
    ))
}

#[test]
fn odd_values_are_written_as_they_are() {
    let odd = [
        "a$b${c}$$d",
        "#no comment # at all",
        "50% %i %%",
        "say \"hi\"",
        "it's",
        "a\\b\\n\\\\",
        "  blanks  ",
        "żółć ✓",
        "a=b=c",
        "`id`",
        "\ttab\t",
        "\"open",
        "{{ x }}",
        "{% y %}",
        "end\\",
    ];
    for value in odd {
        assert_eq!(service(&json!({ "ODD": value }))["ODD"], value);
    }
}

#[test]
fn numbers_and_switches_are_words_and_nothing_is_no_line() {
    let found = service(&json!({ "N": -5, "YES": true, "NO": false, "EMPTY": "" }));
    assert_eq!(
        (found["N"].as_str(), found["YES"].as_str(), found["NO"].as_str()),
        ("-5", "true", "false")
    );
    assert!(!found.contains_key("EMPTY"));
    assert!(!found.contains_key("SSO_URL"));
}

#[test]
fn a_key_of_several_lines_has_its_line_ends_escaped() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMIIB\r\nxyz==\n-----END PUBLIC KEY-----\n";
    let path = "/etc/dispatcher-api/dispatcher-api.env";
    let found = as_podman(&file(json!({ "sso_public_key": pem }), path));
    let expected = pem.replace("\r\n", "\n").replace('\n', "\\n");
    assert_eq!(found["SSO_PUBLIC_KEY"], expected);
    assert!(!found["SSO_PUBLIC_KEY"].contains('\r'));
}

#[test]
fn names_are_sorted_and_settings_win_over_what_is_derived() {
    let path = "/etc/dispatcher-api/dispatcher-api.env";
    let set = json!({ "api_log_level": "info", "dispatcher_settings": { "LOG_LEVEL": "debug", "A_": 1 } });
    let text = file(set, path);
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(as_podman(&text)["LOG_LEVEL"], "debug");
}

#[test]
fn every_name_of_dci_arrives_under_the_name_its_application_reads() {
    let set = json!({
        "gunicorn_nb_workers": 2, "gunicorn_worker_connections": 50, "gunicorn_max_requests": 10,
        "gunicorn_max_requests_jitter": 3, "gunicorn_timeout": 60, "gunicorn_graceful_timeout": 90,
        "gunicorn_extra_cmd_args": "--log-level debug", "dbhost": "db", "dbuser": "u",
        "sqlalchemy_pool_size": 5, "sqlalchemy_max_overflow": -1, "store_engine": "s3",
        "store_files_container": "f", "store_components_container": "c",
        "store_s3_aws_region": "eu", "store_s3_endpoint_url": "https://s3.example.com",
        "store_s3_signature_version": "s3v4", "apihost": "0.0.0.0", "api_debug": true,
        "api_log_level": "INFO", "jsonify_prettyprint_regular": false, "zmq_conn": "tcp://z:1",
        "max_content_length_mb": 20, "analytics_url": "https://a", "certification_url": "https://c",
        "amqp_broker_url": "amqp://rabbit/", "sso_audiences": ["a", "b"],
        "sso_read_only_group": "ro", "sso_url": "https://sso", "sso_realm": "r",
        "rhdl_api_url": "https://rhdl", "dci_redis_url": "redis://r:6379/0",
    });
    let found = as_podman(&file(set, "/etc/dispatcher-api/dispatcher-api.env"));
    for (name, value) in [
        ("DCI_NB_WORKERS", "2"),
        ("DCI_GUNICORN_WORKER_CONNECTIONS", "50"),
        ("DCI_GUNICORN_MAX_REQUESTS", "10"),
        ("DCI_GUNICORN_MAX_REQUESTS_JITTER", "3"),
        ("DCI_GUNICORN_TIMEOUT", "60"),
        ("WATCHDOG_TIMEOUT", "60"),
        ("GRACEFUL_TIMEOUT", "90"),
        ("GUNICORN_CMD_ARGS", "--log-level debug"),
        ("DB_HOST", "db"),
        ("DB_USER", "u"),
        ("DB_NAME", "dispatcher"),
        ("SQLALCHEMY_POOL_SIZE", "5"),
        ("SQLALCHEMY_MAX_OVERFLOW", "-1"),
        ("STORE_ENGINE", "s3"),
        ("STORE_FILES_CONTAINER", "f"),
        ("STORE_COMPONENTS_CONTAINER", "c"),
        ("AWS_REGION", "eu"),
        ("S3_ENDPOINT_URL", "https://s3.example.com"),
        ("AWS_SIGNATURE_VERSION", "s3v4"),
        ("API_HOST", "0.0.0.0"),
        ("API_DEBUG", "true"),
        ("LOG_LEVEL", "INFO"),
        ("JSONIFY_PRETTYPRINT_REGULAR", "false"),
        ("ZMQ_CONN", "tcp://z:1"),
        ("MAX_CONTENT_LENGTH_MB", "20"),
        ("ANALYTICS_URL", "https://a"),
        ("CERTIFICATION_URL", "https://c"),
        ("AMQP_BROKER_URL", "amqp://rabbit/"),
        ("SSO_AUDIENCES", "a,b"),
        ("SSO_READ_ONLY_GROUP", "ro"),
        ("SSO_URL", "https://sso"),
        ("SSO_REALM", "r"),
        ("RHDL_API_URL", "https://rhdl"),
        ("REDIS_URL", "redis://r:6379/0"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!found.contains_key("STORE_FILE_PATH"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_line_survives_both_files(value in "[^\\p{Cc}]{1,40}") {
        let found = service(&json!({ "ANY": value }));
        prop_assert_eq!(&found["ANY"], &value);
        let set = json!({ "dispatcher_worker_settings": { "ANY": value } });
        let found = as_systemd(&file(set, "/etc/dispatcher-api/dispatcher-worker.env"));
        prop_assert_eq!(&found["ANY"], &value);
    }
}
