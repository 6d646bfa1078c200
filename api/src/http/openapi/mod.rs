//! The OpenAPI documents, which clients are generated from: 3.0.3, since generators need that.
//!
//! They are made of what handlers check requests with: the schemas of bodies ([`super::schema`]), the
//! tables of parameters ([`super::parameters`]), the fields of the lists. What answers look like stands in
//! `answers`; tests hold it against real ones (decision 24). Names that generated clients have (operations, schemas,
//! parameters) are Playbook Dispatcher's.

mod answers;
mod operations;
mod parameters;
pub mod routes;
mod shapes;

use std::collections::BTreeSet;

use anyhow::Context as _;
use aws_lc_rs::digest;
use axum::http::HeaderValue;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use self::operations::Operation;
use super::json;
use crate::keyring::hex;

/// The version of what is described, which is the contract's.
const VERSION: &str = "1.0.0";
/// So many hexadecimal digits of a digest tell documents apart.
const TAG_DIGITS: usize = 32;

/// A document as it is served: made once, never copied.
#[derive(Clone, Debug)]
pub struct Document {
    body: Bytes,
    tag: HeaderValue,
}

/// The documents of a service.
#[derive(Clone, Debug)]
pub struct Documents {
    /// Of what organisations call.
    pub public: Document,
    /// Of what services call.
    pub internal: Document,
}

impl Documents {
    /// Those of the service at this address, indented or not.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn new(public_url: &str, indented: bool) -> anyhow::Result<Self> {
        Ok(Self {
            public: Document::new(&public(Some(public_url)), indented)?,
            internal: Document::new(&internal(), indented)?,
        })
    }
}

impl Document {
    fn new(document: &Value, indented: bool) -> anyhow::Result<Self> {
        let body = json::bytes(document).context("an OpenAPI document cannot be written")?;
        let body = if indented { json::indented(&body) } else { body };
        let digits = hex(digest::digest(&digest::SHA256, &body).as_ref());
        let tag = format!("\"{}\"", digits.get(..TAG_DIGITS).unwrap_or(&digits));
        Ok(Self { body: body.into(), tag: HeaderValue::try_from(tag)? })
    }
}

/// The document of what organisations call. Where the service is known by an address, that comes first.
#[must_use]
pub fn public(public_url: Option<&str>) -> Value {
    let about = "Runs of Ansible playbooks on connected hosts, and the hosts in them. Requests carry \
                 `x-rh-identity` from a trusted gateway, or an `Authorization` header with a \
                 pre-shared key (`PSK …`) or a token (`Bearer …`). Any operation may also answer 401, \
                 429, 500 or 503 with an `Error`.";
    let here = public_url.map(|url| json!({ "url": url, "description": "this service" }));
    let servers = here.into_iter().chain([relative()]).collect();
    document(("Playbook Dispatcher", about), servers, &operations::PUBLIC)
}

/// The document of what services call.
#[must_use]
pub fn internal() -> Value {
    let about = "What services ask for: runs of Ansible playbooks, their end, and whether hosts can \
                 be reached. Requests carry `Authorization: PSK …`, or `x-rh-identity` where that is \
                 said. Any operation may also answer 400, 401, 403, 413, 429, 500 or 503 with an \
                 `Error`.";
    document(("Playbook Dispatcher Internal API", about), vec![relative()], &operations::INTERNAL)
}

fn relative() -> Value {
    json!({ "url": "/", "description": "wherever this document was read from" })
}

fn document((title, about): (&str, &str), servers: Vec<Value>, operations: &[Operation]) -> Value {
    let paths = operations::paths(operations);
    let components = reachable(&paths, &everything(operations));
    json!({
        "openapi": "3.0.3",
        "info": { "title": title, "description": about, "version": VERSION },
        "servers": servers,
        "paths": paths,
        "components": components,
    })
}

/// Every component there is, by kind and name.
fn everything(operations: &[Operation]) -> Value {
    let mut schemas = answers::schemas();
    schemas.extend(parameters::schemas());
    for operation in operations {
        if let Some(body) = operation.body {
            shapes::collect(body(), &mut schemas);
        }
    }
    for component in answers::OF_REQUESTS {
        shapes::collect(&component, &mut schemas);
    }
    schemas.sort_keys();
    json!({
        "schemas": schemas,
        "parameters": parameters::parameters(),
        "responses": answers::responses(),
    })
}

/// Those of the components that something refers to, directly or not.
fn reachable(from: &Value, components: &Value) -> Value {
    let (mut found, mut unread) = (BTreeSet::new(), vec![from]);
    while let Some(value) = unread.pop() {
        match value {
            Value::Object(members) => {
                let reference = members.get("$ref").and_then(Value::as_str);
                if let Some(place) = reference.and_then(|it| it.strip_prefix("#/components"))
                    && found.insert(place)
                {
                    unread.extend(components.pointer(place));
                }
                unread.extend(members.values());
            }
            Value::Array(items) => unread.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut kept = Map::new();
    for (kind, named) in components.as_object().into_iter().flatten() {
        let of_kind = named.as_object().into_iter().flatten();
        let wanted = of_kind.filter(|(name, _)| found.contains(format!("/{kind}/{name}").as_str()));
        let wanted: Map<String, Value> =
            wanted.map(|(name, component)| (name.clone(), component.clone())).collect();
        if !wanted.is_empty() {
            kept.insert(kind.clone(), wanted.into());
        }
    }
    kept.into()
}
