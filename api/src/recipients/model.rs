//! The types of recipients. No IO.

use time::OffsetDateTime;
use uuid::Uuid;

/// How long after its last sign a worker counts as present.
pub const PRESENT_FOR: time::Duration = time::Duration::seconds(30);

/// A registered recipient.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// Its address.
    pub id: Uuid,
    /// The organisation that owns it.
    pub org_id: String,
    /// What people call it.
    pub name: String,
    /// HMAC digest of its worker's key; `None` for the worker inside the process.
    pub key_digest: Option<Vec<u8>>,
    /// When its worker last asked for work.
    pub last_seen: Option<OffsetDateTime>,
    /// When it was registered.
    pub created_at: OffsetDateTime,
}

impl Recipient {
    /// Whether its worker is there.
    #[must_use]
    pub fn is_present(&self, now: OffsetDateTime) -> bool {
        self.last_seen.is_some_and(|seen| seen + PRESENT_FOR > now)
    }
}

/// A recipient with the number of runs that wait for it or are under way.
#[derive(Clone, Debug)]
pub struct RecipientSummary {
    /// The recipient.
    pub recipient: Recipient,
    /// Runs that are not final.
    pub active_runs: i64,
}
