//! The types of work: what a worker may do with a run it has claimed. No IO.
//!
//! A run's work is `Pending` until a worker claims it, `Claimed` until the worker has reported
//! `executor_on_start` (record 0), `Started` from then on, and `Done` when the run is final.
//! Only pending work, and claimed work whose lease is over, can be claimed; started work never is
//! claimed again, which is what makes an execution at most once.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use dispatcher_wire::RunStatus;

/// How far the work on a run has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WorkState {
    /// Nobody has taken it.
    Pending,
    /// A worker holds it and has not started it.
    Claimed,
    /// A worker has started it; it is never handed out again.
    Started,
    /// The run is final.
    Done,
}

impl WorkState {
    /// The value in the database.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Pending => 0,
            Self::Claimed => 1,
            Self::Started => 2,
            Self::Done => 3,
        }
    }

    /// The state of that value; unknown values count as done, so they are never executed.
    #[must_use]
    pub const fn from_code(code: i16) -> Self {
        match code {
            0 => Self::Pending,
            1 => Self::Claimed,
            2 => Self::Started,
            _ => Self::Done,
        }
    }
}

/// How often a claim may be handed out before the run is given up as failed.
pub const MAX_CLAIM_ATTEMPTS: i32 = 5;

/// A worker asks for work.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Its recipient.
    pub recipient: Uuid,
    /// Which process asks, for people who look at the table.
    pub claimed_by: String,
    /// How many runs the recipient may be busy with, this one included.
    pub at_a_time: u32,
    /// The proof it will own; fresh for each request and each run.
    pub claim: Uuid,
    /// Now.
    pub now: OffsetDateTime,
    /// Until when the claim is its own without a sign of life.
    pub lease_until: OffsetDateTime,
}

/// A recipient whose worker waits for its bell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// The recipient.
    pub recipient: Uuid,
    /// With how many runs it may be busy: while it has as many, nothing is work for it.
    pub at_a_time: u32,
}

/// Work that was claimed; a claim yields at most one.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedWork {
    /// The run.
    pub run_id: Uuid,
    /// Its organisation.
    pub org_id: String,
    /// The proof for all later writes.
    pub claim: Uuid,
    /// From 1.
    pub attempt: i32,
    /// For `executor_on_start`.
    pub correlation_id: Uuid,
    /// What people call it.
    pub name: Option<String>,
    /// Unsigned.
    pub url: String,
    /// When its time is over.
    pub deadline: OffsetDateTime,
    /// Whether there are inputs or secrets.
    pub has_inputs: bool,
}

/// A worker's hold on a run: the proof that every write names, with the recipient it was handed to.
/// All three must match the run's work, or the caller holds nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hold {
    /// The run.
    pub run_id: Uuid,
    /// The proof that was handed out with it.
    pub claim: Uuid,
    /// Who presents it.
    pub recipient: Uuid,
}

/// The inputs of a run as stored.
#[derive(Clone, Debug, Default)]
pub struct StoredInputs {
    /// Without secrets.
    pub inputs: Option<serde_json::Value>,
    /// Sealed.
    pub sealed_secrets: Option<Vec<u8>>,
}

/// A batch of records, reduced to what is stored. Pure logic has made it from events.
#[derive(Clone, Debug)]
pub struct AppendBatch {
    /// Number of the first record in the batch.
    pub first_counter: u64,
    /// Per record, in order: where its output ends in `output`. The store skips the records (and
    /// their output) that it has already.
    pub output_ends: Vec<usize>,
    /// The output of all records, one after the other. UTF-8 without NUL.
    pub output: Vec<u8>,
    /// Where in `output` a line end stands that is wanted only behind other output of the run.
    pub separator_at: Option<usize>,
    /// The most output that is stored for the run, in bytes; a marker line comes on top.
    pub output_max: u64,
    /// Hosts named by the records, sorted, distinct.
    pub hosts: Vec<String>,
    /// The most hosts that are kept for the run; those that appear beyond it are not.
    pub hosts_max: u64,
    /// What the records say about the outcome, to be merged into what is known.
    pub outcome: OutcomeSoFar,
    /// The new end of the lease.
    pub lease_until: OffsetDateTime,
    /// Now.
    pub now: OffsetDateTime,
}

