//! The OpenAPI documents: served to anybody, valid, with the names that generated clients know, and of
//! the routes that there are.

use std::{collections::BTreeSet, process::Stdio};

use dispatcher_tests::{
    process::{BASE, binary},
    service::InProcess,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{openapi_schema::Rules, route_roles};

pub(crate) const INTERNAL: &str = "/internal/openapi.json";

/// The documents, as anybody gets them: that of organisations, that of services.
pub(crate) async fn documents(url: &str) -> [Value; 2] {
    let public = format!("{BASE}/openapi.json");
    let mut found = Vec::new();
    for path in [public.as_str(), INTERNAL] {
        let answer = Client::new().get(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        found.push(answer.json().await.unwrap());
    }
    found.try_into().unwrap()
}

/// Every operation of a document: method, path, and what it says.
pub(crate) fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let of_path = |(path, methods): (&String, &'_ Value)| {
        let names: Vec<String> = methods.as_object().unwrap().keys().cloned().collect();
        names.into_iter().map(|name| (name.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    let all: Vec<(String, String)> = paths.flat_map(of_path).collect();
    let found = |(method, path): (String, String)| {
        let operation = &document["paths"][path.as_str()][method.to_lowercase()];
        (method, path, operation)
    };
    all.into_iter().map(found).collect()
}

#[tokio::test]
async fn anybody_gets_them_and_is_told_when_nothing_has_changed() {
    let service = InProcess::start().await.unwrap();
    for path in [format!("{BASE}/openapi.json"), INTERNAL.to_owned()] {
        let address = format!("{}{path}", service.url);
        let get = |tag: Option<String>| {
            let request = Client::new().get(&address);
            tag.into_iter().fold(request, |it, tag| it.header("if-none-match", tag)).send()
        };
        let whole = get(None).await.unwrap();
        let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        assert_eq!(whole.headers()["cache-control"], "no-cache");
        let text = whole.text().await.unwrap();
        assert!(text.starts_with("{\"openapi\":\"3.0.3\",") && text.ends_with("}\n"), "{text}");
        for had in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let answer = get(Some(had.clone())).await.unwrap();
            assert_eq!(answer.status(), 304, "{had}");
            assert_eq!(answer.headers()["etag"], tag);
            assert_eq!(answer.text().await.unwrap(), "");
        }
        let answer = get(Some("\"another\"".to_owned())).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, text));
        let head = Client::new().head(&address).send().await.unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["etag"], tag);
        let posted = Client::new().post(&address).send().await.unwrap();
        assert!(posted.status().is_client_error());
    }
}

#[tokio::test]
async fn they_name_the_service_itself_and_nobody_elses() {
    let servers = |document: &Value| -> Vec<String> {
        let servers = document["servers"].as_array().unwrap();
        servers.iter().map(|server| server["url"].as_str().unwrap().to_owned()).collect()
    };
    let variables =
        [("PUBLIC_URL", "https://d.example.org/x/"), ("JSONIFY_PRETTYPRINT_REGULAR", "True")];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let [public, internal] = documents(&service.url).await;
    assert_eq!(servers(&public), ["https://d.example.org/x", "/"]);
    assert_eq!(servers(&internal), ["/"]);
    let path = format!("{}{INTERNAL}", service.url);
    let indented = Client::new().get(path).send().await.unwrap().text().await.unwrap();
    assert!(indented.starts_with("{\n  \"openapi\": \"3.0.3\",\n"), "{indented}");

    let plain = InProcess::start().await.unwrap();
    let [mut here, same] = documents(&plain.url).await;
    assert_eq!(servers(&here), [plain.url.as_str(), "/"]);
    here["servers"] = public["servers"].clone();
    assert_eq!((here, same), (public, internal));
}

#[tokio::test]
async fn the_command_prints_what_instances_serve() {
    let variables = [("PUBLIC_URL", "https://d.example.org")];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let [public, internal] = documents(&service.url).await;
    let printed = async |arguments: &'static [&'static str]| -> Value {
        let mut command = Command::new(binary("dispatcher-api").unwrap());
        command.arg("openapi").args(arguments).env_clear().stdin(Stdio::null());
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(printed(&["--server", "https://d.example.org/"]).await, public);
    assert_eq!(printed(&["--internal"]).await, internal);
    let mut anywhere = public;
    anywhere["servers"].as_array_mut().unwrap().remove(0);
    assert_eq!(printed(&[]).await, anywhere);
}

