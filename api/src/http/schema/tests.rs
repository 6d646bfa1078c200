//! The messages of contract routes, word for word.

use dispatcher_wire::dispatch::{AccountItem, CancelItem, DispatchItem, RecipientWithOrg};
use serde_json::{Value, json};

use super::bodies::ContractBody;

fn check<T: ContractBody>(mut value: Value) -> Result<Value, String> {
    T::schema().apply(&mut value).map_err(|violation| violation.body_message())?;
    T::check(&value).map_err(|violation| violation.body_message())?;
    serde_json::from_value::<T>(value.clone()).map_err(|error| error.to_string())?;
    Ok(value)
}

fn item() -> Value {
    json!({
        "recipient": "9200e4a3-c97c-4021-9856-82fa4673e8d2", "org_id": "5318290",
        "principal": "jdoe", "url": "https://example.com/playbook", "name": "Fix"
    })
}

fn with(member: &str, value: Value) -> Value {
    let mut item = item();
    item[member] = value;
    json!([item])
}

fn dispatch(value: Value) -> String {
    check::<Vec<DispatchItem>>(value).unwrap_err()
}

#[test]
fn the_root_has_no_pointer_and_items_have() {
    let prefix = "request body has an error: doesn't match schema: ";
    assert_eq!(dispatch(json!([])), format!("{prefix}minimum number of items is 1"));
    assert_eq!(dispatch(json!({})), format!("{prefix}value must be an array"));
    assert_eq!(dispatch(Value::Null), format!("{prefix}Value is not nullable"));
    let many = Value::Array(vec![item(); 51]);
    assert_eq!(dispatch(many), format!("{prefix}maximum number of items is 50"));
    let mut item = item();
    item.as_object_mut().unwrap().shift_remove("principal");
    assert_eq!(
        dispatch(json!([item])),
        format!("{prefix}Error at \"/0/principal\": property \"principal\" is missing")
    );
}

#[test]
fn every_rule_names_the_member() {
    let cases = [
        ("org_id", json!(""), "minimum string length is 1"),
        ("org_id", json!("12345678901"), "maximum string length is 10"),
        ("org_id", json!(5), "value must be a string"),
        ("principal", json!(null), "Value is not nullable"),
        ("timeout", json!(-1), "number must be at least 0"),
        ("timeout", json!(604_801), "number must be at most 604800"),
        ("timeout", json!(1e300), "number must be at most 604800"),
        ("timeout", json!(1.5), "value must be an integer"),
        ("timeout", json!("60"), "value must be an integer"),
        ("labels", json!([]), "value must be an object"),
        ("hosts", json!({}), "value must be an array"),
        ("name", json!("a\0b"), "string must not contain the character U+0000"),
    ];
    for (member, value, reason) in cases {
        let expected = format!("Error at \"/0/{member}\": {reason}");
        let message = dispatch(with(member, value));
        assert!(message.ends_with(&expected), "{message}");
    }
    let message = dispatch(with("labels", json!({ "a": "b", "c": 1 })));
    assert!(message.ends_with("Error at \"/0/labels/c\": value must be a string"), "{message}");
    let message = dispatch(with("labels", json!({ "a\0": "b" })));
    assert!(message.contains("U+0000"), "{message}");
}

#[test]
fn formats_are_those_of_the_contract() {
    let upper = "9200E4A3-C97C-4021-9856-82FA4673E8D2";
    for bad in ["", "x", upper, "9274c274-a258-5d00-91fe-dbe0f7849cef"] {
        let message = dispatch(with("recipient", json!(bad)));
        let expected = "Error at \"/0/recipient\": string doesn't match the format \"uuid\" (";
        assert!(message.contains(expected), "{message}");
    }
    let variant = "9200e4a3-c97c-4021-A856-82fa4673e8d2";
    check::<Vec<DispatchItem>>(with("recipient", json!(variant))).unwrap();
    let config = json!({ "sat_id": "9274c274-a258-5d00-91fe-dbe0f7849cef", "sat_org_id": "5" });
    check::<Vec<DispatchItem>>(with("recipient_config", config)).unwrap();
    for bad in ["ftp://x", "HTTP://x", "", "http://x\ny"] {
        let message = dispatch(with("url", json!(bad)));
        assert!(message.contains("string doesn't match the format \"url\""), "{message}");
    }
}

