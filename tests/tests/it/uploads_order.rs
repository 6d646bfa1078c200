//! Whatever a run reports, and however its cumulative uploads are split, repeated and reordered on
//! their way: the run ends as the longest of them says.

use std::{sync::Arc, time::Duration};

use dispatcher_api::{
    config::{
        source::Source,
        uploads::{Keeping, Opening, UploadSettings},
    },
    store::{Stores, sqlite},
    uploads::{
        model::{Update, Upload, UploadState},
        update,
    },
};
use dispatcher_tests::{
    conformance::fixtures::{create, foreign_run, host_rows, now, status},
    foreign::{lines, stats, transcript},
    postgres::Database,
};
use dispatcher_wire::RunStatus;
use proptest::{prelude::*, sample::Index};
use serde_json::Value;
use uuid::Uuid;

/// A run as it was reported: hosts, who failed, whether it has ended.
#[derive(Clone, Debug)]
struct Story {
    hosts: Vec<&'static str>,
    failed: Vec<&'static str>,
    ended: bool,
}

fn story() -> impl Strategy<Value = Story> {
    let names = prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4);
    let failed = prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=2);
    (names, failed, any::<bool>()).prop_map(|(hosts, failed, ended)| Story { hosts, failed, ended })
}

fn events(story: &Story, correlation_id: Uuid) -> Vec<Value> {
    let mut events = transcript(correlation_id, &story.hosts);
    events.pop();
    if story.ended {
        events.push(stats(story.hosts.len() + 1, &story.failed, &[]));
    }
    events
}

fn limits() -> (Opening, Keeping) {
    let settings = UploadSettings::read(&mut Source::default(), "https://d.example");
    (settings.opening, settings.keeping)
}

async fn apply(stores: &Stores, org_id: &str, update: &Update) {
    let id = Uuid::new_v4();
    let upload = Upload {
        id,
        org_id: org_id.to_owned(),
        run_id: None,
        object: format!("uploads/{id}"),
        size: 1,
        state: UploadState::Pending,
        reason: None,
        attempt: 0,
        created_at: now(),
    };
    stores.uploads.accept(&upload).await.unwrap();
    let lease = Duration::from_secs(60);
    let claimed = stores.uploads.claim(Uuid::new_v4(), now(), lease).await.unwrap().unwrap();
    stores.uploads.apply(&claimed, &Arc::new(update.clone()), now()).await.unwrap();
}

/// What is left of a run after these uploads: its state, and its hosts with state and log.
async fn left(
    stores: &Stores,
    story: &Story,
    lengths: &[usize],
) -> (RunStatus, Vec<(String, RunStatus, String)>) {
    let run = foreign_run("order");
    create(stores, std::slice::from_ref(&run)).await;
    let events = events(story, run.correlation_id);
    let (opening, keeping) = limits();
    for length in lengths {
        let archive = lines(&events[..*length]);
        let update = update::from_archive(&archive, &opening, &keeping).unwrap();
        apply(stores, &run.org_id, &update).await;
    }
    let rows = host_rows(stores, &run).await.into_iter();
    let mut hosts: Vec<_> = rows.map(|row| (row.host, row.status, row.log)).collect();
    hosts.sort_by(|a, b| a.0.cmp(&b.0));
    (status(stores, &run).await, hosts)
}

/// Cumulative uploads of these lengths end as the longest of them alone.
async fn agrees(stores: &Stores, story: &Story, order: &[Index]) -> Result<(), TestCaseError> {
    let whole = events(story, Uuid::nil()).len();
    let lengths: Vec<usize> = order.iter().map(|index| index.index(whole) + 1).collect();
    let longest = *lengths.iter().max().unwrap();
    let mixed = left(stores, story, &lengths).await;
    let straight = left(stores, story, &[longest]).await;
    // Before any host is known, the run has the contract's host `localhost`, which stays.
    let named = |hosts: &[(String, RunStatus, String)]| -> Vec<_> {
        hosts.iter().filter(|host| host.0 != "localhost").cloned().collect()
    };
    prop_assert_eq!(mixed.0, straight.0);
    prop_assert_eq!(named(&mixed.1), named(&straight.1));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn the_longest_upload_decides(
        story in story(),
        order in proptest::collection::vec(any::<Index>(), 1..7),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let stores: Stores = sqlite::Store::open(directory.path()).unwrap();
            agrees(&stores, &story, &order).await
        })?;
    }
}

#[test]
fn the_longest_upload_decides_on_postgresql() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(Database::migrated()).unwrap();
    let stores = runtime.block_on(database.stores()).unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) };
    proptest!(config, |(story in story(), order in proptest::collection::vec(any::<Index>(), 1..7))| {
        runtime.block_on(agrees(&stores, &story, &order))?;
    });
}