/// Every schema in a document, those inside of others, too.
fn schemas(document: &Value) -> Vec<&Value> {
    fn add<'a>(schema: &'a Value, all: &mut Vec<&'a Value>) {
        all.push(schema);
        let inner = schema["properties"].as_object().into_iter().flat_map(|it| it.values());
        let parts = schema["allOf"].as_array().into_iter().flatten();
        let more = ["items", "additionalProperties"].map(|name| &schema[name]);
        let more = more.into_iter().filter(|schema| schema.is_object());
        inner.chain(parts).chain(more).for_each(|schema| add(schema, all));
    }
    fn seek<'a>(value: &'a Value, all: &mut Vec<&'a Value>) {
        if let Value::Object(members) = value {
            for (name, member) in members {
                match name.as_str() {
                    "schema" => add(member, all),
                    "schemas" => member.as_object().unwrap().values().for_each(|it| add(it, all)),
                    _ => seek(member, all),
                }
            }
        }
    }
    let mut all = Vec::new();
    seek(document, &mut all);
    all
}

/// Every `$ref` in a value; none has other members beside it.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref") {
                assert_eq!(members.len(), 1, "{value}");
                found.insert(reference.as_str().unwrap().to_owned());
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn check_schema(rules: &Rules, schema: &Value) {
    let plain = rules.plain(schema);
    let types = ["object", "array", "string", "integer", "boolean"];
    assert!(types.contains(&plain["type"].as_str().unwrap()), "{schema}");
    for name in plain["required"].as_array().into_iter().flatten() {
        assert!(plain["properties"].get(name.as_str().unwrap()).is_some(), "{name}: {schema}");
    }
    assert_eq!(plain["type"] == "array", plain.get("items").is_some(), "{schema}");
    let values = plain["enum"].as_array();
    let distinct: BTreeSet<_> = values.into_iter().flatten().map(Value::to_string).collect();
    assert_eq!(distinct.len(), values.map_or(0, Vec::len), "{schema}");
    for name in ["default", "example"] {
        if let Some(value) = plain.get(name) {
            rules.check(&plain, value).unwrap();
        }
    }
}

#[tokio::test]
async fn they_are_valid() {
    let service = InProcess::start().await.unwrap();
    for document in documents(&service.url).await {
        assert_eq!(document["openapi"], "3.0.3");
        assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
        let rules = Rules { document: document.clone(), closed: true, format: |_, _| true };
        for schema in schemas(&document) {
            check_schema(&rules, schema);
        }
        let (mut used, mut ids) = (BTreeSet::new(), BTreeSet::new());
        references(&document, &mut used);
        for (method, path, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} is the name of two operations");
            assert!(operation["summary"].is_string(), "{method} {path}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(!answers.is_empty(), "{method} {path}");
            let told = |it: &Value| it["description"].is_string() || it["$ref"].is_string();
            assert!(answers.values().all(told), "{method} {path}");
            assert!(!path.contains('{'), "a path with parameters, which nothing here describes");
        }
        for parameter in document["components"]["parameters"].as_object().unwrap().values() {
            assert_eq!(
                (&parameter["in"], &parameter["required"]),
                (&json!("query"), &json!(false))
            );
            let deep = parameter["style"] == "deepObject" && parameter["explode"] == json!(true);
            let object = rules.plain(&parameter["schema"])["type"] == "object";
            assert_eq!(deep, object, "{parameter}");
        }
        // Everything that is named is there, and nothing else is.
        let mut defined = BTreeSet::new();
        for (kind, named) in document["components"].as_object().unwrap() {
            let place = |name: &String| format!("#/components/{kind}/{name}");
            defined.extend(named.as_object().unwrap().keys().map(place));
        }
        assert_eq!(used, defined);
    }
}

#[tokio::test]
async fn every_route_of_the_contract_is_described_and_every_described_one_is_there() {
    let service = InProcess::start().await.unwrap();
    let [public, internal] = documents(&service.url).await;
    let described: BTreeSet<(String, String)> = [&public, &internal]
        .into_iter()
        .flat_map(operations)
        .map(|(method, path, _)| (method, path.replace(BASE, "~")))
        .collect();
    // The internal routes are the contract's, all but the document; two of the public ones are.
    let contract = route_roles::routes().into_iter().filter(|(method, path)| {
        let public = ["~/runs", "~/run_hosts"].contains(&path.as_str()) && method == "GET";
        public || path.starts_with("/internal/") && path != INTERNAL
    });
    assert_eq!(described, contract.collect());
    for (method, path) in described {
        let request = service.request(method.parse::<Method>().unwrap(), &path.replace('~', BASE));
        let answer = request.send().await.unwrap();
        assert_ne!(answer.status(), 404, "{method} {path}: {}", answer.text().await.unwrap());
    }
}
