//! The types of recipients. No IO.

use std::collections::BTreeMap;

use dispatcher_wire::registration::Facts;
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
    /// What its operators say of it.
    pub labels: BTreeMap<String, String>,
    /// What its worker says of its version.
    pub version: Option<String>,
    /// Why its worker takes nothing new, where it says so.
    pub paused: Option<String>,
}

/// A recipient with everything that is known of it.
#[derive(Clone, Debug)]
pub struct RecipientDetail {
    /// As in lists.
    pub summary: RecipientSummary,
    /// What its worker says of its host.
    pub facts: Option<Facts>,
    /// When it said so.
    pub facts_at: Option<OffsetDateTime>,
}

/// A one-time token for the registration of a worker, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewToken {
    /// Its keyed digest.
    pub digest: Vec<u8>,
    /// The organisation that the recipient will belong to.
    pub org_id: String,
    /// The only recipient that may register with it.
    pub recipient: Option<Uuid>,
    /// Whether that recipient may be registered already; only an admin's token has it.
    pub may_replace: bool,
    /// What people call the recipient.
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Until when it may be used.
    pub expires_at: OffsetDateTime,
}

/// What making a token came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenOutcome {
    /// It is there.
    Made,
    /// The organisation has as many as it may that are neither used nor expired.
    TooMany,
    /// The recipient is registered already, and the token may not replace that.
    Registered,
    /// The recipient belongs to another organisation.
    OtherOrg,
}

/// A worker that registers with a token.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The digests of its token under every shared secret.
    pub token_digests: Vec<Vec<u8>>,
    /// The address it has chosen.
    pub recipient: Uuid,
    /// What it calls itself.
    pub name: String,
    /// The digests of its key under every shared secret; the first is stored.
    pub key_digests: Vec<Vec<u8>>,
    /// What it says of its host.
    pub facts: Facts,
    /// Now.
    pub at: OffsetDateTime,
}

/// What a registration came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RegisterOutcome {
    /// It is registered, under this organisation and name; also where it was by this very request.
    Registered {
        /// The organisation.
        org_id: String,
        /// The name.
        name: String,
    },
    /// There is no such token.
    UnknownToken,
    /// The token was not used until then.
    Expired(OffsetDateTime),
    /// Another registration has used it.
    Used,
    /// It is for this recipient only.
    OtherRecipient(Uuid),
    /// The recipient is registered already, and the token may not replace that.
    Taken,
}
