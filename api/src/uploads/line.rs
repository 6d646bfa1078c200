//! One line of an archive as a runner event (contract §4.4): which members it has, of which types, and
//! the words for what is wrong with them. What values are acceptable is for `validate` to say.
//!
//! A line is read in one go into what is kept, and nothing else is built in memory. Only where that
//! fails is it read member by member, to name the member.

use std::{fmt, marker::PhantomData};

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
        match serde_json::from_slice(bytes) {
            Ok(Object(event)) => Ok(event),
            Err(_) => Self::by_member(&object(bytes, "the event")?),
        }
    }

    fn by_member(raw: &RawEvent<'a>) -> Result<Self, String> {
        Ok(Self {
            event: required(raw.event, "event", "a string")?,
            uuid: required(raw.uuid, "uuid", "a string")?,
            counter: required(raw.counter, "counter", "an integer")?,
            stdout: optional(raw.stdout, "stdout", "a string or null")?.flatten(),
            start_line: required(raw.start_line, "start_line", "an integer")?,
            end_line: required(raw.end_line, "end_line", "an integer")?,
            event_data: raw.event_data.map(DataMembers::by_member).transpose()?,
        })
    }
}

impl<'a> DataMembers<'a> {
    fn by_member(raw: &'a RawValue) -> Result<Object<Self>, String> {
        let raw: RawData<'_> = object(raw.get().as_bytes(), "event_data")?;
        let text = |raw, member: &str| optional(raw, &format!("event_data.{member}"), "a string");
        Ok(Object(Self {
            playbook: text(raw.playbook, "playbook")?,
            playbook_uuid: text(raw.playbook_uuid, "playbook_uuid")?,
            host: text(raw.host, "host")?,
            correlation_id: text(raw.correlation_id, CORRELATION_ID)?,
            error_code: text(raw.error_code, "crc_dispatcher_error_code")?,
            error_details: text(raw.error_details, "crc_dispatcher_error_details")?,
            ignore_errors: raw.ignore_errors,
            processed: raw.processed,
            failures: raw.failures,
            dark: raw.dark,
        }))
    }
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

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    uuid: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    counter: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stdout: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    start_line: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    end_line: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    event_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawData<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    playbook: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    playbook_uuid: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    host: Option<&'a RawValue>,
    #[serde(
        borrow,
        default,
        rename = "crc_dispatcher_correlation_id",
        deserialize_with = "present"
    )]
    correlation_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "crc_dispatcher_error_code", deserialize_with = "present")]
    error_code: Option<&'a RawValue>,
    #[serde(
        borrow,
        default,
        rename = "crc_dispatcher_error_details",
        deserialize_with = "present"
    )]
    error_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ignore_errors: Option<&'a RawValue>,
    #[serde(borrow, default)]
    processed: Option<&'a RawValue>,
    #[serde(borrow, default)]
    failures: Option<&'a RawValue>,
    #[serde(borrow, default)]
    dark: Option<&'a RawValue>,
}

/// A JSON object and nothing after it. An array, which would also do for a struct, is none.
pub(super) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, String> {
    if bytes.first() != Some(&b'{') {
        return Err(format!("{what} must be a JSON object"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| format!("{what} is not valid JSON (column {})", error.column()))
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

    type Seen = (String, String, i64, Option<String>, i64, i64, Option<Vec<Option<String>>>);

    fn seen(event: EventLine<'_>) -> Seen {
        let raw = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned());
        let data = event.event_data.map(|Object(data)| {
            vec![
                data.playbook,
                data.playbook_uuid,
                data.host,
                data.correlation_id,
                data.error_code,
                data.error_details,
                raw(data.ignore_errors),
                raw(data.processed),
                raw(data.failures),
                raw(data.dark),
            ]
        });
        let EventLine { event, uuid, counter, stdout, start_line, end_line, .. } = event;
        (event, uuid, counter, stdout, start_line, end_line, data)
    }

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
        /// Whatever can be read in one go is the same as what its members say.
        #[test]
        fn both_ways_of_reading_agree(line in line()) {
            let at_once: Result<Object<EventLine<'_>>, _> = serde_json::from_str(&line);
            let raw: RawEvent<'_> = object(line.as_bytes(), "the event").unwrap();
            let by_member = EventLine::by_member(&raw);
            match (at_once, by_member) {
                (Ok(Object(at_once)), Ok(by_member)) => prop_assert_eq!(seen(at_once), seen(by_member)),
                (Err(_), Err(_)) => {}
                (at_once, by_member) => {
                    prop_assert!(false, "{line}: {:?}, {:?}", at_once.is_ok(), by_member.err());
                }
            }
        }
    }

    #[test]
    fn arrays_are_no_events() {
        let array = r#"["abc","u",1,"",0,0,{}]"#;
        assert!(serde_json::from_str::<Object<EventLine<'_>>>(array).is_err());
        assert!(EventLine::read(array.as_bytes()).is_err());
    }
}
