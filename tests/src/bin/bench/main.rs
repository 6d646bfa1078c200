//! The figures of the hot paths: dispatch, event append, lists, uploads. Each is printed as a ratio to a bare
//! loop that writes or reads the same rows with the same driver, in the same run, on the same
//! database, turn by turn; so the ratio says what the service adds, on any machine.
//!
//! Not a test: it prints, and never fails for being slow. `RUNS=100000` makes the lists shorter;
//! arguments (`paths`, `large`, `uploads`) leave the other parts out.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

mod bare;
mod bare_postgres;
mod bare_sqlite;
mod large;
mod measure;
mod rows;
mod uploads;

use anyhow::Result;
use dispatcher_api::store::{Stores, sqlite::Store};
use dispatcher_tests::postgres::Database;

use crate::{bare::Bare, large::Place, measure::Report};

/// Runs in the table when lists are measured, shared by [`ORGS`] organisations.
const RUNS: i64 = 1_000_000;
/// Organisations in the table.
const ORGS: i64 = 1_000;

#[tokio::main]
async fn main() -> Result<()> {
    let runs = std::env::var("RUNS").map_or(Ok(RUNS), |runs| runs.parse())?;
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    println!("{runs} runs over {ORGS} organisations; medians; ours / bare = ratio\n");

    let directory = tempfile::tempdir()?;
    let stores = Store::open(directory.path())?;
    let mut bare = bare_sqlite::Sqlite::open(directory.path())?;
    if wanted("paths") {
        measured("SQLite", &stores, &mut bare, runs).await?;
    }
    drop(stores);
    if wanted("large") {
        large("SQLite", &Place::Directory(directory.path()), &mut bare, runs).await?;
    }
    if wanted("uploads") {
        let stores = Store::open(directory.path())?;
        uploads::measure("SQLite", &stores, directory.path()).await?;
    }

    let database = Database::migrated().await?;
    let stores = database.stores().await?;
    let mut bare = bare_postgres::Postgres::connect(&database.url).await?;
    if wanted("paths") {
        measured("PostgreSQL", &stores, &mut bare, runs).await?;
    }
    if wanted("large") {
        large("PostgreSQL", &Place::Server(&database), &mut bare, runs).await?;
    }
    if wanted("uploads") {
        uploads::measure("PostgreSQL", &stores, directory.path()).await?;
    }
    Ok(())
}

async fn measured(name: &str, stores: &Stores, bare: &mut dyn Bare, runs: i64) -> Result<()> {
    let mut report = Report::new(name);
    measure::dispatch(&mut report, stores, bare, 1, 300).await?;
    measure::dispatch(&mut report, stores, bare, 50, 60).await?;
    measure::append(&mut report, stores, bare, 300).await?;
    bare.seed(runs, ORGS).await?;
    measure::list(&mut report, stores, bare, ORGS, 0).await?;
    measure::list(&mut report, stores, bare, ORGS, runs / ORGS - 50).await?;
    report.print();
    Ok(())
}

async fn large(name: &str, place: &Place<'_>, bare: &mut dyn Bare, runs: i64) -> Result<()> {
    let mut report = Report::new(&format!("{name}: one organisation with {runs} runs"));
    bare.seed_large(runs).await?;
    large::measure(&mut report, place, bare).await?;
    report.print();
    Ok(())
}
