//! The vocabulary of the cases: runs, claims, batches and uploads that are valid unless said
//! otherwise, and short ways to look at what became of them.

use std::{collections::BTreeMap, sync::Arc};

use dispatcher_api::{
    config::{source::Source, uploads::UploadSettings},
    execution::model::{
        AppendBatch, AppendOutcome, ClaimRequest, Finish, FinishOutcome, Hold, OutcomeSoFar,
        Waiting,
    },
    runs::model::{
        CreateOutcome, NewRoute, NewRun, NewRunHost, RunDetail, RunFilter, RunHostFilter,
        RunHostQuery, RunHostRow, RunQuery,
    },
    store::Stores,
    uploads::{
        model::{ClaimedUpload, RunnerUpdate, Update, Upload, UploadState},
        update::from_archive,
    },
};
use dispatcher_wire::{RunStatus, execution::Doorbell};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// How long leases of the cases last.
pub const LEASE: Duration = Duration::seconds(60);
/// No ids at all.
pub const NONE: [Uuid; 0] = [];
/// A cap of host logs that no case reaches by accident.
pub const LOG_CAP: usize = 64 * 1024;

/// Now, as precise as databases keep it.
#[must_use]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}

/// An organisation that nobody else has.
#[must_use]
pub fn org() -> String {
    Uuid::new_v4().simple().to_string().chars().take(10).collect()
}

/// A run of our workers, created now, with an hour's time and no hosts.
#[must_use]
pub fn run(org_id: &str) -> NewRun {
    let id = Uuid::new_v4();
    NewRun {
        id,
        org_id: org_id.to_owned(),
        recipient: Uuid::new_v4(),
        correlation_id: Uuid::new_v4(),
        url: "https://example.com/site.yml".to_owned(),
        labels: BTreeMap::new(),
        timeout: 3600,
        service: "remediations".to_owned(),
        name: Some("a run".to_owned()),
        web_console_url: "https://example.com/console".to_owned(),
        principal: Some("somebody".to_owned()),
        sat_id: None,
        sat_org_id: None,
        response_full: true,
        created_at: now(),
        hosts: Vec::new(),
        route: NewRoute::Worker { inputs: None, sealed_secrets: None },
    }
}

/// The same, through a connector.
#[must_use]
pub fn foreign_run(org_id: &str) -> NewRun {
    NewRun { route: NewRoute::CloudConnector, ..run(org_id) }
}

/// Hosts of these names.
#[must_use]
pub fn hosts(names: &[&str]) -> Vec<NewRunHost> {
    let host = |name: &&str| NewRunHost {
        id: Uuid::new_v4(),
        host: (*name).to_owned(),
        inventory_id: None,
        subscription_manager_id: None,
    };
    names.iter().map(host).collect()
}

/// Labels of these pairs.
#[must_use]
pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Creates runs without a key.
pub async fn create(stores: &Stores, runs: &[NewRun]) {
    assert_eq!(stores.runs.create(runs, None, &[]).await.unwrap(), CreateOutcome::Created);
}

/// What the store knows of a run.
pub async fn detail(stores: &Stores, run: &NewRun) -> RunDetail {
    stores.runs.get(&run.org_id, run.id).await.unwrap().expect("the run is there")
}

/// The stored state of a run.
pub async fn status(stores: &Stores, run: &NewRun) -> RunStatus {
    detail(stores, run).await.run.status
}

/// All runs of an organisation, newest first, judged now.
#[must_use]
pub fn all_runs(org_id: &str) -> RunQuery {
    let filter = RunFilter { org_id: org_id.to_owned(), ..RunFilter::default() };
    RunQuery { filter, ascending: false, limit: 200, offset: 0, now: now() }
}

/// The ids of a page of runs; the page must say the total that it has.
pub async fn listed(stores: &Stores, query: &RunQuery) -> Vec<Uuid> {
    let page = stores.runs.list(query).await.unwrap();
    assert!(page.total >= page.rows.len() as i64);
    page.rows.iter().map(|row| row.id).collect()
}

/// All run hosts of an organisation, with logs, judged now.
#[must_use]
pub fn all_hosts(org_id: &str) -> RunHostQuery {
    let filter = RunHostFilter { org_id: org_id.to_owned(), ..RunHostFilter::default() };
    RunHostQuery { filter, with_log: true, log_cap: LOG_CAP, limit: 200, offset: 0, now: now() }
}

/// The hosts of a run by name, with logs.
pub async fn host_rows(stores: &Stores, run: &NewRun) -> Vec<RunHostRow> {
    let mut query = all_hosts(&run.org_id);
    query.filter.run_id = Some(run.id);
    let mut rows = stores.runs.list_hosts(&query).await.unwrap().rows;
    rows.sort_by(|a, b| a.host.cmp(&b.host));
    rows
}

/// Names and states of the hosts of a run, by name.
pub async fn host_states(stores: &Stores, run: &NewRun) -> Vec<(String, RunStatus)> {
    host_rows(stores, run).await.into_iter().map(|row| (row.host, row.status)).collect()
}

/// A request for work at a time.
#[must_use]
pub fn request(recipient: Uuid, at: OffsetDateTime) -> ClaimRequest {
    ClaimRequest {
        recipient,
        claimed_by: "the suite".to_owned(),
        at_a_time: 1,
        claim: Uuid::new_v4(),
        now: at,
        lease_until: at + LEASE,
    }
}

/// Claims a run at a time; it must be the one that is handed out.
pub async fn claimed(stores: &Stores, run: &NewRun, at: OffsetDateTime) -> Hold {
    let request = request(run.recipient, at);
    let work = stores.work.claim(&request).await.unwrap().expect("there is work");
    assert_eq!((work.run_id, work.claim), (run.id, request.claim));
    Hold { run_id: run.id, claim: request.claim, recipient: run.recipient }
}

