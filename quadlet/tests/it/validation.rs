//! What is wrong with variables is said with name, value and what is allowed, all at once.

use std::fs;

use quadletgen::variables::{Facts, Upstream, Variables, deploy, secrets::Making};
use serde_json::json;

fn read(text: &str) -> Variables {
    Variables::new(deploy::parse(text).unwrap(), &Facts::default()).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    Variables::new(deploy::parse(text).unwrap(), &Facts::default()).unwrap_err().0
}

/// Texts of the file, and what must be in the answer.
const MISTAKES: &[(&str, &str)] = &[
    ("dispatcher_api_container_scale: -1", "scale is -1: allowed is whole numbers from 0 to 256"),
    ("dispatcher_api_container_scale: x", "scale is \"x\": allowed is whole numbers from 0"),
    ("dispatcher_api_container_scale: 2.5", "scale is 2.5: allowed is whole"),
    ("store_engine: nfs", "store_engine is \"nfs\": allowed is file, s3"),
    ("dispatcher_worker_enabled: maybe", "is \"maybe\": allowed is true or false"),
    ("dispatcher_api_image: 'a b'", "is \"a b\": allowed is a reference such as"),
    ("dispatcher_api_memory_max: lots", "is \"lots\": allowed is a size such as 512M"),
    ("dispatcher_api_cpu_quota: 0%", "is \"0%\": allowed is a share such as 150%"),
    ("dispatcher_public_url: ftp://x", "is \"ftp://x\": allowed is http:// or https://"),
    ("haproxy_config_dir: conf.d", "is \"conf.d\": allowed is an absolute path"),
    ("store_file_path: /a/../b", "allowed is an absolute path"),
    ("sso_audiences: x", "is \"x\": allowed is a list of texts"),
    ("dispatcher_gateway_cidrs: [10.0.0.0/33]", "allowed is networks such as 10.0.0.0/8"),
    ("dispatcher_settings: {A: [1]}", "allowed is names, each with a text, a whole number"),
    ("dispatcher_settings: {a: 1}", "has \"a\": allowed are names of capital letters"),
    ("dispatcher_settings: {A: \"x\\ny\"}", "A in dispatcher_settings has several lines"),
    ("dispatcher_settings: {X_PASSWORD: y}", "quadletgen secret set NAME"),
    (
        "dispatcher_settings: {DATABASE_URL: 'postgres://u:p@h/d'}",
        "DATABASE_URL in dispatcher_settings is a secret",
    ),
    ("dispatcher_settings: {DRAIN_DELAY: 9}", "set dispatcher_api_drain_delay instead"),
    ("dispatcher_secrets: {DB_PASSWORD: 'my pass'}", "is not the name of a podman secret"),
    ("dispatcher_secrets: {DB_PASSWORD: ''}", "needs a password"),
    ("dispatcher_redis_url: 'redis://:pw@h/0'", "quadletgen secret set NAME"),
    (
        "dbpassword: x",
        "dbpassword is a secret, and this file holds none: type `quadletgen secret set dispatcher-db-password`",
    ),
    (
        "rhdl_service_account_secret_key: x",
        "RHDL_SERVICE_ACCOUNT_SECRET_KEY: dispatcher-rhdl-secret-key",
    ),
    ("dci_api_container_image: x", "set dispatcher_api_image instead"),
    ("dbname: dci", "set dispatcher_db_name instead"),
    ("dispatcher_api_container_scala: 1", "is dispatcher_api_container_scale meant?"),
    ("dispatcher_api_drain_delay: 2", "allowed is 3 and more, or other checks"),
    ("dispatcher_haproxy_check_fall: 9", "9 checks (dispatcher_haproxy_check_fall) every 1000 ms"),
    ("dispatcher_tls_client_ca: /ca.pem", "is set without dispatcher_tls_certificate"),
    ("dispatcher_haproxy_addresses: [localhost]", "allowed is IP addresses, or * for all of IPv4"),
    ("dispatcher_haproxy_stats_address: '8404'", "allowed is an IP address and a port such as"),
    ("dispatcher_gateway_certificate_names: ['a\"b']", "allowed is names of one line"),
    ("dispatcher_haproxy_buffer_bytes: 1", "allowed is whole numbers from 16384 to 1048576"),
    ("zebra: 1", "zebra is no variable: `quadletgen variables` lists them all"),
    (
        "dispatcher_api_publish_port: 65534",
        "the last port is beyond 65535; allowed is at most 65532",
    ),
    ("{dispatcher_api_metrics_port: 15002}", "must not meet"),
    ("dispatcher_network_gateway: 10.9.9.9", "is not in dispatcher_network_subnet, 10.89.240.0/24"),
    ("{dispatcher_api_upstream: unix, dispatcher_api_container_user: ''}", "needs an owner"),
    (
        "{dispatcher_api_container_scale: 2, dci_api_container_scale: 3}",
        "which say the same thing: keep one",
    ),
    ("dispatcher_api_container_options: ['[Service]']", "allowed is lines such as AddHost="),
    ("dispatcher_api_exec: [a, '', b]", "has an empty word or a lone semicolon"),
    ("dispatcher_api_exec: [\"a\\nb\"]", "dispatcher_api_exec has several lines: allowed is one"),
];

