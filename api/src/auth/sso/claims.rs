//! The claims of a token, read strictly: a member that is there twice would be one thing to us and
//! another to whoever else reads the token, so that such a token is none. Pure.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What a token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// The value that a name leads to: the member of that very name, or else the member of the
    /// member … where the name has dots. `null` is nothing.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Value> {
        let whole = self.0.get(path);
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let inside = || {
            let start = self.0.get(first)?;
            rest.split('.')
                .filter(|part| !part.is_empty())
                .try_fold(start, |value, part| value.get(part))
        };
        whole.or_else(inside).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.at(path)?.as_str().filter(|text| !text.is_empty())
    }

    /// A list of texts; one text counts as a list of it.
    pub fn texts(&self, path: &str) -> impl Iterator<Item = &str> {
        let value = self.at(path);
        let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        value.and_then(Value::as_str).into_iter().chain(list.iter().filter_map(Value::as_str))
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Strict.deserialize(deserializer)? {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(D::Error::custom("the claims are no object")),
        }
    }
}

/// Any JSON without repeated members.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("the claim {name:?} is there twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_into_objects_and_whole_names_come_first() {
        let text = r#"{"a":{"b":{"c":"deep"},"d":["x",1,"y"]},"a.b":"whole","https://x.y/z":"url",
                       "n":null,"e":"","one":"z"}"#;
        let claims: Claims = serde_json::from_str(text).unwrap();
        assert_eq!(claims.text("a.b.c"), Some("deep"));
        assert_eq!(claims.text("a.b"), Some("whole"));
        assert_eq!(claims.text("https://x.y/z"), Some("url"));
        assert_eq!(claims.texts("a.d").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(claims.texts("one").collect::<Vec<_>>(), ["z"]);
        for nothing in ["n", "e", "a.x", "x", "", "a.b.c.d"] {
            assert_eq!(claims.text(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_there_twice_is_refused_at_every_depth() {
        for text in [
            r#"{"org_id":"1","org_id":"2"}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"\u0062":2}]}"#,
            "[]",
            "1",
        ] {
            assert!(serde_json::from_str::<Claims>(text).is_err(), "{text}");
        }
    }
}
