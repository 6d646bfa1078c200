//! Whatever a Satellite reports, and however it is split, repeated and reordered on its way: the run
//! ends as the ordered whole says. Runner uploads are in `uploads_order`.

use dispatcher_api::{
    store::{Stores, sqlite},
    uploads::model::ApplyOutcome,
};
use dispatcher_tests::{
    conformance::fixtures::{
        claimed_upload, create, host_rows, now, org, said, satellite_run, status, upload,
    },
    postgres::Database,
    satellite::{broken, completed, finished, printed},
};
use dispatcher_wire::RunStatus;
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::Value;
use uuid::Uuid;

/// What happened to a host: its output, and its end, where it has one.
type HostStory = (Vec<String>, Option<&'static str>);

/// A run as it was reported.
#[derive(Clone, Debug)]
struct Story {
    hosts: Vec<HostStory>,
    /// Whether its end is reported, and whether the Satellite failed.
    ended: bool,
    broken: bool,
}

fn story() -> impl Strategy<Value = Story> {
    let end = prop::sample::select(vec![Some("success"), Some("failure"), Some("canceled"), None]);
    let host = (vec("[a-zä\n]{0,6}", 0..6), end);
    (vec(host, 1..4), any::<bool>(), any::<bool>()).prop_map(|(hosts, ended, broken)| Story {
        hosts,
        ended,
        broken,
    })
}

impl Story {
    /// As a Satellite would say it, in order: what each host prints and how it ends, then how the
    /// run ends, which agrees with its hosts.
    fn events(&self, correlation_id: Uuid, hosts: &[Uuid]) -> Vec<Value> {
        let mut events = Vec::new();
        for ((texts, end), id) in self.hosts.iter().zip(hosts) {
            for (sequence, text) in (0_i64..).zip(texts) {
                events.push(printed(correlation_id, *id, sequence, text));
            }
            events.extend(end.map(|end| finished(correlation_id, *id, end)));
        }
        if self.ended {
            let any = |status| self.hosts.iter().any(|(_, end)| *end == Some(status));
            let unbroken = if any("failure") {
                completed(correlation_id, "failure")
            } else if any("canceled") {
                completed(correlation_id, "canceled")
            } else {
                completed(correlation_id, "success")
            };
            // A Satellite that failed has not finished its hosts.
            let all = self.hosts.iter().all(|(_, end)| end.is_some());
            let is_broken = self.broken && !all;
            events.push(if is_broken { broken(correlation_id, "away") } else { unbroken });
        }
        events
    }
}

/// State of the run; state, sequence-free log and name of each host.
type Left = (RunStatus, Vec<(usize, RunStatus, String)>);

/// What is left of a run after uploads of these events, by number.
async fn left(stores: &Stores, story: &Story, full: bool, uploads: &[Vec<usize>]) -> Left {
    let ids: Vec<Uuid> = story.hosts.iter().map(|_| Uuid::new_v4()).collect();
    let run = satellite_run(&org(), &ids, full);
    create(stores, std::slice::from_ref(&run)).await;
    let events = story.events(run.correlation_id, &ids);
    for numbers in uploads.iter().filter(|numbers| !numbers.is_empty()) {
        let chosen: Vec<Value> = numbers.iter().map(|n| events[*n].clone()).collect();
        let claimed = claimed_upload(stores, &upload(&run.org_id, now())).await;
        let outcome = stores.uploads.apply(&claimed, &said(&chosen), now()).await.unwrap();
        assert_eq!(outcome, ApplyOutcome::Applied);
    }
    let place = |id: Option<Uuid>| ids.iter().position(|known| Some(*known) == id).unwrap();
    let rows = host_rows(stores, &run).await.into_iter();
    let mut hosts: Vec<_> =
        rows.map(|row| (place(row.inventory_id), row.status, row.log)).collect();
    hosts.sort_by_key(|host| host.0);
    (status(stores, &run).await, hosts)
}

fn numbers(deliveries: &[Vec<Index>], count: usize) -> Vec<Vec<usize>> {
    let of = |delivery: &Vec<Index>| delivery.iter().map(|index| index.index(count)).collect();
    deliveries.iter().map(of).collect()
}

/// In partial mode any pieces, in any order, as often as they like, as long as each comes once.
async fn in_pieces(stores: &Stores, story: &Story, deliveries: &[Vec<Index>]) -> (Left, Left) {
    let count = story.events(Uuid::nil(), &vec![Uuid::nil(); story.hosts.len()]).len();
    if count == 0 {
        let nothing = left(stores, story, false, &[]).await;
        return (nothing.clone(), nothing);
    }
    let mut mixed = numbers(deliveries, count);
    mixed.extend((0..count).rev().map(|n| vec![n]));
    let whole: Vec<usize> = (0..count).collect();
    (left(stores, story, false, &mixed).await, left(stores, story, false, &[whole]).await)
}

/// In full mode each upload holds everything so far, except for ends, which may come alone.
async fn in_prefixes(stores: &Stores, story: &Story, deliveries: &[Vec<Index>]) -> (Left, Left) {
    let events = story.events(Uuid::nil(), &vec![Uuid::nil(); story.hosts.len()]);
    let count = events.len();
    if count == 0 {
        let nothing = left(stores, story, true, &[]).await;
        return (nothing.clone(), nothing);
    }
    let mut mixed: Vec<Vec<usize>> = Vec::new();
    for index in deliveries.iter().flatten() {
        let n = index.index(count);
        mixed.push((0..=n).collect());
        if events[n].get("sequence").is_none() {
            mixed.push(vec![n]);
        }
    }
    let whole: Vec<usize> = (0..count).collect();
    let middle = mixed.len() / 2;
    mixed.insert(middle, whole.clone());
    (left(stores, story, true, &mixed).await, left(stores, story, true, &[whole]).await)
}

async fn agrees(
    stores: &Stores,
    story: &Story,
    full: bool,
    deliveries: &[Vec<Index>],
) -> Result<(), TestCaseError> {
    let (mixed, straight) = if full {
        in_prefixes(stores, story, deliveries).await
    } else {
        in_pieces(stores, story, deliveries).await
    };
    prop_assert_eq!(mixed, straight);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn the_ordered_whole_decides_on_sqlite(
        story in story(), full in any::<bool>(), deliveries in vec(vec(any::<Index>(), 1..5), 0..5),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let stores: Stores = sqlite::Store::open(directory.path()).unwrap();
            agrees(&stores, &story, full, &deliveries).await
        })?;
    }
}

#[test]
fn the_ordered_whole_decides_on_postgresql() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(Database::migrated()).unwrap();
    let stores = runtime.block_on(database.stores()).unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) };
    let stories = (story(), any::<bool>(), vec(vec(any::<Index>(), 1..5), 0..5));
    proptest!(config, |((story, full, deliveries) in stories)| {
        runtime.block_on(agrees(&stores, &story, full, &deliveries))?;
    });
}
