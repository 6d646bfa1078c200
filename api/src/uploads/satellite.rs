//! What an upload of a Satellite does to its run and the run's hosts (contract §5.2, decision 23),
//! as far as that can be said without a database. Pure; the stores read, ask and write.
//!
//! Everything is computed per event: what an upload brings counts the same whether it comes in one
//! upload or in many, in whatever order, once or again.

use std::collections::BTreeMap;

use dispatcher_wire::{RunStatus, satellite::SatelliteEvent};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::progress::{Contents, Edit, Piece};
use crate::runs::model::RunHostRow;

/// The most that is held back for hosts without output, in bytes: of a run, of a host. What each piece
/// counts beside its text.
const MAX_HELD: usize = 64 << 10;
const PIECE: usize = 64;

/// What events say of a host, or of all hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostReport {
    /// What they add to the log.
    pub pieces: Vec<Piece>,
    /// The state of the first end of a host that has one.
    pub finished: Option<RunStatus>,
    /// The last state on any event, and its sequence.
    pub reported: Option<(i64, RunStatus)>,
}

/// What a valid upload of satellite events says.
#[derive(Clone, Debug, PartialEq)]
pub struct SatelliteUpdate {
    /// The run is found by organisation and correlation id, lowest id first.
    pub correlation_id: Uuid,
    /// What it says of each host, by inventory id.
    pub hosts: BTreeMap<Uuid, HostReport>,
    /// What it says of all hosts.
    pub all_hosts: HostReport,
    /// The state of the first end of the run that has one.
    pub completed: Option<RunStatus>,
    /// The events as stored in `runs.events`, by sequence.
    pub events: Vec<SatelliteEvent>,
    /// Error code and text, where the Satellite could not do its part.
    pub error: Option<(String, String)>,
    /// The most output that is kept for a host, in bytes.
    pub log_max: usize,
    /// The most output that is kept for all hosts together, in bytes.
    pub log_total: usize,
}

impl SatelliteUpdate {
    /// Whether hosts that it does not name may be concerned.
    #[must_use]
    pub const fn is_about_all_hosts(&self) -> bool {
        !self.all_hosts.pieces.is_empty() || self.all_hosts.finished.is_some()
    }
}

/// What is known of a host beside its row. An absent one: nothing was reported on it yet.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HostProgress {
    /// The highest sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<i64>,
    /// What its log is made of.
    contents: Contents,
    /// What waits for the first piece with a sequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<Piece>,
    /// Its own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<RunStatus>,
    /// The last state that was reported on it, and its sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reported: Option<(i64, RunStatus)>,
}

/// What is known of a run beside its row: what concerns all hosts, also those that are named later.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RunProgress {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pieces: Vec<Piece>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<RunStatus>,
}

/// A host of the run as it is stored.
#[derive(Clone, Debug)]
pub struct StoredHost {
    /// Its row, without log.
    pub row: RunHostRow,
    /// Its `sat_sequence`.
    pub sequence: Option<i16>,
    /// The length of its log, in bytes.
    pub log_bytes: usize,
    /// The state last reported on it, where something is known of it.
    pub reported: Option<RunStatus>,
    /// What is known of it, where it is named or the update concerns all hosts.
    pub progress: Option<HostProgress>,
}

/// A host as it is to be.
#[derive(Clone, Debug)]
pub struct ChangedHost {
    /// Its row, without log.
    pub row: RunHostRow,
    /// Its `sat_sequence`.
    pub sequence: Option<i16>,
    /// What becomes of its log.
    pub edit: Edit,
    /// What is known of it from now on.
    pub progress: HostProgress,
    /// The state last reported on it.
    pub reported: Option<RunStatus>,
    /// Whether its row changes.
    pub is_changed: bool,
}

/// What an update comes to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The hosts it concerns.
    pub hosts: Vec<ChangedHost>,
    /// What is known of the run from now on; `None`: what was known.
    pub run: Option<RunProgress>,
    /// The state it gives to the run, if its own allows.
    pub status: RunStatus,
}

/// The state that a run has after an upload that says so. Only what runs, or ran out of time, changes:
/// a Satellite's failure and cancellation stay, as success does.
#[must_use]
pub const fn after(stored: RunStatus, said: RunStatus) -> RunStatus {
    match stored {
        RunStatus::Running | RunStatus::Timeout if stored.may_become(said) => said,
        _ => stored,
    }
}

