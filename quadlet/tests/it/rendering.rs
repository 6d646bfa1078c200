//! What is rendered of which variables.

use quadletgen::{
    entry::{Entry, What},
    layout::Layout,
    render,
    variables::{Facts, Variables, deploy},
};

fn rendered(text: &str) -> Vec<Entry> {
    let facts = Facts { hostname: "web1".to_owned(), ..Facts::default() };
    let variables = Variables::new(deploy::parse(text).unwrap(), &facts).unwrap();
    render::render(&variables, &Layout::system()).unwrap()
}

#[test]
fn nothing_set_is_four_instances_a_tracker_and_every_bundled_service() {
    let entries = rendered("");
    let has = |name: &str| entries.iter().any(|entry| entry.path.ends_with(name));
    for name in [
        "systemd/dispatcher-api@.container",
        "systemd/dispatcher-api@3.container",
        "systemd/dispatcher-auth-tracker.container",
        "systemd/dispatcher-postgresql.container",
        "systemd/dispatcher-redis.volume",
        "systemd/dispatcher-rabbitmq.container",
        "systemd/dispatcher.network",
        "system/dispatcher-worker.service",
    ] {
        assert!(has(name), "{name} is missing");
    }
    assert!(!has("systemd/dispatcher-api@4.container"));
    let environment = entries.iter().find(|entry| entry.path.ends_with("dispatcher-api.env"));
    let What::File { content, mode } = &environment.unwrap().what else { panic!("a link") };
    assert_eq!(*mode, 0o600);
    assert!(content.contains("\nDB_HOST=dispatcher-postgresql\n"), "{content}");
}
