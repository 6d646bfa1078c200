//! The parameters of the lists as OpenAPI writes them, from the tables that queries are checked with.

use serde_json::{Map, Value, json};

use super::shapes::{arrange, named, put};
use crate::{
    http::parameters::{
        FilterSpec, Filters, IntegerSpec, LIMIT, NEWEST_FIRST, OFFSET, SORT_ORDERS,
    },
    runs::{
        self,
        fields::{RUN_DEFAULTS, RUN_FIELDS, RUN_HOST_DEFAULTS, RUN_HOST_FIELDS},
    },
};

/// The schema of the values of labels.
const LABELS: &str = "RunLabelsNullable";

/// Every list's filters.
const FILTERS: [&Filters; 2] = [&runs::routes::FILTERS, &runs::hosts::routes::FILTERS];

/// The parameters, by the names that operations refer to.
pub(super) fn parameters() -> Value {
    json!({
        "RunsFilter": deep("filter", FILTER, filter(&runs::routes::FILTERS)),
        "RunHostFilter": deep("filter", FILTER, run_host_filter()),
        "RunsFields": deep("fields", FIELDS, fields(&RUN_FIELDS, &RUN_DEFAULTS)),
        "RunHostFields": deep("fields", FIELDS, fields(&RUN_HOST_FIELDS, &RUN_HOST_DEFAULTS)),
        "RunsSortBy": {
            "name": "sort_by",
            "in": "query",
            "description": "Which runs come first; `created_at` alone means the newest.",
            "required": false,
            "schema": { "type": "string", "enum": SORT_ORDERS, "default": NEWEST_FIRST },
        },
        "Limit": integer(&LIMIT, "How many items a page has at most."),
        "Offset": integer(&OFFSET, "How many items that match come before the page."),
    })
}

const FILTER: &str = "Only what matches all of it, such as `filter[status]=running` or \
                      `filter[labels][name]=value`.";
const FIELDS: &str = "The members that items of the answer have, such as `fields[data]=id,status`.";

/// A parameter with members in brackets.
fn deep(name: &str, about: &str, schema: Value) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": about,
        "required": false,
        "style": "deepObject",
        "explode": true,
        "schema": schema,
    })
}

fn filter(filters: &Filters) -> Value {
    let of_member = |spec: &FilterSpec| {
        (spec.name.to_owned(), spec.component.map_or_else(|| value(spec), named))
    };
    let mut properties: Map<String, Value> = filters.members.iter().map(of_member).collect();
    if filters.labels {
        properties.insert("labels".to_owned(), named(LABELS));
    }
    if let Some(run) = filters.run {
        let mut run = filter(run);
        put(&mut run, "nullable", Some(true));
        properties.insert("run".to_owned(), run);
    }
    json!({ "type": "object", "properties": properties })
}

/// In the order in which generated constructors take the members.
fn run_host_filter() -> Value {
    let mut filter = filter(&runs::hosts::routes::FILTERS);
    arrange(&mut filter, &["status", "run", "inventory_id"]);
    filter
}

/// What a member's value may be.
fn value(spec: &FilterSpec) -> Value {
    let mut value = json!({ "type": "string" });
    put(&mut value, "enum", Some(spec.allowed).filter(|allowed| !allowed.is_empty()));
    let not_empty = spec.allowed.is_empty() && !spec.may_be_empty;
    put(&mut value, "minLength", not_empty.then_some(1));
    value
}

/// The schemas that filters refer to. They are `nullable` since that is what generated clients have:
/// an absent member, not a value that could be sent.
pub(super) fn schemas() -> Map<String, Value> {
    let mut found = Map::new();
    for filters in FILTERS {
        collect(filters, &mut found);
    }
    found
}

fn collect(filters: &Filters, found: &mut Map<String, Value>) {
    let mut add = |name: &str, mut schema: Value| {
        put(&mut schema, "nullable", Some(true));
        found.insert(name.to_owned(), schema);
    };
    for spec in filters.members {
        if let Some(name) = spec.component {
            add(name, value(spec));
        }
    }
    if filters.labels {
        add(LABELS, json!({ "type": "object", "additionalProperties": { "type": "string" } }));
    }
    if let Some(run) = filters.run {
        collect(run, found);
    }
}

fn fields(on_offer: &[&str], defaults: &[&str]) -> Value {
    let names = json!({ "type": "string", "enum": on_offer });
    let data = json!({ "type": "array", "items": names, "default": defaults });
    json!({ "type": "object", "properties": { "data": data } })
}

fn integer(spec: &IntegerSpec, about: &str) -> Value {
    let IntegerSpec { name, min, max, default } = *spec;
    let mut schema = json!({ "type": "integer", "minimum": min });
    put(&mut schema, "maximum", max);
    put(&mut schema, "default", Some(default));
    json!({
        "name": name, "in": "query", "description": about, "required": false, "schema": schema,
    })
}