/// The line behind which the output of a run is dropped, since it is too much.
pub const OUTPUT_DROPPED: &str = "[dispatcher: the output limit is reached, the rest is dropped]\n";

impl AppendBatch {
    /// Number of the record after the last one.
    #[must_use]
    pub fn end_counter(&self) -> u64 {
        self.first_counter.saturating_add(self.output_ends.len() as u64)
    }

    /// The chunk to be stored, where records below `next_counter` and `stored` bytes of output are
    /// there already. Once the limit is crossed it ends in [`OUTPUT_DROPPED`]; after that it is
    /// empty, since the marker has moved `stored` beyond the limit.
    #[must_use]
    pub fn fresh_output(&self, next_counter: u64, stored: u64) -> Cow<'_, [u8]> {
        let known = usize::try_from(next_counter.saturating_sub(self.first_counter));
        let last_known = known.unwrap_or(usize::MAX).checked_sub(1);
        let mut start = last_known
            .map_or(0, |index| self.output_ends.get(index).copied().unwrap_or(self.output.len()));
        if stored == 0 && self.separator_at == Some(start) {
            start += 1;
        }
        let fresh = self.output.get(start..).unwrap_or_default();
        if fresh.is_empty() || stored > self.output_max {
            return Cow::Borrowed(&[]);
        }
        let room = usize::try_from(self.output_max - stored).unwrap_or(usize::MAX);
        if fresh.len() <= room {
            return Cow::Borrowed(fresh);
        }
        Cow::Owned(cut_with_marker(fresh, room))
    }

    /// What is stored behind the `fresh` output of this batch, where it names hosts that are not
    /// kept and the run's log does not say so yet; `stored` bytes of output are there without it.
    #[must_use]
    pub fn hosts_note(&self, fresh: &[u8], stored: u64) -> Vec<u8> {
        let line_end = if fresh.last().is_some_and(|byte| *byte != b'\n') { "\n" } else { "" };
        let most = self.hosts_max;
        let mut note = format!(
            "{line_end}[dispatcher: the run has more than {most} hosts, the rest are not listed]\n"
        );
        // Beyond the limit nothing is stored, and that must stand in the log as well.
        if stored <= self.output_max && stored + note.len() as u64 > self.output_max {
            note.push_str(OUTPUT_DROPPED);
        }
        note.into_bytes()
    }
}

/// At most `room` bytes, no character cut in two, and the marker on a line of its own.
fn cut_with_marker(fresh: &[u8], room: usize) -> Vec<u8> {
    let continues = |at: &usize| fresh.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let end = (0..=room).rev().find(|at| !continues(at)).unwrap_or_default();
    let mut chunk = fresh.get(..end).unwrap_or_default().to_vec();
    if chunk.last().is_some_and(|byte| *byte != b'\n') {
        chunk.push(b'\n');
    }
    chunk.extend_from_slice(OUTPUT_DROPPED.as_bytes());
    chunk
}

/// What is known about the outcome while a run goes on; stored as JSON beside the work.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct OutcomeSoFar {
    /// From `playbook_on_stats`: every host, and whether it failed or was unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<BTreeMap<String, bool>>,
    /// From `executor_on_failed`: code and details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<(String, String)>,
    /// Whether hosts were named that are not kept, since there are too many.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_hosts: bool,
    /// Whether one of the hosts that are not kept failed or was unreachable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_failed: bool,
}

/// What an append came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AppendOutcome {
    /// Durable up to `next_counter`.
    Applied {
        /// The next record expected.
        next_counter: u64,
        /// Whether the run is to be ended: canceled, expired, or already final.
        cancel: bool,
    },
    /// The batch starts beyond what is expected; nothing was changed.
    Gap {
        /// The next record expected.
        next_counter: u64,
    },
    /// The claim is not (or no longer) the run's; nothing was changed.
    NotYours,
}

/// Ends a run under a claim.
#[derive(Clone, Debug)]
pub struct Finish {
    /// How many records the run must have.
    pub next_counter: u64,
    /// The most that is copied into each host's log (head, marker, tail), in bytes.
    pub host_log_cap: usize,
    /// The most that is copied into the logs of all hosts together, in bytes.
    pub all_logs_cap: usize,
    /// Now.
    pub now: OffsetDateTime,
}