#[test]
fn every_typed_member_refuses_null_and_unknown_ones_do_not_matter() {
    for member in [
        "recipient",
        "org_id",
        "url",
        "name",
        "web_console_url",
        "labels",
        "hosts",
        "recipient_config",
    ] {
        let expected = format!("Error at \"/0/{member}\": Value is not nullable");
        let message = dispatch(with(member, Value::Null));
        assert!(message.ends_with(&expected), "{message}");
    }
    let null = dispatch(json!([null]));
    assert!(null.ends_with("Error at \"/0\": Value is not nullable"), "{null}");
    for (host, expected) in [
        (json!({ "ansible_host": "" }), "ansible_host\": minimum string length is 1"),
        (
            json!({ "inventory_id": "x" }),
            "inventory_id\": string doesn't match the format \"uuid\"",
        ),
        (json!({ "subscription_manager_id": null }), "Value is not nullable"),
        (json!("a"), "Error at \"/0/hosts/0\": value must be an object"),
    ] {
        let message = dispatch(with("hosts", json!([host])));
        assert!(message.contains(expected), "{message}");
    }
    for (config, expected) in [
        (json!({ "sat_id": "x" }), "sat_id\": string doesn't match the format \"sat-id-uuid\""),
        (json!({ "sat_org_id": "" }), "sat_org_id\": minimum string length is 1"),
        (json!([]), "Error at \"/0/recipient_config\": value must be an object"),
    ] {
        let message = dispatch(with("recipient_config", config));
        assert!(message.contains(expected), "{message}");
    }
    for (member, expected) in [
        ("web_console_url", "minimum string length is 1"),
        ("principal", "minimum string length is 1"),
        ("name", "minimum string length is 1"),
    ] {
        let message = dispatch(with(member, json!("")));
        assert!(message.ends_with(expected), "{member}: {message}");
    }
    // Lengths are of characters, and members are told apart by case.
    check::<Vec<DispatchItem>>(with("org_id", json!("éééééééééé"))).unwrap();
    check::<Vec<DispatchItem>>(with("Timeout", json!(-1))).unwrap();
    check::<Vec<DispatchItem>>(with("salad", json!({ "a": null }))).unwrap();
}

#[test]
fn the_default_timeout_is_put_in_place_of_nothing_and_null() {
    let filled = check::<Vec<DispatchItem>>(json!([item()])).unwrap();
    assert_eq!(filled[0]["timeout"], 3600);
    let filled = check::<Vec<DispatchItem>>(with("timeout", Value::Null)).unwrap();
    assert_eq!(filled[0]["timeout"], 3600);
    let filled = check::<Vec<DispatchItem>>(with("timeout", json!(60.0))).unwrap();
    assert_eq!(filled[0]["timeout"].as_i64(), Some(60));
}

#[test]
fn errors_come_by_member_name_and_missing_members_last() {
    let message = dispatch(json!([{ "url": "x", "org_id": "" }]));
    assert!(message.contains("/0/org_id"), "{message}");
    let message = dispatch(json!([{ "name": "n" }]));
    assert!(message.contains("/0/recipient"), "{message}");
}

