//! Schemas of bodies as OpenAPI writes them. Pure: nothing is known here but the schemas.

use serde_json::{Map, Value, json};

use crate::http::schema::{Component, Format, Schema};

/// A place in the document where a schema of that name stands.
pub(super) fn named(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A schema, those with names by reference.
pub(super) fn shape(schema: &Schema) -> Value {
    match schema {
        Schema::Named(Component { name, .. }) | Schema::Elsewhere(name) => named(name),
        Schema::Array { items, min, max } => {
            let mut array = json!({ "type": "array", "items": shape(items) });
            put(&mut array, "minItems", Some(*min).filter(|min| *min > 0));
            put(&mut array, "maxItems", *max);
            array
        }
        Schema::Object { properties, required } => {
            let properties: Map<String, Value> =
                properties.iter().map(|(name, of)| ((*name).to_owned(), shape(of))).collect();
            let mut object = json!({ "type": "object", "properties": properties });
            put(&mut object, "required", Some(required).filter(|names| !names.is_empty()));
            object
        }
        Schema::StringMap => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        Schema::String { min, max, format } => {
            let mut string = json!({ "type": "string" });
            put(&mut string, "format", format.map(Format::name));
            put(&mut string, "minLength", Some(*min).filter(|min| *min > 0));
            put(&mut string, "maxLength", *max);
            string
        }
        Schema::Integer { min, max, default } => {
            let mut integer = json!({ "type": "integer", "minimum": min, "maximum": max });
            put(&mut integer, "default", *default);
            integer
        }
    }
}

/// Adds every schema with a name that this one is made of.
pub(super) fn collect(schema: &Schema, found: &mut Map<String, Value>) {
    match schema {
        Schema::Named(Component { name, about, deprecated, order, schema }) => {
            if found.contains_key(*name) {
                return;
            }
            let mut component = json!({ "description": about });
            put(&mut component, "deprecated", deprecated.then_some(true));
            if let (Value::Object(all), Value::Object(more)) = (&mut component, shape(schema)) {
                all.extend(more);
            }
            if let Schema::Object { required, .. } = schema {
                arrange(&mut component, &[*required, *order].concat());
            }
            found.insert((*name).to_owned(), component);
            collect(schema, found);
        }
        Schema::Array { items, .. } => collect(items, found),
        Schema::Object { properties, .. } => {
            properties.iter().for_each(|(_, property)| collect(property, found));
        }
        Schema::StringMap
        | Schema::String { .. }
        | Schema::Integer { .. }
        | Schema::Elsewhere(_) => {}
    }
}

/// Puts the members that an object describes into this order, those that are not named behind the others.
pub(super) fn arrange(object: &mut Value, order: &[&str]) {
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    let place = |name: &String| order.iter().position(|known| known == name);
    let mut all: Vec<(String, Value)> = std::mem::take(properties).into_iter().collect();
    all.sort_by_key(|(name, _)| place(name).unwrap_or(usize::MAX));
    properties.extend(all);
}

/// Adds a member to an object, if there is something to add.
pub(super) fn put(object: &mut Value, name: &str, value: Option<impl serde::Serialize>) {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(name.to_owned(), json!(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ID: Component = Component {
        name: "Id",
        about: "which",
        deprecated: true,
        order: &[],
        schema: Schema::String { min: 0, max: None, format: Some(Format::SatelliteUuid) },
    };
    static OBJECT: Component = Component {
        name: "Object",
        about: "what",
        deprecated: false,
        order: &["d"],
        schema: Schema::Object {
            properties: &[
                ("a", Schema::TEXT),
                ("b", Schema::TEXT),
                ("c", Schema::TEXT),
                ("d", Schema::TEXT),
            ],
            required: &["c", "b"],
        },
    };

    #[test]
    fn every_kind_of_schema_is_written() {
        static SCHEMA: Schema = Schema::Array {
            items: &Schema::Object {
                properties: &[
                    ("a", Schema::Named(&ID)),
                    ("b", Schema::StringMap),
                    ("c", Schema::Elsewhere("Other")),
                    ("d", Schema::Integer { min: -1, max: 9, default: Some(0) }),
                    ("e", Schema::String { min: 1, max: Some(2), format: None }),
                ],
                required: &["b"],
            },
            min: 1,
            max: Some(3),
        };
        let expected = json!({
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "a": { "$ref": "#/components/schemas/Id" },
                    "b": { "type": "object", "additionalProperties": { "type": "string" } },
                    "c": { "$ref": "#/components/schemas/Other" },
                    "d": { "type": "integer", "minimum": -1, "maximum": 9, "default": 0 },
                    "e": { "type": "string", "minLength": 1, "maxLength": 2 },
                },
                "required": ["b"],
            },
            "minItems": 1,
            "maxItems": 3,
        });
        assert_eq!(shape(&SCHEMA), expected);
        let mut found = Map::new();
        collect(&SCHEMA, &mut found);
        let id = json!({
            "description": "which", "deprecated": true, "type": "string", "format": "sat-id-uuid",
        });
        assert_eq!(Value::Object(found), json!({ "Id": id }));
        let mut found = Map::new();
        collect(&Schema::Named(&OBJECT), &mut found);
        let members = found["Object"]["properties"].as_object().unwrap().keys();
        assert_eq!(members.collect::<Vec<_>>(), ["c", "b", "d", "a"]);
        let plain = Schema::Array { items: &Schema::TEXT, min: 0, max: None };
        assert_eq!(shape(&plain), json!({ "type": "array", "items": { "type": "string" } }));
    }
}
