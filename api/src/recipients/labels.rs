//! Which labels a recipient may have. Labels are the operator's; a worker never changes them.

use std::collections::BTreeMap;

use dispatcher_wire::registration::{MAX_LABEL_LENGTH, MAX_LABELS};

/// Why labels are refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LabelError {
    /// There are too many.
    #[error("{0} labels are too many; at most {MAX_LABELS} are allowed")]
    TooMany(usize),
    /// One has a name that cannot be one.
    #[error(
        "the label name {0:?} is not acceptable; allowed: 1 to {MAX_LABEL_LENGTH} characters, no \
         control characters and no `=`"
    )]
    Name(String),
    /// One has a value that cannot be one.
    #[error(
        "the value of the label {0:?} is not acceptable; allowed: at most {MAX_LABEL_LENGTH} \
         characters, no control characters"
    )]
    Value(String),
}

/// Checks labels.
///
/// # Errors
/// The first that is not acceptable.
pub fn check(labels: &BTreeMap<String, String>) -> Result<(), LabelError> {
    if labels.len() > MAX_LABELS {
        return Err(LabelError::TooMany(labels.len()));
    }
    for (name, value) in labels {
        if name.is_empty() || name.contains('=') || !is_short_text(name) {
            return Err(LabelError::Name(name.chars().take(MAX_LABEL_LENGTH).collect()));
        }
        if !is_short_text(value) {
            return Err(LabelError::Value(name.clone()));
        }
    }
    Ok(())
}

/// Whether a text is one line of an acceptable length.
pub(super) fn is_short_text(text: &str) -> bool {
    text.chars().count() <= MAX_LABEL_LENGTH && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<(), LabelError> {
        check(&[(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn labels_are_short_lines() {
        assert!(one("env", "").is_ok() && one(&"ä".repeat(255), &"ö".repeat(255)).is_ok());
        for name in ["", "a=b", "a\nb", &"a".repeat(256)] {
            assert!(matches!(one(name, "v"), Err(LabelError::Name(_))), "{name}");
        }
        for value in ["a\0b", &"a".repeat(256)] {
            assert_eq!(one("k", value), Err(LabelError::Value("k".to_owned())));
        }
        let many = (0..=MAX_LABELS).map(|n| (n.to_string(), String::new())).collect();
        assert_eq!(check(&many), Err(LabelError::TooMany(65)));
    }
}