/// What the update does to a run with these hosts (those with an inventory id). With `full`, uploads
/// carry everything that a host has printed so far.
#[must_use]
pub fn plan(
    full: bool,
    stored_run: Option<RunProgress>,
    stored_hosts: Vec<StoredHost>,
    update: &SatelliteUpdate,
    now: OffsetDateTime,
) -> Plan {
    let mut run = stored_run.unwrap_or_default();
    let news = run.take(full, &update.all_hosts);
    let cap = update.log_max.min(update.log_total / stored_hosts.len().max(1));
    let mut hosts = Vec::new();
    let mut states = Vec::with_capacity(stored_hosts.len());
    for stored in stored_hosts {
        let report = stored.row.inventory_id.and_then(|id| update.hosts.get(&id));
        let is_known = stored.progress.is_some();
        if report.is_none() && !(is_known && news) {
            states.push(stored.state());
            continue;
        }
        let mut own = report.cloned().unwrap_or_default();
        if full && report.is_some() {
            let all = &update.all_hosts.pieces;
            own.pieces.extend(all.iter().filter(|piece| !piece.place.is_last()).cloned());
        }
        let changed = stored.take(full, own, &run, cap, now);
        states.push(changed.reported);
        hosts.push(changed);
    }
    let status = match update.completed {
        Some(completed) => completed,
        None if full && states.is_empty() => {
            // Rows that the original wrote may name no host behind it: those of the upload count.
            let reported = |report: &HostReport| report.reported.map(|(_, status)| status);
            of_all(&update.hosts.values().map(reported).collect::<Vec<_>>())
        }
        None if full => of_all(&states),
        None => RunStatus::Running,
    };
    Plan { hosts, run: news.then_some(run), status }
}

/// The state of a run whose hosts were reported to be in these.
fn of_all(states: &[Option<RunStatus>]) -> RunStatus {
    let any = |status| states.contains(&Some(status));
    if states.is_empty() || states.contains(&None) || any(RunStatus::Running) {
        RunStatus::Running
    } else if any(RunStatus::Failure) {
        RunStatus::Failure
    } else if any(RunStatus::Canceled) {
        RunStatus::Canceled
    } else {
        RunStatus::Success
    }
}

/// Puts pieces to those that are held, as long as there is room.
fn hold(held: &mut Vec<Piece>, pieces: impl IntoIterator<Item = Piece>) {
    let mut size: usize = held.iter().map(|piece| PIECE + piece.text.len()).sum();
    for piece in pieces {
        let grown = size + PIECE + piece.text.len();
        if grown <= MAX_HELD && !held.contains(&piece) {
            held.push(piece);
            size = grown;
        }
    }
}

impl RunProgress {
    /// Takes what concerns all hosts; whether there is anything new. What hosts have printed so far
    /// (`full`) is replaced by what they print later, so it is not for hosts that are named later.
    fn take(&mut self, full: bool, report: &HostReport) -> bool {
        let count = self.pieces.len();
        let lasting = report.pieces.iter().filter(|piece| !full || piece.place.is_last());
        hold(&mut self.pieces, lasting.cloned());
        let mut news = self.pieces.len() > count;
        if self.finished.is_none() && report.finished.is_some() {
            self.finished = report.finished;
            news = true;
        }
        news
    }
}

impl StoredHost {
    /// The state that counts for the run: the one last reported, or an end that another program has
    /// written.
    fn state(&self) -> Option<RunStatus> {
        let own = self.row.status;
        let ended = own.is_final() && own != RunStatus::Timeout;
        self.reported.or_else(|| ended.then_some(own))
    }

    /// What becomes of it; `run` is what was ever said of all hosts.
    fn take(
        self,
        full: bool,
        report: HostReport,
        run: &RunProgress,
        cap: usize,
        now: OffsetDateTime,
    ) -> ChangedHost {
        let reported = self.state();
        let Self { mut row, sequence, log_bytes, progress, .. } = self;
        let own_end = row.status.is_final() && row.status != RunStatus::Timeout;
        let mut progress = progress.unwrap_or_else(|| HostProgress {
            // Where it has a sequence, another program has reported on it.
            finished: (own_end && sequence.is_some()).then_some(row.status),
            ..HostProgress::foreign(sequence, log_bytes)
        });
        if progress.contents.bytes() != log_bytes {
            let contents = HostProgress::foreign(sequence, log_bytes).contents;
            progress = HostProgress { contents, ..progress };
        }
        let edit = progress.take_pieces(full, report.pieces, &run.pieces, cap);
        let before = row.status;
        if let Some(finished) = report.finished.or(run.finished)
            && progress.finished.is_none()
        {
            progress.finished = Some(finished);
            row.status = finished;
        }
        if let Some(said) = report.reported
            && progress.reported.is_none_or(|known| said.0 > known.0)
        {
            progress.reported = Some(said);
        }
        let highest = progress.sequence.map(|highest| i16::try_from(highest).unwrap_or(i16::MAX));
        let highest = highest.max(sequence);
        let is_changed = row.status != before || edit != Edit::Keep || highest != sequence;
        if is_changed {
            row.updated_at = now;
        }
        let reported = progress.reported.map(|(_, status)| status).or(reported);
        ChangedHost { row, sequence: highest, edit, progress, reported, is_changed }
    }
}

