//! Lists of one organisation that has all the runs: by state, service and label, first and deep pages;
//! and hosts with their output. The bare loop asks for the same rows with the same driver.

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};
use dispatcher_api::{
    runs::model::{RunFilter, RunHostFilter, RunHostQuery, RunQuery},
    store::{Stores, sqlite},
};
use dispatcher_tests::postgres::Database;
use dispatcher_wire::RunStatus;
use uuid::Uuid;

use crate::{bare::Bare, measure::Report, rows};

/// The organisation with many runs.
pub(crate) const LARGE: &str = "large";
/// The organisation whose runs have hosts.
pub(crate) const WITH_HOSTS: &str = "with-hosts";
/// Its runs, and the hosts of each.
pub(crate) const RUNS_WITH_HOSTS: i64 = 5_000;
pub(crate) const HOSTS: i64 = 4;
/// What each host has printed, in bytes.
pub(crate) const LOG: usize = 4096;
/// Services of the runs, a third each.
pub(crate) const SERVICES: [&str; 3] = ["remediations", "config_manager", "tasks"];
/// How often each page is read.
const TURNS: usize = 9;
/// Rows of a page.
pub(crate) const PAGE: i64 = 50;

/// What a list is filtered by; each of them names a tenth to a third of the runs, the rare label one of
/// a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) status: Option<RunStatus>,
    pub(crate) service: Option<&'static str>,
    pub(crate) label: Option<(&'static str, &'static str)>,
}

const SERVICE: Wanted = Wanted { status: None, service: Some("tasks"), label: None };
const STATUS: Wanted = Wanted { status: Some(RunStatus::Failure), service: None, label: None };
const LABEL: Wanted = Wanted { status: None, service: None, label: Some(("ring", "3")) };
const RARE: Wanted = Wanted { status: None, service: None, label: Some(("site", "17")) };
const ALL: Wanted = Wanted { label: LABEL.label, status: STATUS.status, service: SERVICE.service };

const LISTS: [(&str, Wanted); 6] = [
    ("all", Wanted { status: None, service: None, label: None }),
    ("by service", SERVICE),
    ("by state", STATUS),
    ("by label", LABEL),
    ("by a rare label", RARE),
    ("by all three", ALL),
];

/// Where the rows are. Stores are opened anew for every page: they remember what was counted.
pub(crate) enum Place<'a> {
    /// SQLite in this directory.
    Directory(&'a Path),
    /// This database.
    Server(&'a Database),
}

impl Place<'_> {
    /// Stores that remember nothing, with a connection.
    async fn stores(&self) -> Result<Stores> {
        let stores = match self {
            Self::Directory(directory) => sqlite::Store::open(directory)?,
            Self::Server(database) => database.stores().await?,
        };
        stores.runs.get(LARGE, Uuid::nil()).await?;
        Ok(stores)
    }
}

/// Measures on a database that [`Bare::seed_large`] has filled.
pub(crate) async fn measure(
    report: &mut Report,
    place: &Place<'_>,
    bare: &mut dyn Bare,
) -> Result<()> {
    for (what, wanted) in LISTS {
        let total = bare.filtered(wanted, 0).await?;
        for (page, offset) in [("first", 0), ("deep", (total - PAGE).max(0) / 2)] {
            list(report, place, bare, &format!("{what}, {page} page"), wanted, offset).await?;
        }
    }
    let all = RUNS_WITH_HOSTS * HOSTS;
    hosts(report, place, bare, "hosts with output, first page", None, 0).await?;
    hosts(report, place, bare, "hosts with output, deep page", None, all / 2).await?;
    let run = bare.a_run_with_hosts().await?;
    hosts(report, place, bare, "hosts of a run with output", Some(run), 0).await
}

async fn list(
    report: &mut Report,
    place: &Place<'_>,
    bare: &mut dyn Bare,
    what: &str,
    wanted: Wanted,
    offset: i64,
) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let stores = place.stores().await?;
        let label = wanted.label.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let filter = RunFilter {
            org_id: LARGE.to_owned(),
            status: wanted.status,
            service: wanted.service.map(str::to_owned),
            labels: label.into_iter().collect(),
            ..RunFilter::default()
        };
        let query = RunQuery { filter, ascending: false, limit: PAGE, offset, now: rows::now() };
        let started = Instant::now();
        let page = stores.runs.list(&query).await?;
        ours.push(started.elapsed());

        let started = Instant::now();
        let total = bare.filtered(wanted, offset).await?;
        theirs.push(started.elapsed());
        ensure!(page.total == total && total > 0, "{what}: {total} is not {}", page.total);
    }
    report.add(what.to_owned(), ours, theirs)
}

async fn hosts(
    report: &mut Report,
    place: &Place<'_>,
    bare: &mut dyn Bare,
    what: &str,
    run_id: Option<Uuid>,
    offset: i64,
) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let stores = place.stores().await?;
        let org_id = WITH_HOSTS.to_owned();
        let filter = RunHostFilter { org_id, run_id, ..RunHostFilter::default() };
        let query = RunHostQuery {
            filter,
            with_log: true,
            log_cap: 1 << 20,
            limit: PAGE,
            offset,
            now: rows::now(),
        };
        let started = Instant::now();
        let page = stores.runs.list_hosts(&query).await?;
        ours.push(started.elapsed());
        ensure!(page.rows.iter().all(|host| host.log.len() == LOG), "{what}: a log is not whole");

        let started = Instant::now();
        let total = bare.hosts(run_id, offset).await?;
        theirs.push(started.elapsed());
        ensure!(page.total == total, "{what}: {total} is not {}", page.total);
    }
    report.add(what.to_owned(), ours, theirs)
}
