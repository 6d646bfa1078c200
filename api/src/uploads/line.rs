//! One line of an archive as a runner event (contract §4.4): which members it has, of which types, and
//! the words for what is wrong with them. What values are acceptable is for `validate` to say.
//!
//! A line is read in one go into what is kept, and nothing else is built in memory. Only where that
//! fails is it looked at member by member, to name the one that is wrong.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

pub(super) const CORRELATION_ID: &str = "crc_dispatcher_correlation_id";

/// A runner event as it stands on its line.
#[derive(Deserialize)]
pub(super) struct EventLine<'a> {
    pub(super) event: String,
    pub(super) uuid: String,
    pub(super) counter: i64,
    #[serde(default)]
    pub(super) stdout: Option<String>,
    pub(super) start_line: i64,
    pub(super) end_line: i64,
    #[serde(borrow, default, deserialize_with = "not_null")]
    pub(super) event_data: Option<Object<DataMembers<'a>>>,
}

/// The members of its `event_data` that are looked at.
#[derive(Deserialize)]
pub(super) struct DataMembers<'a> {
    #[serde(default, deserialize_with = "not_null")]
    pub(super) playbook: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    pub(super) playbook_uuid: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    pub(super) host: Option<String>,
    #[serde(default, rename = "crc_dispatcher_correlation_id", deserialize_with = "not_null")]
    pub(super) correlation_id: Option<String>,
    #[serde(default, rename = "crc_dispatcher_error_code", deserialize_with = "not_null")]
    pub(super) error_code: Option<String>,
    #[serde(default, rename = "crc_dispatcher_error_details", deserialize_with = "not_null")]
    pub(super) error_details: Option<String>,
    /// The contract does not know this and those that follow, so anything may stand there.
    #[serde(borrow, default)]
    pub(super) ignore_errors: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) processed: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) failures: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) dark: Option<&'a RawValue>,
}

impl<'a> EventLine<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no event; names the member.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let read: Result<Object<Self>, _> = serde_json::from_slice(bytes);
        read.map(|Object(event)| event).map_err(|error| {
            check_members(bytes).err().unwrap_or_else(|| not_json("the event", &error))
        })
    }
}

/// The members of an object, not read yet.
type Raw<'a> = BTreeMap<String, &'a RawValue>;

/// Looks for the member of a line that is not of its type.
fn check_members(bytes: &[u8]) -> Result<(), String> {
    let event: Raw<'_> = object(bytes, "the event")?;
    let member = |name: &str| event.get(name).copied();
    for name in ["event", "uuid"] {
        required::<String>(member(name), name, "a string")?;
    }
    required::<i64>(member("counter"), "counter", "an integer")?;
    optional::<Option<String>>(member("stdout"), "stdout", "a string or null")?;
    for name in ["start_line", "end_line"] {
        required::<i64>(member(name), name, "an integer")?;
    }
    let Some(data) = member("event_data") else { return Ok(()) };
    let data: Raw<'_> = object(data.get().as_bytes(), "event_data")?;
    for name in [
        "playbook",
        "playbook_uuid",
        "host",
        CORRELATION_ID,
        "crc_dispatcher_error_code",
        "crc_dispatcher_error_details",
    ] {
        optional::<String>(data.get(name).copied(), &format!("event_data.{name}"), "a string")?;
    }
    Ok(())
}

/// A JSON object. An array, which would also do for a struct, is none.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// A member that is there has a value.
fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// A member that is there, whatever its value; `null` is one too.
pub(super) fn present<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// A JSON object and nothing after it. An array, which would also do for a struct, is none.
pub(super) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, String> {
    if bytes.first() != Some(&b'{') {
        return Err(format!("{what} must be a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| not_json(what, &error))
}

fn not_json(what: &str, error: &serde_json::Error) -> String {
    format!("{what} is not valid JSON (column {})", error.column())
}

pub(super) fn optional<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    member: &str,
    kind: &str,
) -> Result<Option<T>, String> {
    let parse = |raw: &RawValue| serde_json::from_str(raw.get());
    raw.map(parse).transpose().map_err(|_| format!("{member} must be {kind}"))
}

pub(super) fn required<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    member: &str,
    kind: &str,
) -> Result<T, String> {
    optional(raw, member, kind)?.ok_or_else(|| format!("{member} is missing"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => ".{0,6}".prop_map(Value::from),
            3 => any::<i64>().prop_map(Value::from),
            1 => Just(json!(null)),
            1 => Just(json!(1.0)),
            1 => Just(json!(["abc", "u", 1, "", 0, 0])),
            1 => Just(json!({"a": {"b": 1}})),
        ]
    }

    fn members(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
        let named = prop::collection::vec((prop::sample::select(names), value()), 0..12);
        named
            .prop_map(|all| all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn line() -> impl Strategy<Value = String> {
        let good =
            json!({"event": "abc", "uuid": "u", "counter": 1, "start_line": 0, "end_line": 1});
        let of_event = ["event", "uuid", "counter", "stdout", "start_line", "end_line", "x"];
        let of_data =
            ["playbook", "playbook_uuid", "host", "crc_dispatcher_error_code", "dark", "x"];
        let names = |names: &[&'static str]| -> &'static [&'static str] { names.to_vec().leak() };
        let parts = (members(names(&of_event)), members(names(&of_data)), value(), 0..4_u8);
        parts.prop_map(move |(changes, data, odd, how)| {
            let mut line = good.clone();
            if how != 0
                && let (Value::Object(line), Value::Object(changes)) = (&mut line, changes)
            {
                line.extend(changes.into_iter().take(how.into()));
            }
            match how {
                0 | 1 => line["event_data"] = data,
                2 => line["event_data"] = odd,
                _ => {}
            }
            line.to_string()
        })
    }

    proptest! {
        /// A line is refused if and only if one of its members is, which the reason names.
        #[test]
        fn what_is_refused_has_a_member_that_is_wrong(line in line()) {
            let read = EventLine::read(line.as_bytes()).map(drop);
            prop_assert_eq!(&read, &check_members(line.as_bytes()), "{}", line);
            if let Err(reason) = read {
                prop_assert!(!reason.contains("not valid JSON"), "{line}: {reason}");
            }
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_refused() {
        let twice =
            r#"{"event":"abc","event":"abd","uuid":"u","counter":1,"start_line":0,"end_line":0}"#;
        let reason = EventLine::read(twice.as_bytes()).err().unwrap();
        assert!(reason.starts_with("the event is not valid JSON (column "), "{reason}");
    }

    #[test]
    fn arrays_are_no_events() {
        let array = r#"["abc","u",1,"",0,0,{}]"#;
        assert!(serde_json::from_str::<Object<EventLine<'_>>>(array).is_err());
        assert!(EventLine::read(array.as_bytes()).is_err());
    }
}