impl HostProgress {
    fn foreign(sequence: Option<i16>, log_bytes: usize) -> Self {
        let sequence = sequence.map(i64::from);
        let contents = Contents::foreign(sequence, log_bytes);
        Self { sequence, contents, ..Self::default() }
    }

    /// Takes pieces of its own and those of all hosts. Without any sequence so far nothing is written
    /// (contract §5.2): its own pieces wait for one.
    fn take_pieces(&mut self, full: bool, own: Vec<Piece>, shared: &[Piece], cap: usize) -> Edit {
        let sequences = own.iter().chain(shared).filter(|piece| !piece.place.is_last());
        self.sequence = sequences.map(|piece| piece.place.sequence).max().max(self.sequence);
        if self.sequence.is_none() {
            hold(&mut self.held, own);
            return Edit::Keep;
        }
        let mut pieces = std::mem::take(&mut self.held);
        pieces.extend(own);
        pieces.extend(shared.iter().cloned());
        self.contents.take(full, pieces, cap)
    }
}

#[cfg(test)]
mod tests {
    use RunStatus::{Canceled, Failure, Running, Success, Timeout};

    use super::{
        super::progress::{GAP, Place},
        *,
    };

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn piece(sequence: Option<i64>, text: &str) -> Piece {
        let place = Place { sequence: sequence.unwrap_or(Place::LAST), kind: 0 };
        Piece { place, text: text.to_owned() }
    }

    fn report(pieces: &[Piece], finished: Option<RunStatus>) -> HostReport {
        let reported = finished.map(|status| (Place::LAST, status));
        HostReport { pieces: pieces.to_vec(), finished, reported }
    }

    fn update(hosts: &[(Uuid, HostReport)], completed: Option<RunStatus>) -> SatelliteUpdate {
        SatelliteUpdate {
            correlation_id: Uuid::nil(),
            hosts: hosts.iter().cloned().collect(),
            all_hosts: HostReport::default(),
            completed,
            events: Vec::new(),
            error: None,
            log_max: 1000,
            log_total: 1000,
        }
    }

    /// A run with hosts A and B, as a store keeps it.
    struct Stored {
        full: bool,
        run: Option<RunProgress>,
        status: RunStatus,
        hosts: Vec<(StoredHost, String)>,
    }

    impl Stored {
        fn new(full: bool) -> Self {
            let at = OffsetDateTime::UNIX_EPOCH;
            let host = |id: Uuid| StoredHost {
                row: RunHostRow {
                    id,
                    run_id: Uuid::nil(),
                    inventory_id: Some(id),
                    host: id.to_string(),
                    status: Running,
                    log: String::new(),
                    created_at: at,
                    updated_at: at,
                },
                sequence: None,
                log_bytes: 0,
                reported: None,
                progress: None,
            };
            let hosts = [A, B].map(|id| (host(id), String::new())).to_vec();
            Self { full, run: None, status: Running, hosts }
        }

        fn take(&mut self, update: &SatelliteUpdate) {
            let rows = self.hosts.iter().map(|(host, _)| host.clone()).collect();
            let now = OffsetDateTime::UNIX_EPOCH;
            let plan = plan(self.full, self.run.clone(), rows, update, now);
            self.status = after(self.status, plan.status);
            self.run = plan.run.or(self.run.take());
            for changed in plan.hosts {
                let of = |(host, _): &&mut (StoredHost, String)| host.row.id == changed.row.id;
                let (host, log) = self.hosts.iter_mut().find(of).unwrap();
                match &changed.edit {
                    Edit::Keep => {}
                    Edit::Append(text) => log.push_str(text),
                    edit @ Edit::Rewrite(_) => *log = edit.rewritten(log).unwrap(),
                }
                host.row = changed.row;
                host.sequence = changed.sequence;
                host.log_bytes = log.len();
                host.reported = changed.reported;
                host.progress = Some(changed.progress);
            }
            let status = self.status;
            let running = |host: &&mut (StoredHost, String)| host.0.row.status == Running;
            if status.is_final() {
                self.hosts.iter_mut().filter(running).for_each(|host| host.0.row.status = status);
            }
        }

        fn host(&self, n: usize) -> (RunStatus, &str) {
            (self.hosts[n].0.row.status, &self.hosts[n].1)
        }
    }

