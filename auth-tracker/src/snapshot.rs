//! The sealed form of the state: what the tracker publishes and instances accept.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{ports::Seal, state::AuthState};

/// A state with a place in the order of all states, sealed with the shared secrets.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Snapshot {
    /// Grows with every snapshot, also from one tracker to the next: the epoch of the tracker's
    /// lease in the upper half, a count in the lower.
    pub version: u64,
    /// When it was issued. It is issued anew every few seconds though nothing has changed, so that
    /// its age tells whether there is a tracker.
    #[serde(with = "time::serde::rfc3339")]
    pub issued_at: OffsetDateTime,
    /// The state, as JSON text: what is sealed is exactly what is read.
    pub body: String,
    /// Over version, time and body.
    pub mac: String,
}

/// The most bytes of a snapshot as text.
pub const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Why a snapshot is not acceptable.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// Somebody without the shared secrets made or changed it.
    #[error("the seal of the snapshot does not fit: it was forged, or other secrets are in use")]
    Forged,
    /// It is not a snapshot.
    #[error("the snapshot is unreadable: {0}")]
    Unreadable(String),
}

impl Snapshot {
    /// Reads the text of a snapshot. Who wrote it is not known before [`Snapshot::open`].
    ///
    /// # Errors
    /// When it is none, or too long for one.
    pub fn parse(text: &[u8]) -> Result<Self, SnapshotError> {
        if text.len() > MOST_BYTES {
            let why = format!("it has more than {MOST_BYTES} bytes");
            return Err(SnapshotError::Unreadable(why));
        }
        serde_json::from_slice(text).map_err(|error| SnapshotError::Unreadable(error.to_string()))
    }

    /// The text that [`Snapshot::parse`] reads.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which does not happen, or is too long: there are more
    /// keys than instances would take.
    pub fn text(&self) -> Result<String, SnapshotError> {
        let text = serde_json::to_string(self)
            .map_err(|error| SnapshotError::Unreadable(error.to_string()))?;
        if text.len() > MOST_BYTES {
            let why = format!("it has more than {MOST_BYTES} bytes");
            return Err(SnapshotError::Unreadable(why));
        }
        Ok(text)
    }

    /// The version of the `count`th snapshot under a lease.
    #[must_use]
    pub const fn version_of(epoch: i64, count: u32) -> u64 {
        // An epoch counts from 1 and never comes near 2^31.
        #[expect(clippy::cast_sign_loss, reason = "epochs are positive")]
        let upper = (epoch as u64) << 32;
        upper | count as u64
    }

    /// Seals a state.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which does not happen.
    pub fn seal(
        state: &AuthState,
        version: u64,
        issued_at: OffsetDateTime,
        seal: &dyn Seal,
    ) -> Result<Self, SnapshotError> {
        let body = serde_json::to_string(state)
            .map_err(|error| SnapshotError::Unreadable(error.to_string()))?;
        let mac = seal.tag(&message(version, issued_at, &body));
        Ok(Self { version, issued_at, body, mac })
    }

    /// The state in it, if the seal fits.
    ///
    /// # Errors
    /// When the seal does not fit, or the body is no state.
    pub fn open(&self, seal: &dyn Seal) -> Result<AuthState, SnapshotError> {
        if !seal.check(&message(self.version, self.issued_at, &self.body), &self.mac) {
            return Err(SnapshotError::Forged);
        }
        serde_json::from_str(&self.body)
            .map_err(|error| SnapshotError::Unreadable(error.to_string()))
    }
}

fn message(version: u64, issued_at: OffsetDateTime, body: &str) -> Vec<u8> {
    let head = format!("snapshot 1\n{version}\n{}\n", issued_at.unix_timestamp_nanos());
    [head.as_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seal that anybody could break, and this test does not.
    struct Length;
    impl Seal for Length {
        fn tag(&self, message: &[u8]) -> String {
            format!(
                "{}-{}",
                message.len(),
                message.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            )
        }
        fn check(&self, message: &[u8], tag: &str) -> bool {
            self.tag(message) == tag
        }
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else() {
        let state = AuthState { auth_version: 7, ..AuthState::default() };
        let at = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let sealed = Snapshot::seal(&state, Snapshot::version_of(2, 3), at, &Length).unwrap();
        assert_eq!(sealed.version, (2 << 32) + 3);
        let text = serde_json::to_string(&sealed).unwrap();
        let read: Snapshot = serde_json::from_str(&text).unwrap();
        assert_eq!(read.open(&Length).unwrap(), state);
        let newer = Snapshot { version: read.version + 1, ..read.clone() };
        assert_eq!(newer.open(&Length), Err(SnapshotError::Forged));
        let fresher = Snapshot { issued_at: at + time::Duration::SECOND, ..read.clone() };
        assert_eq!(fresher.open(&Length), Err(SnapshotError::Forged));
        let other = Snapshot { body: read.body.replace('7', "8"), ..read };
        assert_eq!(other.open(&Length), Err(SnapshotError::Forged));
    }
}
