//! Rules on strings: length, format, and no U+0000, which the databases cannot hold.

use super::Violation;

/// What a string must look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// A UUID of version 4 in lower case.
    Uuid,
    /// A UUID of version 4 or 5 in lower case.
    SatelliteUuid,
    /// Starts with `http://` or `https://`, one line.
    Url,
}

impl Format {
    /// The name of the format in messages and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::SatelliteUuid => "sat-id-uuid",
            Self::Url => "url",
        }
    }

    const fn pattern(self) -> &'static str {
        match self {
            Self::Uuid => "^[a-f0-9]{8}-[a-f0-9]{4}-4[a-f0-9]{3}-[89aAbB][a-f0-9]{3}-[a-f0-9]{12}$",
            Self::SatelliteUuid => {
                "^[a-f0-9]{8}-[a-f0-9]{4}-[45][a-f0-9]{3}-[89aAbB][a-f0-9]{3}-[a-f0-9]{12}$"
            }
            Self::Url => "^https?:\\/\\/.*$",
        }
    }

    fn matches(self, text: &str) -> bool {
        match self {
            Self::Uuid => is_uuid(text, b"4"),
            Self::SatelliteUuid => is_uuid(text, b"45"),
            Self::Url => {
                let http = text.starts_with("http://") || text.starts_with("https://");
                http && !text.contains('\n')
            }
        }
    }
}

/// Checks length (in characters), then format, then for U+0000.
pub(super) fn check(
    text: &str,
    min: usize,
    max: Option<usize>,
    format: Option<Format>,
) -> Result<(), Violation> {
    let length = text.chars().count();
    if length < min {
        return Err(Violation::new(format!("minimum string length is {min}")));
    }
    if let Some(max) = max.filter(|max| length > *max) {
        return Err(Violation::new(format!("maximum string length is {max}")));
    }
    if let Some(format) = format.filter(|format| !format.matches(text)) {
        let (name, pattern) = (format.name(), format.pattern());
        let detail = format!("string doesn't match pattern \"{pattern}\"");
        return Err(Violation::new(format!(
            "string doesn't match the format \"{name}\" ({detail})"
        )));
    }
    no_nul(text)
}

/// Refuses U+0000.
pub(super) fn no_nul(text: &str) -> Result<(), Violation> {
    if text.contains('\0') {
        return Err(Violation::new("string must not contain the character U+0000"));
    }
    Ok(())
}

fn is_uuid(text: &str, versions: &[u8]) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => versions.contains(&byte),
            19 => b"89aAbB".contains(&byte),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}
