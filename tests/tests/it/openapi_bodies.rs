//! What the documents say about request bodies is what handlers accept: random bodies that follow the
//! documents, and others that were spoiled somewhere, are judged alike by both.

use std::collections::BTreeMap;

use dispatcher_api::http::schema::bodies::ContractBody;
use dispatcher_tests::service::InProcess;
use dispatcher_wire::dispatch::{
    AccountItem, CancelItem, DispatchItem, HostsWithOrg, RecipientWithOrg,
};
use proptest::{
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree as _,
    test_runner::TestRunner,
};
use serde_json::{Map, Value, json};
use uuid::{Uuid, Variant};

use crate::{openapi::documents, openapi_schema::Rules};

/// How many bodies of each kind are judged.
const BODIES: usize = 400;

/// What a schema cannot say, by the messages of the handlers: U+0000, which no database can hold; the
/// names of hosts; how large inputs are, and what a digest and a signature in them look like; numbers in
/// inputs that are whole and written with a fraction.
const BEYOND_SCHEMAS: [&str; 7] = [
    "U+0000",
    "a host needs ansible_host or inventory_id",
    "is named twice in this item",
    "a host's name may take",
    "string must be a SHA-256",
    "string must be an Ed25519 signature",
    "invalid type: floating point",
];

/// The formats of requests, as the contract words them.
fn format(name: &str, text: &str) -> bool {
    let uuid = |versions: &[usize]| {
        let parsed = Uuid::parse_str(text).ok();
        let lower = text.char_indices().all(|(at, c)| at == 19 || !c.is_ascii_uppercase());
        parsed.is_some_and(|uuid| {
            let known = versions.contains(&uuid.get_version_num());
            known && text.len() == 36 && lower && uuid.get_variant() == Variant::RFC4122
        })
    };
    match name {
        "uuid" => uuid(&[4]),
        "sat-id-uuid" => uuid(&[4, 5]),
        "url" => {
            let after = text.strip_prefix("http").map(|it| it.strip_prefix('s').unwrap_or(it));
            after.is_some_and(|it| it.starts_with("://")) && !text.contains('\n')
        }
        other => panic!("no request has the format {other}"),
    }
}

/// What the handler of such a body says of it.
fn handled<T: ContractBody>(mut body: Value) -> Result<(), String> {
    let schema = T::schema();
    let checked = schema.apply(&mut body).and_then(|()| T::check(&body));
    checked.map_err(|violation| violation.text())?;
    serde_json::from_value::<T>(body).map(drop).map_err(|error| error.to_string())
}

fn text(min: u64, max: u64) -> BoxedStrategy<Value> {
    let sizes = usize::try_from(min).unwrap()..=usize::try_from(max).unwrap();
    let characters = prop_oneof![3 => proptest::char::range('a', 'z'), 1 => any::<char>()];
    let characters = characters.prop_filter("no database can hold it", |c| *c != '\0');
    proptest::collection::vec(characters, sizes)
        .prop_map(|text| Value::from(text.into_iter().collect::<String>()))
        .boxed()
}

fn identifier(version: usize) -> BoxedStrategy<Value> {
    let made = move |number: u128| {
        let bytes = number.to_be_bytes();
        let uuid = if version == 5 {
            uuid::Builder::from_sha1_bytes(bytes).into_uuid()
        } else {
            uuid::Builder::from_random_bytes(bytes).into_uuid()
        };
        json!(uuid)
    };
    any::<u128>().prop_map(made).boxed()
}

fn string(schema: &Value) -> BoxedStrategy<Value> {
    let min = schema["minLength"].as_u64().unwrap_or(0);
    match schema["format"].as_str() {
        Some("uuid") => identifier(4),
        Some("sat-id-uuid") => prop_oneof![identifier(4), identifier(5)].boxed(),
        Some(_) => select(vec!["http://a", "https://example.com/?a=b#c", "https://"])
            .prop_map(Value::from)
            .boxed(),
        None => text(min, schema["maxLength"].as_u64().unwrap_or(min + 12)),
    }
}

/// Values that a schema allows.
fn allowed(rules: &Rules, schema: &Value) -> BoxedStrategy<Value> {
    let schema = rules.plain(schema);
    match schema["type"].as_str().unwrap() {
        "string" => string(&schema),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => {
            let [min, max] = ["minimum", "maximum"].map(|name| schema[name].as_i64().unwrap());
            prop_oneof![Just(min), Just(max), min..=max].prop_map(Value::from).boxed()
        }
        "array" => {
            let limit = |name: &str| schema[name].as_u64().map(|it| usize::try_from(it).unwrap());
            let min = limit("minItems").unwrap_or(0);
            let few = min..=limit("maxItems").unwrap_or(60).min(min + 3);
            let items = allowed(rules, &schema["items"]);
            proptest::collection::vec(items, few).prop_map(Value::from).boxed()
        }
        _ => object(rules, &schema),
    }
}