impl Finish {
    /// What each of so many hosts may get: all get the output of the whole run, so that many share
    /// what is kept.
    #[must_use]
    pub fn log_cap(&self, hosts: usize) -> usize {
        self.host_log_cap.min(self.all_logs_cap / hosts.max(1))
    }
}

/// What a finish came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FinishOutcome {
    /// The run is in this state now (also where it was final before: a repeated finish).
    Final(RunStatus),
    /// Records are missing; nothing was changed.
    Gap {
        /// The next record expected.
        next_counter: u64,
    },
    /// The claim is not (or no longer) the run's; nothing was changed.
    NotYours,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(records: &[&str], output_max: u64) -> AppendBatch {
        let mut output = Vec::new();
        let mut end = |text: &&str| {
            output.extend_from_slice(text.as_bytes());
            output.len()
        };
        let output_ends = records.iter().map(&mut end).collect();
        AppendBatch {
            first_counter: 10,
            output_ends,
            output,
            separator_at: None,
            output_max,
            hosts: Vec::new(),
            hosts_max: 2,
            outcome: OutcomeSoFar::default(),
            lease_until: OffsetDateTime::UNIX_EPOCH,
            now: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn fresh(batch: &AppendBatch, next_counter: u64, stored: u64) -> String {
        String::from_utf8(batch.fresh_output(next_counter, stored).into_owned()).unwrap()
    }

    #[test]
    fn many_hosts_share_what_is_kept() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let finish = Finish { next_counter: 0, host_log_cap: 10, all_logs_cap: 100, now };
        assert_eq!(
            [0, 1, 10, 11, 100, 101].map(|hosts| finish.log_cap(hosts)),
            [10, 10, 10, 9, 1, 0]
        );
    }

    #[test]
    fn records_that_are_known_are_skipped() {
        let batch = batch(&["a\n", "", "b\n"], 1000);
        assert_eq!(batch.end_counter(), 13);
        assert_eq!(fresh(&batch, 10, 0), "a\nb\n");
        assert_eq!(fresh(&batch, 11, 2), "b\n");
        assert_eq!(fresh(&batch, 12, 2), "b\n");
        assert_eq!(fresh(&batch, 13, 4), "");
        assert_eq!(fresh(&batch, u64::MAX, 4), "");
    }

    #[test]
    fn output_beyond_the_limit_is_dropped_with_one_marker() {
        let batch = batch(&["äöü", "more\n"], 5);
        assert_eq!(fresh(&batch, 10, 0), format!("äö\n{OUTPUT_DROPPED}"));
        assert_eq!(fresh(&batch, 11, 5), OUTPUT_DROPPED);
        assert_eq!(fresh(&batch, 11, 6), "");
    }

    #[test]
    fn the_note_on_hosts_is_a_line_and_keeps_the_limit_visible() {
        let note = |fresh: &str, stored, output_max| {
            String::from_utf8(batch(&[], output_max).hosts_note(fresh.as_bytes(), stored)).unwrap()
        };
        let line = "[dispatcher: the run has more than 2 hosts, the rest are not listed]\n";
        assert_eq!(note("", 0, 1000), line);
        assert_eq!(note("a\n", 2, 1000), line);
        assert_eq!(note("a", 1, 1000), format!("\n{line}"));
        assert_eq!(note("", 950, 1000), format!("{line}{OUTPUT_DROPPED}"));
        assert_eq!(note("", 1001, 1000), line, "the log says already that output is dropped");
    }

    #[test]
    fn a_separator_stands_only_between() {
        let separated =
            |records: &[&str], at| AppendBatch { separator_at: Some(at), ..batch(records, 99) };
        assert_eq!(fresh(&separated(&["", "\nwhy"], 0), 10, 0), "why");
        assert_eq!(fresh(&separated(&["", "\nwhy"], 0), 10, 4), "\nwhy");
        assert_eq!(fresh(&separated(&["ok", "\nwhy"], 2), 10, 0), "ok\nwhy");
        assert_eq!(fresh(&separated(&["ok", "\nwhy"], 2), 11, 2), "\nwhy");
    }
}