#[test]
fn each_mistake_is_answered_with_name_value_and_what_is_allowed() {
    for (text, expected) in MISTAKES {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(expected), "{text}: {}", found[0]);
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_no_secret_with_it() {
    let found = problems("dbpassword: topsecret\nfoo: 1\nstore_engine: nfs\ndbname: x\n");
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(!found.concat().contains("topsecret"));
    let found = problems("dispatcher_secrets: {DB_PASSWORD: top secret}");
    assert!(!found.concat().contains("top secret"), "{found:?}");
    let found = problems("dispatcher_redis_url: 'redis://:topsecret@h/0'");
    assert!(!found.concat().contains("topsecret"), "{found:?}");
}

#[test]
fn numbers_and_switches_may_be_quoted_as_with_ansible() {
    let variables = read("dispatcher_api_container_scale: '7'\ndispatcher_worker_enabled: 'no'\n");
    assert_eq!(variables.scale(), 7);
    assert!(!variables.has_worker());
    assert_eq!(read("dispatcher_api_notify: true").text("dispatcher_api_notify"), "true");
}

#[test]
fn names_of_dci_say_what_ours_do_not() {
    let variables = read(
        "dci_api_container_scale: 2\ndci_api_auth_tracking_enabled: false\n\
         gunicorn_graceful_timeout: 90\ndci_redis_url: redis://r:6379/0\n",
    );
    assert_eq!(variables.scale(), 2);
    assert!(!variables.has_tracker());
    assert_eq!(variables.number("dispatcher_api_graceful_timeout"), 90);
    assert_eq!(variables.services(), ["dispatcher-postgresql", "dispatcher-rabbitmq"]);
    let same = read("dci_api_container_scale: 2\ndispatcher_api_container_scale: 2\n");
    assert_eq!(same.scale(), 2);
}

#[test]
fn what_has_an_address_is_not_bundled() {
    assert_eq!(read("").services().len(), 3);
    assert_eq!(read("").images().len(), 4);
    let outside = read("dbhost: db\ndispatcher_secrets: {REDIS_URL: r, AMQP_URL: a}\n");
    assert!(outside.services().is_empty());
    assert!(outside.has_tracker());
    let secrets = outside.secrets();
    let making = |name: &str| secrets.iter().find(|one| one.name == name).map(|one| one.making);
    assert_eq!(making("dispatcher-db-password"), Some(Making::Given));
    assert_eq!(making("r"), Some(Making::Given));
    assert_eq!(making("dispatcher-redis-password"), None);
    assert_eq!(making("dispatcher-secret-keys"), Some(Making::SecretKeys));
}

#[test]
fn another_image_brings_nothing_of_ours_with_it() {
    let other = read("dispatcher_api_image: r/web:1\ndispatcher_api_exec: [serve]\n");
    assert!(other.is_foreign() && !other.has_tracker() && !other.has_worker());
    assert!(other.services().is_empty() && other.secrets().is_empty());
    assert_eq!(other.upstream(), Upstream::Tcp);
    assert_eq!(other.text("__dispatcher_notify"), "healthy");
}

#[test]
fn sockets_are_used_where_they_can_be() {
    let upstream = |selinux, rootless| {
        let facts = Facts { hostname: "h".to_owned(), selinux, rootless };
        Variables::new(deploy::parse("").unwrap(), &facts).unwrap().upstream()
    };
    assert_eq!(upstream(false, false), Upstream::Unix);
    assert_eq!(upstream(true, false), Upstream::Tcp);
    assert_eq!(upstream(false, true), Upstream::Tcp);
}

#[test]
fn a_users_own_deployment_has_neither_worker_nor_haproxy() {
    let facts = Facts { rootless: true, ..Facts::default() };
    let variables = Variables::new(deploy::parse("").unwrap(), &facts).unwrap();
    assert!(!variables.has_worker());
    assert_eq!(variables.local_url(), "http://127.0.0.1:15000");
    assert_eq!(variables.text("__dispatcher_public_url"), "http://127.0.0.1:15000");
}

#[test]
fn what_is_likely_not_meant_is_noted() {
    let notices = read("dbhost: localhost\nzmq_conn: tcp://z:1\n").notices().to_vec();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[0].contains("the container itself"));
    assert!(notices[1].contains("does not use it"));
    assert!(read("").notices().is_empty());
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deploy.yml");
    let error = |text: Option<&[u8]>| {
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        deploy::read(&path).unwrap_err().to_string()
    };
    assert!(error(None).contains("quadletgen init"));
    for text in [&b"- 1\n"[..], b"a: 1\na: 2\n", b"a: [\n", b"\xff\xfe", b"1: 2\n? [x]\n: 1\n"] {
        let said = error(Some(text));
        assert!(said.contains("deploy.yml"), "{said}");
    }
    let long = "#".repeat(1024 * 1024 + 1);
    assert!(error(Some(long.as_bytes())).contains("more than"));
    fs::write(&path, "# nothing\n").unwrap();
    assert!(deploy::read(&path).unwrap().is_empty());
    assert_eq!(deploy::parse("a: 1").unwrap()["a"], json!(1));
}