fn object(rules: &Rules, schema: &Value) -> BoxedStrategy<Value> {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let members = schema["properties"].as_object().cloned().unwrap_or_default();
    let members: Vec<BoxedStrategy<Option<(String, Value)>>> = members
        .into_iter()
        .map(|(name, schema)| {
            let value = allowed(rules, &schema);
            let value = if required.contains(&json!(name)) {
                value.prop_map(Some).boxed()
            } else {
                proptest::option::weighted(0.4, value).boxed()
            };
            value.prop_map(move |value| Some((name.clone(), value?))).boxed()
        })
        .collect();
    // Members of the caller's own choice where the schema says what they are, or anything goes.
    let (room, more) = match &schema["additionalProperties"] {
        Value::Bool(true) => (3, text(0, 3)),
        more @ Value::Object(_) => (3, allowed(rules, more)),
        _ => (0, text(0, 0)),
    };
    let more = proptest::collection::vec((text(0, 4), more), 0..=room);
    (members, more)
        .prop_map(|(members, more)| {
            let named =
                more.into_iter().map(|(name, value)| (name.as_str().unwrap().to_owned(), value));
            Value::from(members.into_iter().flatten().chain(named).collect::<Map<_, _>>())
        })
        .boxed()
}

/// Every place in a value.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            places(member, &format!("{here}/{}", escaped(name)), found);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| {
            places(item, &format!("{here}/{at}"), found);
        }),
        _ => {}
    }
}

/// What may be put somewhere, most of it wrong almost everywhere.
fn odd() -> BoxedStrategy<Value> {
    let texts = [
        "",
        "x",
        "1234567890",
        "12345678901",
        "äöüäöüäöüä",
        "äöüäöüäöüäö",
        "http://",
        "ftp://x",
        "https://x\ny",
        "HTTP://x",
        "9200e4a3-c97c-4021-9856-82fa4673e8d2",
        "9200E4A3-C97C-4021-9856-82FA4673E8D2",
        "9200e4a3-c97c-4021-A856-82fa4673e8d2",
        "9274c274-a258-5d00-91fe-dbe0f7849cef",
        "9274c274-a258-1d00-91fe-dbe0f7849cef",
        "9200e4a3-c97c-4021-c856-82fa4673e8d2",
        "9200e4a3c97c4021985682fa4673e8d2",
        "00000000-0000-0000-0000-000000000000",
        "a\0b",
    ];
    let others = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(5),
        json!(6),
        json!(604_800),
        json!(604_801),
        json!(1.5),
        json!(60.0),
        json!(1e300),
        json!(u64::MAX),
        json!([]),
        json!({}),
        json!([null]),
        json!(["x"]),
        json!({ "x": "y" }),
        json!({ "x": 1 }),
        json!({ "x": null }),
        json!({ "ansible_host": "h" }),
        json!([{ "ansible_host": "h" }]),
        json!([{}]),
    ];
    prop_oneof![select(texts.to_vec()).prop_map(Value::from), select(others)].boxed()
}

