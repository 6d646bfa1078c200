//! What a worker may say of its host: few, short, flat things. They are shown to people, and
//! nothing is decided by them.

use dispatcher_wire::registration::{Facts, MAX_FACTS_BYTES};
use serde_json::Value;

/// The most facts.
const MAX_FACTS: usize = 256;
/// The most characters in a fact's name.
const MAX_NAME: usize = 255;
/// The most characters of a text that is shown in lists.
const MAX_SHOWN: usize = 255;

/// Why facts are refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FactsError {
    /// They take too much room.
    #[error("facts may take {MAX_FACTS_BYTES} bytes as JSON; these take {0}")]
    TooLarge(usize),
    /// There are too many.
    #[error("{0} facts are too many; at most {MAX_FACTS} are allowed")]
    TooMany(usize),
    /// One has a name that cannot be one.
    #[error(
        "the fact name {0:?} is not acceptable; allowed: 1 to {MAX_NAME} characters, no U+0000"
    )]
    Name(String),
    /// One is of another kind.
    #[error(
        "the fact {0:?} is not acceptable; allowed: texts without U+0000, numbers, true, false, and \
         lists of these"
    )]
    Kind(String),
}

/// Checks facts.
///
/// # Errors
/// The first thing that is not acceptable.
pub fn check(facts: &Facts) -> Result<(), FactsError> {
    let size = serde_json::to_vec(facts).map_or(usize::MAX, |json| json.len());
    if size > MAX_FACTS_BYTES {
        return Err(FactsError::TooLarge(size));
    }
    if facts.len() > MAX_FACTS {
        return Err(FactsError::TooMany(facts.len()));
    }
    for (name, value) in facts {
        let length = name.chars().count();
        if !(1..=MAX_NAME).contains(&length) || name.contains('\0') {
            return Err(FactsError::Name(name.chars().take(MAX_NAME).collect()));
        }
        let acceptable = match value {
            Value::Array(items) => items.iter().all(is_plain),
            other => is_plain(other),
        };
        if !acceptable {
            return Err(FactsError::Kind(name.clone()));
        }
    }
    Ok(())
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// A fact as it is shown in lists: short, and not empty.
#[must_use]
pub fn shown(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.chars().take(MAX_SHOWN).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(facts: Value) -> Result<(), FactsError> {
        check(facts.as_object().unwrap())
    }

    #[test]
    fn facts_are_flat_and_bounded() {
        assert_eq!(checked(json!({"os": "Debian", "cpus": 2, "a": [1, "b", true]})), Ok(()));
        for wrong in [json!({"a": {}}), json!({"a": null}), json!({"a": [[1]]}), json!({"a": "\0"})]
        {
            assert_eq!(checked(wrong), Err(FactsError::Kind("a".to_owned())));
        }
        assert!(matches!(checked(json!({"": 1})), Err(FactsError::Name(_))));
        let large = checked(json!({"a": "x".repeat(MAX_FACTS_BYTES)}));
        assert!(matches!(large, Err(FactsError::TooLarge(_))));
        let many: Facts = (0..257).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(check(&many), Err(FactsError::TooMany(257)));
    }

    #[test]
    fn what_lists_show_is_short() {
        assert_eq!(shown(&"1".repeat(300)).unwrap().len(), 255);
        assert_eq!(shown(""), None);
    }
}