#[test]
fn hosts_need_names_of_their_own() {
    let message = dispatch(with("hosts", json!([{ "ansible_host": "a" }, {}])));
    assert!(message.contains("Error at \"/0/hosts/1\": a host needs"), "{message}");
    let twice = json!([{ "ansible_host": "a" }, { "ansible_host": "a" }]);
    let message = dispatch(with("hosts", twice));
    assert!(message.contains("Error at \"/0/hosts/1\": host \"a\" is named twice"), "{message}");
    let named = |length: usize| with("hosts", json!([{ "ansible_host": "é".repeat(length / 2) }]));
    check::<Vec<DispatchItem>>(named(1024)).unwrap();
    let message = dispatch(named(1026));
    assert!(message.contains("Error at \"/0/hosts/0\": a host's name may take"), "{message}");
}

#[test]
fn inputs_are_checked_strictly() {
    let cases = [
        (json!({ "lim": "x" }), "unknown field `lim`"),
        (json!({ "verbosity": 6 }), "Error at \"/0/inputs/verbosity\": number must be at most 5"),
        (json!({ "tags": ["a", "b\0"] }), "Error at \"/0/inputs/tags/1\": string must not"),
        (json!({ "extra_vars": { "a": [{ "b\0": 1 }] } }), "U+0000"),
        (json!({ "inventory": "x".repeat(256 * 1024) }), "the most is 262144"),
        (json!([]), "Error at \"/0/inputs\""),
        (json!({ "playbook_sha256": "abc" }), "inputs/playbook_sha256\": string must be a SHA-256"),
        (
            json!({ "playbook_signature": "QUJD" }),
            "playbook_signature\": string must be an Ed25519",
        ),
    ];
    for (inputs, expected) in cases {
        let message = dispatch(with("inputs", inputs));
        assert!(message.contains(expected), "{message}");
    }
    let secret = dispatch(with("inputs", json!({ "secrets": "hunter2" })));
    assert!(secret.contains("/0/inputs/secrets\": value must be an object"), "{secret}");
    assert!(!secret.contains("hunter2"), "{secret}");
    let good = json!({ "extra_vars": { "a": 1 }, "check": true, "secrets": { "p": "x" } });
    check::<Vec<DispatchItem>>(with("inputs", good)).unwrap();
    check::<Vec<DispatchItem>>(with("inputs", Value::Null)).unwrap();
}

#[test]
fn the_other_bodies_have_schemas_too() {
    let message = check::<Vec<CancelItem>>(json!([{}])).unwrap_err();
    assert!(message.ends_with("Error at \"/0/run_id\": property \"run_id\" is missing"));
    let message = check::<Vec<AccountItem>>(json!([])).unwrap_err();
    let root = "request body has an error: doesn't match schema: minimum number of items is 1";
    assert_eq!(message, root);
    let mut by_account = item();
    by_account["recipient_config"] = json!({ "sat_id": 1 });
    let message = check::<Vec<AccountItem>>(json!([by_account])).unwrap_err();
    assert!(message.ends_with("Error at \"/0/account\": property \"account\" is missing"));
    by_account["account"] = json!("12345678901");
    let message = check::<Vec<AccountItem>>(json!([by_account])).unwrap_err();
    assert!(message.ends_with("Error at \"/0/account\": maximum string length is 10"));
    by_account["account"] = json!("0000001");
    by_account["hosts"] = json!([{}]);
    let message = check::<Vec<AccountItem>>(json!([by_account])).unwrap_err();
    assert!(message.contains("Error at \"/0/hosts/0\": a host needs"), "{message}");
    by_account["hosts"] = json!([{ "ansible_host": "a" }]);
    let filled = check::<Vec<AccountItem>>(json!([by_account])).unwrap();
    assert_eq!(filled[0]["timeout"], 3600);
    let message = check::<Vec<RecipientWithOrg>>(json!([{ "recipient": "x" }])).unwrap_err();
    assert!(message.contains("Error at \"/0/recipient\": string doesn't match"), "{message}");
    let id = "9200e4a3-c97c-4021-9856-82fa4673e8d2";
    let many = vec![json!({ "recipient": id, "org_id": "1" }); 200];
    check::<Vec<RecipientWithOrg>>(Value::Array(many)).unwrap();
}
