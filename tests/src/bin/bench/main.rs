//! The figures of the hot paths: dispatch, event append, list, uploads. Each is printed as a ratio to a bare
//! loop that writes or reads the same rows with the same driver, in the same run, on the same
//! database, turn by turn; so the ratio says what the service adds, on any machine.
//!
//! Not a test: it prints, and never fails for being slow. `RUNS=100000` makes the lists shorter.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

mod bare;
mod bare_postgres;
mod bare_sqlite;
mod measure;
mod rows;
mod uploads;

use anyhow::Result;
use dispatcher_api::store::Stores;
use dispatcher_tests::postgres::Database;

use crate::{bare::Bare, measure::Report};

/// Runs in the table when lists are measured, shared by [`ORGS`] organisations.
const RUNS: i64 = 1_000_000;
/// Organisations in the table.
const ORGS: i64 = 1_000;

#[tokio::main]
async fn main() -> Result<()> {
    let runs = std::env::var("RUNS").map_or(Ok(RUNS), |runs| runs.parse())?;
    println!("{runs} runs over {ORGS} organisations; medians; ours / bare = ratio\n");

    let directory = tempfile::tempdir()?;
    let stores = dispatcher_api::store::sqlite::Store::open(directory.path())?;
    let mut bare = bare_sqlite::Sqlite::open(directory.path())?;
    measured("SQLite", &stores, &mut bare, runs).await?;
    uploads::measure("SQLite", &stores, directory.path()).await?;

    let database = Database::migrated().await?;
    let stores = database.stores().await?;
    let mut bare = bare_postgres::Postgres::connect(&database.url).await?;
    measured("PostgreSQL", &stores, &mut bare, runs).await?;
    uploads::measure("PostgreSQL", &stores, directory.path()).await
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