/// One change of a body.
#[derive(Clone, Debug)]
enum Change {
    Put(Index, Value),
    Add(Index, &'static str, Value),
    Drop(Index),
    Repeat(Index, usize),
}

fn change() -> BoxedStrategy<Change> {
    let names = select(vec!["timeout", "inputs", "labels", "hosts", "name", "other", "Timeout"]);
    prop_oneof![
        4 => (any::<Index>(), odd()).prop_map(|(at, value)| Change::Put(at, value)),
        2 => (any::<Index>(), names, odd()).prop_map(|(at, name, value)| Change::Add(at, name, value)),
        3 => any::<Index>().prop_map(Change::Drop),
        1 => (any::<Index>(), select(vec![2, 49, 50, 51, 60])).prop_map(|(at, n)| Change::Repeat(at, n)),
    ]
    .boxed()
}

fn spoil(body: &mut Value, change: Change) {
    let mut all = Vec::new();
    places(body, "", &mut all);
    let (Change::Put(at, _) | Change::Add(at, ..) | Change::Drop(at) | Change::Repeat(at, _)) =
        &change;
    let place: &String = at.get(&all);
    let target = body.pointer_mut(place).unwrap();
    match (change, target) {
        (Change::Put(_, value), target) => *target = value,
        (Change::Add(_, name, value), Value::Object(members)) => {
            members.insert(name.to_owned(), value);
        }
        (Change::Drop(at), Value::Object(members)) if !members.is_empty() => {
            let names: Vec<String> = members.keys().cloned().collect();
            members.remove(at.get(&names));
        }
        (Change::Drop(_), Value::Array(items)) => drop(items.pop()),
        (Change::Repeat(_, times), Value::Array(items)) => {
            *items = items.iter().cycle().take(times).cloned().collect();
        }
        _ => {}
    }
}

/// What handlers also take, and the documents do not offer: null for what is absent.
fn without_nulls(body: &mut Value) {
    const OF_INPUTS: [&str; 6] =
        ["extra_vars", "inventory", "limit", "playbook_sha256", "playbook_signature", "secrets"];
    let forget = |holder: Option<&mut Value>, names: &[&str]| {
        if let Some(Value::Object(members)) = holder {
            members.retain(|name, value| !(value.is_null() && names.contains(&name.as_str())));
        }
    };
    for item in body.as_array_mut().into_iter().flatten() {
        forget(item.get_mut("inputs"), &OF_INPUTS);
        forget(Some(item), &["timeout", "inputs"]);
    }
}

/// How many bodies were accepted, and how many refused.
fn judge<T: ContractBody>(document: &Value, path: &str) -> (usize, usize) {
    let rules = Rules { document: document.clone(), closed: false, format };
    let schema =
        document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
            .clone();
    let bodies = (
        allowed(&rules, &schema),
        prop_oneof![1 => Just(Vec::new()), 3 => proptest::collection::vec(change(), 1..3)],
    );
    let (mut runner, mut said) = (TestRunner::default(), BTreeMap::new());
    for _ in 0..BODIES {
        let (mut body, changes) = bodies.new_tree(&mut runner).unwrap().current();
        changes.into_iter().for_each(|change| spoil(&mut body, change));
        let by_handler = handled::<T>(body.clone());
        if let Err(message) = &by_handler
            && BEYOND_SCHEMAS.iter().any(|beyond| message.contains(beyond))
        {
            continue;
        }
        let mut described = body.clone();
        without_nulls(&mut described);
        let by_document = rules.check(&schema, &described);
        assert_eq!(
            by_handler.is_ok(),
            by_document.is_ok(),
            "{path}: the handler says {by_handler:?}, the document {by_document:?}: {body}"
        );
        *said.entry(by_handler.is_ok()).or_default() += 1;
    }
    let count = |accepted: bool| said.get(&accepted).copied().unwrap_or_default();
    (count(true), count(false))
}

#[tokio::test]
async fn handlers_and_documents_judge_bodies_alike() {
    let service = InProcess::start().await.unwrap();
    let [_, document] = documents(&service.url).await;
    let mut bodies = 0;
    for (path, (accepted, refused)) in [
        ("/internal/v2/dispatch", judge::<Vec<DispatchItem>>(&document, "/internal/v2/dispatch")),
        ("/internal/dispatch", judge::<Vec<AccountItem>>(&document, "/internal/dispatch")),
        ("/internal/v2/cancel", judge::<Vec<CancelItem>>(&document, "/internal/v2/cancel")),
        (
            "/internal/v2/recipients/status",
            judge::<Vec<RecipientWithOrg>>(&document, "/internal/v2/recipients/status"),
        ),
        (
            "/internal/v2/connection_status",
            judge::<HostsWithOrg>(&document, "/internal/v2/connection_status"),
        ),
    ] {
        assert!(accepted > 30 && refused > 30, "{path}: {accepted} accepted, {refused} refused");
        bodies += 1;
    }
    let posts = document["paths"].as_object().unwrap().values();
    let described = posts.filter(|path| path["post"]["requestBody"].is_object()).count();
    assert_eq!(bodies, described, "every body that the document describes");
}

#[tokio::test]
async fn the_least_and_the_most_are_at_the_same_place() {
    let service = InProcess::start().await.unwrap();
    let [_, document] = documents(&service.url).await;
    let rules = Rules { document: document.clone(), closed: false, format };
    let path = "/internal/v2/dispatch";
    let schema =
        &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let item = |more: Value| {
        let mut item = json!({
            "recipient": "9200e4a3-c97c-4021-9856-82fa4673e8d2", "org_id": "1", "principal": "p",
            "url": "http://x", "name": "n",
        });
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        item
    };
    for (body, good) in [
        (json!(vec![item(json!({})); 50]), true),
        (json!(vec![item(json!({})); 51]), false),
        (json!([]), false),
        (json!([item(json!({ "org_id": "é".repeat(10) }))]), true),
        (json!([item(json!({ "org_id": "é".repeat(11) }))]), false),
        (json!([item(json!({ "timeout": 604_800.0 }))]), true),
        (json!([item(json!({ "timeout": 604_801 }))]), false),
        (json!([item(json!({ "inputs": null }))]), true),
        (json!([item(json!({ "inputs": { "verbosity": 5, "limit": null } }))]), true),
        (json!([item(json!({ "inputs": { "verbosity": 6 } }))]), false),
        (json!([item(json!({ "inputs": { "colour": "red" } }))]), false),
        (json!([item(json!({ "inputs": { "check": null } }))]), false),
        (json!([item(json!({ "labels": null }))]), false),
        (json!([item(json!({ "hosts": [] }))]), true),
    ] {
        assert_eq!(handled::<Vec<DispatchItem>>(body.clone()).is_ok(), good, "{body}");
        let mut described = body.clone();
        without_nulls(&mut described);
        assert_eq!(rules.check(schema, &described).is_ok(), good, "{body}");
    }
}
