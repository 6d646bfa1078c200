//! Lists compared with the plainest model there is: a vector, filtered and sorted.

use dispatcher_api::runs::model::{CancelRequest, NewRun, RunFilter, RunQuery, RunRow};
use dispatcher_wire::RunStatus;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{create, now, org, run},
};

const RUNS: usize = 150;
const QUERIES: usize = 300;

/// A small generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Something every third time.
    fn maybe<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (self.below(3) == 0).then(|| self.pick(from))
    }
}

struct World {
    orgs: Vec<String>,
    recipients: Vec<Uuid>,
    services: Vec<String>,
    labels: Vec<(String, String)>,
    base: OffsetDateTime,
}

impl World {
    fn new() -> Self {
        let text = |text: &str| text.to_owned();
        let label = |(key, value): (&str, &str)| (text(key), text(value));
        let labels = [("a", "1"), ("a", "2"), ("b", "1"), ("", "1"), ("\"", "'"), ("$.a", "1")];
        Self {
            orgs: vec![org(), org()],
            recipients: (0..4).map(|_| Uuid::new_v4()).collect(),
            services: ["remediations", "tasks", "config_manager"].map(text).to_vec(),
            labels: labels.map(label).to_vec(),
            base: now(),
        }
    }

    fn run(&self, random: &mut Random) -> NewRun {
        let mut new = run(&random.pick(&self.orgs));
        new.recipient = random.pick(&self.recipients);
        new.service = random.pick(&self.services);
        new.timeout = random.pick(&[0, 5, 10, 3600]);
        // Few times, so that many are equal.
        new.created_at = self.base - Duration::seconds(random.below(12) as i64);
        new.labels = (0..random.below(4)).map(|_| random.pick(&self.labels)).collect();
        new
    }

    fn query(&self, random: &mut Random) -> RunQuery {
        let services = (0..random.below(3)).map(|_| random.pick(&self.services)).collect();
        let labels = (0..random.below(3)).map(|_| random.pick(&self.labels)).collect();
        let filter = RunFilter {
            org_id: random.pick(&self.orgs),
            services,
            status: random.maybe(&RunStatus::ALL),
            recipient: random.maybe(&self.recipients),
            service: random.maybe(&self.services),
            labels,
        };
        RunQuery {
            filter,
            ascending: random.below(2) == 0,
            limit: 1 + random.below(20) as i64,
            offset: random.pick(&[0, 0, 0, 1, 7, 50]),
            now: self.base + Duration::seconds(random.below(12) as i64 - 6),
        }
    }
}

fn matches(row: &RunRow, query: &RunQuery) -> bool {
    let filter = &query.filter;
    row.org_id == filter.org_id
        && (filter.services.is_empty() || filter.services.contains(&row.service))
        && filter.status.is_none_or(|status| row.status_at(query.now) == status)
        && filter.recipient.is_none_or(|recipient| row.recipient == recipient)
        && filter.service.as_ref().is_none_or(|service| row.service == *service)
        && filter.labels.iter().all(|(key, value)| row.labels[key] == value.as_str())
}

fn expected(rows: &[RunRow], query: &RunQuery) -> (Vec<RunRow>, i64) {
    let mut found: Vec<RunRow> = rows.iter().filter(|row| matches(row, query)).cloned().collect();
    found.sort_by(|a, b| {
        let by_time = a.created_at.cmp(&b.created_at);
        let by_time = if query.ascending { by_time } else { by_time.reverse() };
        by_time.then(a.id.cmp(&b.id))
    });
    let total = found.len() as i64;
    let page = found.into_iter().skip(query.offset as usize).take(query.limit as usize);
    (page.collect(), total)
}

/// Random runs, random queries: the same rows in the same order with the same total.
pub async fn lists_are_what_a_model_says(subject: &Subject) {
    let seed = u64::from_le_bytes(*Uuid::new_v4().as_bytes().first_chunk().unwrap()) | 1;
    let mut random = Random(seed);
    let world = World::new();
    let runs: Vec<NewRun> = (0..RUNS).map(|_| world.run(&mut random)).collect();
    for batch in runs.chunks(50) {
        create(&subject.stores, batch).await;
    }
    let mut rows: Vec<RunRow> = runs.iter().map(NewRun::row).collect();
    let earliest = world.base - Duration::seconds(60);
    for row in rows.iter_mut().filter(|row| row.timeout > 0).step_by(5) {
        let (run_id, org_id) = (row.id, row.org_id.clone());
        let request = CancelRequest { run_id, org_id, principal: "model".to_owned() };
        subject.stores.runs.cancel(&[request], earliest, None).await.unwrap();
        (row.status, row.updated_at) = (RunStatus::Canceled, earliest);
    }
    for nth in 0..QUERIES {
        let query = world.query(&mut random);
        let page = subject.stores.runs.list(&query).await.unwrap();
        let (rows, total) = expected(&rows, &query);
        assert_eq!(page.rows, rows, "seed {seed}, query {nth}: {query:?}");
        assert_eq!(page.total, total, "seed {seed}, query {nth}: {query:?}");
    }
}
