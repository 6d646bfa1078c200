//! What an OpenAPI document says about a value: as much of its schemas as our documents use, and
//! nothing else (a keyword that is not known here fails).

use serde_json::{Map, Value, json};

/// Everything that a schema of ours may contain.
const KEYWORDS: [&str; 20] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "default",
    "deprecated",
    "description",
    "enum",
    "example",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "nullable",
    "properties",
    "required",
    "type",
];

/// A document, and how strictly it is read.
pub(crate) struct Rules {
    pub(crate) document: Value,
    /// Whether members that no schema names are refused.
    pub(crate) closed: bool,
    /// Whether a text is of a format.
    pub(crate) format: fn(&str, &str) -> bool,
}

impl Rules {
    /// A schema with what it refers to, and what it is composed of, in its place.
    pub(crate) fn plain(&self, schema: &Value) -> Value {
        let names = schema.as_object().unwrap().keys();
        let unknown: Vec<_> = names.filter(|name| !KEYWORDS.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {schema}");
        if let Some(reference) = schema["$ref"].as_str() {
            let place = reference.strip_prefix('#').unwrap();
            let found = self.document.pointer(place);
            return self.plain(found.unwrap_or_else(|| panic!("{reference} leads nowhere")));
        }
        let Some(parts) = schema["allOf"].as_array() else { return schema.clone() };
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for part in parts.iter().map(|part| self.plain(part)) {
            properties.extend(part["properties"].as_object().unwrap().clone());
            required.extend(part["required"].as_array().unwrap().clone());
        }
        json!({ "type": "object", "properties": properties, "required": required })
    }

    /// What is wrong with a value, and where.
    pub(crate) fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.plain(schema);
        if value.is_null() {
            let may_be = schema["nullable"] == json!(true);
            return may_be.then_some(()).ok_or_else(|| ": null".to_owned());
        }
        match (schema["type"].as_str().unwrap(), value) {
            ("object", Value::Object(members)) => self.check_object(&schema, members),
            ("array", Value::Array(items)) => self.check_array(&schema, items),
            ("string", Value::String(text)) => self.check_string(&schema, text),
            ("integer", Value::Number(_)) => check_integer(&schema, value),
            ("boolean", Value::Bool(_)) => Ok(()),
            (wanted, _) => Err(format!(": {value} is not of type {wanted}")),
        }
    }

    fn check_object(&self, schema: &Value, members: &Map<String, Value>) -> Result<(), String> {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !members.contains_key(name.as_str().unwrap()) {
                return Err(format!(": {name} is missing"));
            }
        }
        let more = &schema["additionalProperties"];
        for (name, member) in members {
            let known = schema["properties"].get(name);
            let checked = match (known, more) {
                (Some(schema), _) => self.check(schema, member),
                (None, Value::Object(_)) => self.check(more, member),
                (None, Value::Bool(true)) => Ok(()),
                (None, Value::Null) if !self.closed => Ok(()),
                (None, _) => Err(": nothing says what this is".to_owned()),
            };
            checked.map_err(|why| format!("/{name}{why}"))?;
        }
        Ok(())
    }

    fn check_array(&self, schema: &Value, items: &[Value]) -> Result<(), String> {
        within(schema, "minItems", "maxItems", items.len())?;
        items.iter().enumerate().try_for_each(|(at, item)| {
            self.check(&schema["items"], item).map_err(|why| format!("/{at}{why}"))
        })
    }

    fn check_string(&self, schema: &Value, text: &str) -> Result<(), String> {
        within(schema, "minLength", "maxLength", text.chars().count())?;
        let allowed = schema["enum"].as_array();
        if allowed.is_some_and(|allowed| !allowed.contains(&json!(text))) {
            return Err(format!(": {text:?} is not allowed"));
        }
        match schema["format"].as_str() {
            Some(format) if !(self.format)(format, text) => Err(format!(": {text:?}: {format}")),
            _ => Ok(()),
        }
    }
}

fn within(schema: &Value, min: &str, max: &str, count: usize) -> Result<(), String> {
    let limit = |name: &str| schema[name].as_u64().map(|limit| usize::try_from(limit).unwrap());
    let fits =
        limit(min).is_none_or(|min| count >= min) && limit(max).is_none_or(|max| count <= max);
    fits.then_some(()).ok_or_else(|| format!(": {count} is not within {min} and {max}"))
}

/// A number without a fraction is an integer, however it is written.
fn check_integer(schema: &Value, value: &Value) -> Result<(), String> {
    let number = value.as_f64().unwrap();
    let limit = |name: &str| schema[name].as_f64();
    let fits = number.fract() == 0.0
        && limit("minimum").is_none_or(|min| number >= min)
        && limit("maximum").is_none_or(|max| number <= max);
    fits.then_some(()).ok_or_else(|| format!(": {value} is no integer that is allowed"))
}

#[test]
fn the_check_itself_finds_what_it_should() {
    let document = json!({ "components": { "schemas": {
        "Name": { "type": "string", "minLength": 1, "maxLength": 2, "format": "ab" },
        "Named": {
            "type": "object", "properties": { "name": { "$ref": "#/components/schemas/Name" } },
            "required": ["name"],
        },
        "Both": { "allOf": [
            { "$ref": "#/components/schemas/Named" },
            { "type": "object", "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 9 } },
              "required": [] },
        ] },
        "Bag": {
            "type": "object", "nullable": true, "additionalProperties": { "type": "string", "enum": ["x"] },
        },
        "Few": { "type": "array", "items": { "type": "boolean" }, "minItems": 1, "maxItems": 2 },
        "Free": { "type": "object", "properties": {}, "additionalProperties": true },
    } } });
    let rules = |closed| Rules {
        document: document.clone(),
        closed,
        format: |name, text| name == "ab" && text.starts_with('a'),
    };
    let says = |closed: bool, name: &str, value: Value| {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        rules(closed).check(&schema, &value).is_ok()
    };
    for (name, good) in [
        ("Both", json!({ "name": "aé", "n": 9.0 })),
        ("Both", json!({ "name": "a" })),
        ("Bag", json!({ "k": "x" })),
        ("Bag", Value::Null),
        ("Few", json!([true, false])),
        ("Free", json!({ "any": [1] })),
    ] {
        assert!(says(true, name, good.clone()), "{name}: {good}");
    }
    for (name, bad) in [
        ("Both", json!({ "n": 1 })),
        ("Both", json!({ "name": "b" })),
        ("Both", json!({ "name": "" })),
        ("Both", json!({ "name": "abc" })),
        ("Both", json!({ "name": null })),
        ("Both", json!({ "name": "a", "n": 1.5 })),
        ("Both", json!({ "name": "a", "n": -1 })),
        ("Both", json!({ "name": "a", "n": 10 })),
        ("Both", json!({ "name": "a", "n": "1" })),
        ("Both", json!([])),
        ("Bag", json!({ "k": "y" })),
        ("Few", json!([])),
        ("Few", json!([true, true, true])),
        ("Few", json!([1])),
    ] {
        assert!(!says(false, name, bad.clone()), "{name}: {bad}");
    }
    let more = json!({ "name": "a", "more": 1 });
    assert!(says(false, "Both", more.clone()) && !says(true, "Both", more));
}
