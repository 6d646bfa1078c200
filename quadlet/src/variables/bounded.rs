//! YAML that somebody may have made to harm: read into values within bounds. An alias costs a few
//! bytes in the file and as many in memory as what it repeats; nesting costs its reader the square.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::names;

/// How many brackets may be open at once, those in texts included.
const DEEPEST: usize = 200;
/// How many names and values there may be, repeated ones included.
const MOST_VALUES: usize = 10_000;
/// How many bytes their texts may have together.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// What is kept of an error.
const LONGEST_ERROR: usize = 1000;

/// Reads a text.
///
/// # Errors
/// When it is no YAML, or has more of something than anybody needs.
pub(super) fn read(text: &str) -> Result<Value, String> {
    if deepest(text) > DEEPEST || text.lines().any(|line| indents(line) > DEEPEST) {
        return Err(format!("more than {DEEPEST} values inside each other are not read"));
    }
    let left = Left { values: Cell::new(MOST_VALUES), bytes: Cell::new(MOST_BYTES) };
    let reader = yaml_serde::Deserializer::from_str(text);
    let read = Bounded(&left).deserialize(reader);
    // An error may repeat names, which a terminal should not obey.
    read.map_err(|error| names::harmless(&error.to_string(), LONGEST_ERROR))
}

fn deepest(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// How many lists begin on a line one inside the other, as in `- - - 1`.
fn indents(line: &str) -> usize {
    line.split([' ', '\t'])
        .take_while(|word| ["", "-", "?", ":"].contains(word))
        .filter(|word| !word.is_empty())
        .count()
}

/// What may still come.
struct Left {
    values: Cell<usize>,
    bytes: Cell<usize>,
}

impl Left {
    fn take<E: Error>(&self, text: &str) -> Result<(), E> {
        let less = |cell: &Cell<usize>, by: usize, what: &str| {
            let rest = cell.get().checked_sub(by);
            rest.map(|rest| cell.set(rest)).ok_or_else(|| E::custom(what))
        };
        less(&self.values, 1, &format!("more than {MOST_VALUES} names and values are not read"))?;
        let much = format!("more than {MOST_BYTES} bytes, aliases included, are not read");
        less(&self.bytes, text.len(), &much)
    }
}

#[derive(Clone, Copy)]
struct Bounded<'a>(&'a Left);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a number, true, false, a list, or names with values")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.0.take("").map(|()| Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.0.take("").map(|()| value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.0.take("").map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.0.take("").map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.0.take("")?;
        let strange = || E::custom(format!("{value} is no number to work with"));
        Number::from_f64(value).map(Value::Number).ok_or_else(strange)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.take("")?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.take("")?;
        let mut map = Map::new();
        while let Some(name) = items.next_key_seed(self)? {
            let name = match name {
                Value::String(name) => name,
                Value::Number(name) => name.to_string(),
                Value::Bool(name) => name.to_string(),
                _ => return Err(A::Error::custom("a name is neither a text nor a number")),
            };
            if map.contains_key(&name) {
                let name: String = name.chars().take(80).collect();
                return Err(A::Error::custom(format!("{name} is there twice")));
            }
            map.insert(name, items.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_read_as_before() {
        let text = "---\n# c\na: 1\nb: 'x'\nc: [1, -2, 2.5, true, ~]\nd: {e: &f \"y\", 5: *f}\n";
        let expected = serde_json::json!({
            "a": 1, "b": "x", "c": [1, -2, 2.5, true, null], "d": {"e": "y", "5": "y"}
        });
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read(""), Ok(Value::Null));
        assert!(read("a: 1\na: 2\n").unwrap_err().contains("a is there twice"));
        assert!(read("a: .nan\n").is_err() && read("a: !b c\n").is_err() && read("a: [").is_err());
    }

    #[test]
    fn what_is_nested_without_end_is_refused_at_once() {
        for text in ["[".repeat(400_000), "{a: ".repeat(200_000), "- ".repeat(400_000)] {
            let error = read(&format!("a:\n  {text}")).unwrap_err();
            assert!(error.contains("inside each other"), "{error}");
        }
    }

    #[test]
    fn aliases_do_not_repeat_themselves_without_end() {
        let long = format!("a: &a \"{}\"\nb: [{}]\n", "y".repeat(500_000), "*a,".repeat(5000));
        assert!(read(&long).unwrap_err().contains("bytes, aliases included"));
        let mut bomb = String::from("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
        for (from, to) in ('a'..'i').zip('b'..='i') {
            bomb += &format!("{to}: &{to} [{}]\n", format!("*{from},").repeat(9));
        }
        assert!(read(&bomb).is_err());
        assert!(read(&"- 1\n".repeat(10_001)).unwrap_err().contains("names and values"));
    }
}
