//! The SQLite store as a directory: who may open it, what stays private, what survives.

use std::{
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use dispatcher_api::store::{
    StoreError,
    sqlite::{FILE_NAME, OpenError, Store},
};
use dispatcher_tests::conformance::fixtures::{all_runs, create, listed, now, org, run};
use rusqlite::{Connection, params};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let stores = Store::open(&path).unwrap();
    let error = Store::open(&path).err().unwrap();
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains("--data-dir") && text.contains("stop"), "{text}");
    stores.upkeep.ping().await.unwrap();
    drop(stores);
    Store::open(&path).unwrap().upkeep.ping().await.unwrap();
}

#[tokio::test]
async fn everything_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some/where");
    let stores = Store::open(&path).unwrap();
    create(&stores, &[run(&org())]).await;
    assert_eq!(mode(&path), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        files += 1;
    }
    assert!(files >= 3, "database, journal and lock");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = Store::open(&path).err().unwrap().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    std::fs::DirBuilder::new().mode(0o700).create(directory.path().join("broken")).unwrap();
    let broken = directory.path().join("broken");
    std::fs::write(broken.join(FILE_NAME), "this is no database, but long enough to be one")
        .unwrap();
    let error = Store::open(&broken).err().unwrap();
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let connection = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
                 VALUES (99, 'newer', '2026-01-01T00:00:00Z', '1')";
    connection.execute(newer, []).unwrap();
    let error = Store::open(directory.path()).err().unwrap();
    assert!(matches!(error, OpenError::Migration { .. }), "{error}");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let org = org();
    let runs: Vec<_> = (0..3).map(|_| run(&org)).collect();
    let stores = Store::open(directory.path()).unwrap();
    create(&stores, &runs).await;
    let before = listed(&stores, &all_runs(&org)).await;
    drop(stores);
    let stores = Store::open(directory.path()).unwrap();
    assert_eq!(listed(&stores, &all_runs(&org)).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_state_before_an_unfinished_change_and_never_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let stores = Store::open(directory.path()).unwrap();
    let org = org();
    create(&stores, &[run(&org)]).await;
    let mut other = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    let change = other.transaction().unwrap();
    change.execute("UPDATE runs SET service = 'changed'", []).unwrap();
    for _ in 0..20 {
        let rows = stores.runs.list(&all_runs(&org)).await.unwrap().rows;
        assert_eq!(rows[0].service, "remediations");
    }
    change.commit().unwrap();
    let rows = stores.runs.list(&all_runs(&org)).await.unwrap().rows;
    assert_eq!(rows[0].service, "changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_when_its_caller_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    let stores = Store::open(directory.path()).unwrap();
    let org = org();
    for _ in 0..20 {
        let (runs, run) = (stores.runs.clone(), run(&org));
        let _ = tokio::time::timeout(Duration::from_micros(50), async move {
            runs.create(&[run], None, &[]).await.unwrap();
        })
        .await;
    }
    // Each was created whole or not at all, and neither the writer nor a reader was lost.
    create(&stores, &[run(&org)]).await;
    let ids = listed(&stores, &all_runs(&org)).await;
    for id in &ids {
        assert!(stores.runs.get(&org, *id).await.unwrap().unwrap().work.is_some());
    }
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_an_error_and_not_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let stores = Store::open(directory.path()).unwrap();
    let (org, at) = (org(), now());
    let run = run(&org);
    create(&stores, std::slice::from_ref(&run)).await;
    let other = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    for broken in ["UPDATE runs SET labels = '{'", "UPDATE runs SET created_at = ?1"] {
        let values = if broken.contains('?') { params![i64::MAX] } else { params![] };
        other.execute(broken, values).unwrap();
        let error = stores.runs.list(&all_runs(&org)).await.unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{error}");
        other.execute("UPDATE runs SET labels = '{}'", []).unwrap();
    }
    other.execute("UPDATE runs SET created_at = 0", []).unwrap();
    stores.upkeep.expire(at, 10).await.unwrap();
    assert_eq!(listed(&stores, &all_runs(&org)).await, [run.id]);
}
