//! Events on demand: what runs and their hosts are now, told again, for consumers that begin or have
//! lost something. Safe to repeat.

use dispatcher_wire::RunStatus;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::model::{Place, ReadFilter, ReadPage};
use crate::{
    audit::model::{Action, Actor, AuditEntry},
    bus::{Topic, Wakeups},
    store::{StoreResult, events::EventStore},
};

/// Runs of one commit.
const BATCH: i64 = 50;
/// Runs of one request, unless it says otherwise.
pub const DEFAULT_LIMIT: u64 = 200;
/// The most runs of one request.
pub const MAX_LIMIT: u64 = 1_000;

/// What somebody asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadRequest {
    /// Runs of this service only.
    pub service: Option<String>,
    /// Runs in this state only.
    pub status: Option<String>,
    /// Runs that changed since then only, RFC 3339.
    pub since: Option<String>,
    /// At most so many runs.
    pub limit: Option<u64>,
    /// Where an earlier answer ended.
    pub after: Option<String>,
}

/// What was told.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ReadAnswer {
    /// Runs.
    pub runs: u64,
    /// Their hosts.
    pub run_hosts: u64,
    /// What to ask for next; nothing at the end.
    pub next: Option<String>,
}

/// A request that was understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    /// Which runs.
    pub filter: ReadFilter,
    /// From where on.
    pub after: Option<Place>,
    /// At most so many.
    pub limit: u64,
}

impl Reading {
    /// The row of the audit log for it.
    #[must_use]
    pub fn asked_by(&self, actor: &Actor, at: OffsetDateTime) -> AuditEntry {
        let ReadFilter { org_id, service, status, since } = &self.filter;
        let detail = json!({
            "service": service,
            "status": status.map(|status| status.as_str()),
            "since": since.and_then(|since| since.format(&Rfc3339).ok()),
            "goes_on": self.after.is_some(),
        });
        actor.did(Action::EventsRead, "events", org_id.as_deref(), at).with(detail)
    }
}

impl ReadRequest {
    /// What is asked for, for one organisation or all.
    ///
    /// # Errors
    /// When a value is not allowed; the text says what is.
    pub fn understand(self, org_id: Option<String>) -> Result<Reading, String> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(format!("limit {limit} is not allowed; allowed: 1 to {MAX_LIMIT}"));
        }
        let status = self.status.map(|name| {
            RunStatus::parse(&name).ok_or_else(|| {
                let allowed = "running, success, failure, timeout, canceled";
                format!("there is no status {name}; allowed: {allowed}")
            })
        });
        let since = self.since.map(|text| {
            OffsetDateTime::parse(&text, &Rfc3339).map_err(|_| {
                format!("since {text} is not a time; allowed: RFC 3339, as 2026-08-01T10:00:00Z")
            })
        });
        let after = self.after.map(|text| {
            place(&text).ok_or_else(|| {
                format!("after {text} is not the end of an earlier answer; leave it out to begin")
            })
        });
        let (status, since) = (status.transpose()?, since.transpose()?);
        let filter = ReadFilter { org_id, service: self.service, status, since };
        Ok(Reading { filter, after: after.transpose()?, limit })
    }
}

/// Writes `read` events in small commits, and wakes the publisher.
///
/// # Errors
/// When the database fails; what was written before stays, and may be written again.
pub async fn read(
    store: &dyn EventStore,
    wakeups: &Wakeups,
    reading: &Reading,
) -> StoreResult<ReadPage> {
    let mut all = ReadPage { next: reading.after, ..ReadPage::default() };
    loop {
        let left = i64::try_from(reading.limit - all.runs).unwrap_or(BATCH).min(BATCH);
        let now = OffsetDateTime::now_utc().truncate_to_microsecond();
        let page = store.write_reads(&reading.filter, all.next, left, now).await?;
        wakeups.wake(Topic::Events);
        all.runs += page.runs;
        all.run_hosts += page.run_hosts;
        all.next = page.next;
        if all.next.is_none() || all.runs >= reading.limit {
            metrics::counter!("dispatcher_events_read_total").increment(all.runs + all.run_hosts);
            return Ok(all);
        }
    }
}

impl From<ReadPage> for ReadAnswer {
    fn from(page: ReadPage) -> Self {
        let ReadPage { runs, run_hosts, next } = page;
        let micros = |at: OffsetDateTime| at.unix_timestamp_nanos() / 1_000;
        let next = next.map(|Place { at, id }| format!("{}.{}", micros(at), id.simple()));
        Self { runs, run_hosts, next }
    }
}

fn place(text: &str) -> Option<Place> {
    let (micros, id) = text.split_once('.')?;
    let nanos = i128::from(micros.parse::<i64>().ok()?) * 1_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    Some(Place { at, id: Uuid::parse_str(id).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_the_beginning_of_the_next() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_000).unwrap();
        let next = Some(Place { at, id: Uuid::new_v4() });
        let answer = ReadAnswer::from(ReadPage { runs: 1, run_hosts: 2, next });
        let request = ReadRequest { after: answer.next, ..ReadRequest::default() };
        let reading = request.understand(None).unwrap();
        assert_eq!((reading.after, reading.limit), (next, DEFAULT_LIMIT));
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let wrong = |request: ReadRequest| request.understand(None).unwrap_err();
        let default = ReadRequest::default;
        assert!(wrong(ReadRequest { limit: Some(0), ..default() }).contains("1 to 1000"));
        let status = ReadRequest { status: Some("done".to_owned()), ..default() };
        assert!(wrong(status).contains("canceled"));
        let since = ReadRequest { since: Some("today".to_owned()), ..default() };
        assert!(wrong(since).contains("RFC 3339"));
        for text in ["", "1", "x.y", "1.2", "99999999999999999999.1"] {
            let after = ReadRequest { after: Some(text.to_owned()), ..default() };
            assert!(wrong(after).contains("earlier answer"), "{text}");
        }
    }
}