    #[test]
    fn a_run_is_over_when_it_says_so_or_in_full_mode_when_its_hosts_are() {
        let done = |status| report(&[], Some(status));
        for (full, a, b, expected) in [
            (true, Success, Success, Success),
            (true, Success, Canceled, Canceled),
            (true, Canceled, Failure, Failure),
            (false, Success, Success, Running),
        ] {
            let mut stored = Stored::new(full);
            stored.take(&update(&[(A, done(a))], None));
            assert_eq!(stored.status, Running, "not while a host runs");
            stored.take(&update(&[(B, done(b))], None));
            assert_eq!(stored.status, expected);
        }
        let mut stored = Stored::new(false);
        stored.take(&update(&[], None));
        assert_eq!(stored.status, Running, "no host and no end is no success");
        stored.take(&update(&[], Some(Canceled)));
        assert_eq!((stored.status, stored.host(0).0), (Canceled, Canceled));
    }

    #[test]
    fn without_hosts_of_its_own_a_run_goes_by_those_of_the_upload() {
        let said = |update: &SatelliteUpdate| {
            plan(true, None, Vec::new(), update, OffsetDateTime::UNIX_EPOCH).status
        };
        let (ended, running) = (report(&[], Some(Success)), report(&[piece(Some(1), "a")], None));
        assert_eq!(said(&update(&[(A, ended.clone())], None)), Success);
        assert_eq!(said(&update(&[(A, ended), (B, running)], None)), Running);
        assert_eq!(said(&update(&[], None)), Running);
    }

    #[test]
    fn failure_and_cancellation_stay_and_a_timeout_does_not() {
        for stored in RunStatus::ALL {
            for said in RunStatus::ALL {
                let expected = match stored {
                    Running if said.is_final() => said,
                    Timeout if matches!(said, Success | Failure | Canceled) => said,
                    _ => stored,
                };
                assert_eq!(after(stored, said), expected, "{stored} {said}");
            }
        }
    }

    #[test]
    fn a_hosts_own_end_wins_over_that_of_its_run_and_stays() {
        let mut stored = Stored::new(true);
        stored.take(&update(&[(A, report(&[piece(Some(0), "a")], None))], Some(Failure)));
        assert_eq!(stored.host(0), (Failure, "a"));
        stored.take(&update(&[(A, report(&[], Some(Success)))], None));
        assert_eq!(stored.host(0), (Success, "a"));
        stored.take(&update(&[(A, report(&[piece(Some(4), "ab")], Some(Failure)))], None));
        assert_eq!(stored.host(0), (Success, "ab"), "more output, the same end");
        assert_eq!(stored.host(1), (Failure, ""));
    }

    #[test]
    fn what_is_said_to_all_hosts_reaches_those_with_output_whenever_they_are_named() {
        let mut stored = Stored::new(false);
        let mut all = update(&[], None);
        all.all_hosts = report(&[piece(None, "away")], None);
        stored.take(&update(&[(A, report(&[piece(Some(0), "a")], None))], None));
        stored.take(&all);
        stored.take(&all);
        assert_eq!((stored.host(0).1, stored.host(1).1), ("aaway", ""));
        stored.take(&update(&[(B, report(&[piece(None, "own")], Some(Success)))], None));
        assert_eq!(stored.host(1), (Success, ""), "no sequence: the state alone");
        stored.take(&update(&[(B, report(&[piece(Some(1), "b")], None))], None));
        assert_eq!(stored.host(1), (Success, format!("{GAP}bownaway").as_str()));
    }

    #[test]
    fn sequences_beyond_the_column_are_counted_beside_it() {
        let mut stored = Stored::new(false);
        for (sequence, column) in [(32_766, 32_766), (32_767, 32_767), (32_768, 32_767)] {
            let text = sequence.to_string();
            stored.take(&update(&[(A, report(&[piece(Some(sequence), &text)], None))], None));
            assert_eq!(stored.hosts[0].0.sequence, Some(column));
        }
        assert_eq!(stored.host(0).1, format!("{GAP}327663276732768"));
    }

    #[test]
    fn what_the_original_has_written_is_kept() {
        let mut stored = Stored::new(false);
        let (host, log) = &mut stored.hosts[0];
        *log = "theirs".to_owned();
        (host.sequence, host.log_bytes, host.row.status) = (Some(3), 6, Success);
        stored.take(&update(&[(A, report(&[piece(Some(3), "x")], Some(Failure)))], None));
        assert_eq!(stored.host(0), (Success, "theirs"));
        stored.take(&update(&[(A, report(&[piece(Some(4), "ours")], None))], None));
        assert_eq!(stored.host(0), (Success, "theirsours"));
        stored.hosts[0].1.clear();
        stored.hosts[0].0.log_bytes = 0;
        stored.take(&update(&[(A, report(&[piece(Some(6), "new")], None))], None));
        assert_eq!(stored.host(0).1, format!("{GAP}new"), "a log that was emptied begins anew");
    }
}
