//! Ids of requests: taken over from the caller where they are acceptable, else made here.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Carries the id of a request, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-rh-insights-request-id");
/// Carries an id of ours that is fresh for every request.
pub const INTERNAL_REQUEST_ID: HeaderName =
    HeaderName::from_static("x-rh-playbook-dispatcher-internal-request-id");
/// The longest foreign id that is taken over.
const MAX_LENGTH: usize = 255;
/// Characters of the part that is fixed for the life of the process.
const PROCESS_PART: usize = 10;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Makes ids: `<hostname>/<10 characters of this process>-<number of the request>`.
#[derive(Debug)]
pub struct RequestIds {
    prefix: String,
    last: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { prefix: format!("{}/{}", hostname(), process_part()), last: AtomicU64::new(0) }
    }
}

impl RequestIds {
    /// The id of a request: its own if acceptable (1 to 255 ASCII characters, blanks inside among
    /// them), else a fresh one.
    pub fn of(&self, headers: &HeaderMap) -> String {
        let own = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        own.filter(|id| is_acceptable(id)).map_or_else(|| self.next(), str::to_owned)
    }

    fn next(&self) -> String {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{}-{number:06}", self.prefix)
    }
}

/// The id as a header, where it can be one.
#[must_use]
pub fn header(id: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(id).ok()
}

fn is_acceptable(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    (1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(plain)
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(64).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn process_part() -> String {
    let random = uuid::Uuid::new_v4().as_u128();
    let digit = |index: usize| {
        let shifted = random >> (index * 6);
        let digit = usize::try_from(shifted % 62).unwrap_or_default();
        BASE62.get(digit).map_or('0', |byte| char::from(*byte))
    };
    (0..PROCESS_PART).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_are_kept_only_when_acceptable() {
        let ids = RequestIds::default();
        let with = |value: &str| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            ids.of(&HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        for good in ["abc-1", "with space", "host/AbC-000001", &"x".repeat(255)] {
            assert_eq!(with(good), good);
        }
        for bad in ["", "with\ttab", "é", &"x".repeat(256)] {
            assert!(with(bad).starts_with(&ids.prefix), "{bad}");
        }
    }

    #[test]
    fn own_ids_count_from_one_with_six_digits() {
        let ids = RequestIds::default();
        let first = ids.of(&HeaderMap::new());
        assert!(first.ends_with("-000001"), "{first}");
        assert!(ids.of(&HeaderMap::new()).ends_with("-000002"));
        let (host, own) = first.split_once('/').unwrap();
        assert_eq!(host, hostname());
        assert_eq!(own.len(), PROCESS_PART + 7);
        let (process, _) = own.split_once('-').unwrap();
        assert!(process.bytes().all(|byte| BASE62.contains(&byte)), "{process}");
        ids.last.store(999_999, Ordering::Relaxed);
        assert!(ids.of(&HeaderMap::new()).ends_with("-1000000"));
    }
}