/// Records that print these texts.
#[must_use]
pub fn batch(first_counter: u64, texts: &[&str], at: OffsetDateTime) -> AppendBatch {
    let mut output = Vec::new();
    let mut end = |text: &&str| {
        output.extend_from_slice(text.as_bytes());
        output.len()
    };
    let output_ends = texts.iter().map(&mut end).collect();
    AppendBatch {
        first_counter,
        output_ends,
        output,
        separator_at: None,
        output_max: 1 << 40,
        hosts: Vec::new(),
        hosts_max: 1 << 40,
        outcome: OutcomeSoFar::default(),
        lease_until: at + LEASE,
        now: at,
    }
}

/// Appends a batch that must be applied; the next record, and whether the run is to be ended.
pub async fn append(stores: &Stores, hold: Hold, batch: &AppendBatch) -> (u64, bool) {
    match stores.work.append(hold, batch).await.unwrap() {
        AppendOutcome::Applied { next_counter, cancel } => (next_counter, cancel),
        other => panic!("not applied: {other:?}"),
    }
}

/// Claims and starts a run: its record 0 prints nothing.
pub async fn started(stores: &Stores, run: &NewRun, at: OffsetDateTime) -> Hold {
    let hold = claimed(stores, run, at).await;
    assert_eq!(append(stores, hold, &batch(0, &[""], at)).await.0, 1);
    hold
}

/// What `playbook_on_stats` said: hosts, and whether they failed.
#[must_use]
pub fn stats(hosts: &[(&str, bool)]) -> OutcomeSoFar {
    let stats = hosts.iter().map(|(host, bad)| ((*host).to_owned(), *bad)).collect();
    OutcomeSoFar { stats: Some(stats), ..OutcomeSoFar::default() }
}

/// What `executor_on_failed` said.
#[must_use]
pub fn executor_error(code: &str) -> OutcomeSoFar {
    let error = Some((code.to_owned(), "so it was".to_owned()));
    OutcomeSoFar { error, ..OutcomeSoFar::default() }
}

/// Appends one record with an outcome and finishes; the state the run ended in.
pub async fn finished(
    stores: &Stores,
    hold: Hold,
    next_counter: u64,
    outcome: OutcomeSoFar,
    at: OffsetDateTime,
) -> RunStatus {
    let last = AppendBatch { outcome, ..batch(next_counter, &["end\n"], at) };
    append(stores, hold, &last).await;
    match stores.work.finish(hold, &finish(next_counter + 1, at)).await.unwrap() {
        FinishOutcome::Final(status) => status,
        other => panic!("not finished: {other:?}"),
    }
}

/// The end of a run with so many records.
#[must_use]
pub fn finish(next_counter: u64, at: OffsetDateTime) -> Finish {
    Finish { next_counter, host_log_cap: LOG_CAP, all_logs_cap: usize::MAX, now: at }
}

/// An upload just received, bound to no run.
#[must_use]
pub fn upload(org_id: &str, at: OffsetDateTime) -> Upload {
    let id = Uuid::new_v4();
    Upload {
        id,
        org_id: org_id.to_owned(),
        run_id: None,
        object: format!("uploads/{id}"),
        size: 10,
        state: UploadState::Pending,
        reason: None,
        attempt: 0,
        created_at: at,
    }
}

/// Receives and claims an upload; it must be the only one.
pub async fn claimed_upload(stores: &Stores, upload: &Upload) -> ClaimedUpload {
    stores.uploads.accept(upload).await.unwrap();
    let lease = std::time::Duration::from_secs(60);
    let claimed = stores.uploads.claim(Uuid::new_v4(), upload.created_at, lease).await.unwrap();
    let claimed = claimed.expect("there is an upload");
    assert_eq!(claimed.upload.id, upload.id);
    claimed
}

/// An update of a run that says one state for it and these hosts.
#[must_use]
pub fn update(run: &NewRun, status: RunStatus, hosts: &[&str], log: &str) -> RunnerUpdate {
    RunnerUpdate {
        correlation_id: run.correlation_id,
        status,
        hosts: hosts.iter().map(|host| ((*host).to_owned(), status)).collect(),
        log: log.to_owned(),
        events: Vec::new(),
        error: None,
    }
}

/// A run of hosts behind a Satellite, known by these inventory ids.
#[must_use]
pub fn satellite_run(org_id: &str, hosts: &[Uuid], response_full: bool) -> NewRun {
    let host = |id: &Uuid| NewRunHost {
        id: Uuid::new_v4(),
        host: id.to_string(),
        inventory_id: Some(*id),
        subscription_manager_id: None,
    };
    NewRun {
        sat_id: Some(Uuid::new_v4()),
        sat_org_id: Some("5".to_owned()),
        response_full,
        hosts: hosts.iter().map(host).collect(),
        ..foreign_run(org_id)
    }
}

/// What an archive of these events says, by the limits that are the defaults.
#[must_use]
pub fn said(events: &[serde_json::Value]) -> Arc<Update> {
    let settings = UploadSettings::read(&mut Source::default(), "https://d.example");
    let archive = crate::foreign::lines(events);
    Arc::new(from_archive(&archive, &settings.opening, &settings.keeping).expect("it is valid"))
}

/// The bell of a recipient whose worker executes one run after the other.
pub async fn doorbell(stores: &Stores, recipient: Uuid, at: OffsetDateTime) -> Doorbell {
    let one = Waiting { recipient, at_a_time: 1 };
    let mut bells = stores.work.doorbells(&[one], at).await.unwrap();
    bells.remove(&recipient).unwrap_or_default()
}
