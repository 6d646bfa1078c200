//! Feeds with stubs around them, on a clock that tests turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use jsonwebtoken::Algorithm;
use tokio::time::Instant;

use super::*;
use crate::{snapshot::Snapshot, state::PublicKey};

const STALENESS: Duration = Duration::from_secs(900);

/// A seal that anybody could break, and these tests do only on purpose.
struct Sum;
impl Seal for Sum {
    fn tag(&self, message: &[u8]) -> String {
        format!("{}", message.iter().map(|byte| u64::from(*byte)).sum::<u64>())
    }
    fn check(&self, message: &[u8], tag: &str) -> bool {
        self.tag(message) == tag
    }
}

#[derive(Default)]
pub(super) struct World {
    down: bool,
    version: Option<String>,
    snapshot: Option<Vec<u8>>,
    database_down: bool,
    auth_version: u64,
    keys: Vec<ServiceKey>,
    /// How long ago somebody else asked for keys.
    pub(super) asked_ago: Duration,
    /// Redis takes what it is told, and says nothing.
    silent: bool,
}

/// Redis and the database at once.
#[derive(Default)]
pub(super) struct Stub {
    world: Mutex<World>,
    pub(super) wanted: AtomicUsize,
    looks: AtomicUsize,
}

impl Stub {
    pub(super) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn board<T>(&self, read: impl FnOnce(&World) -> T) -> Result<T, PortError> {
        let world = self.world();
        if world.down { Err(PortError("Redis is down".to_owned())) } else { Ok(read(&world)) }
    }

    fn database<T>(&self, read: impl FnOnce(&World) -> T) -> Result<T, PortError> {
        let world = self.world();
        let down = PortError("the database is down".to_owned());
        if world.database_down { Err(down) } else { Ok(read(&world)) }
    }
}

#[async_trait]
impl Board for Stub {
    async fn version(&self) -> Result<Option<String>, PortError> {
        self.board(|world| world.version.clone())
    }
    async fn snapshot(&self) -> Result<Option<Vec<u8>>, PortError> {
        self.board(|world| world.snapshot.clone())
    }
    async fn want_keys(&self) -> Result<Duration, PortError> {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        self.board(|world| world.asked_ago)
    }
    async fn want_look(&self) -> Result<(), PortError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let silent = self.world().silent;
        if silent { std::future::pending().await } else { self.board(|_| ()) }
    }
    async fn hear(&self, _: &Notify) {}
}

#[async_trait]
impl KeySource for Stub {
    async fn version(&self) -> Result<u64, PortError> {
        self.database(|world| world.auth_version)
    }
    async fn keys(&self, _: OffsetDateTime) -> Result<(u64, Vec<ServiceKey>), PortError> {
        self.database(|world| (world.auth_version, world.keys.clone()))
    }
}

pub(super) struct Instance {
    pub(super) feed: Arc<Feed>,
    pub(super) stub: Arc<Stub>,
    pub(super) clock: Clock,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn key(id: &str) -> ServiceKey {
    ServiceKey {
        id: id.to_owned(),
        service: id.to_owned(),
        org_id: None,
        role: "operator".to_owned(),
        digest: id.to_owned(),
        expires_at: None,
    }
}

pub(super) fn sso_key(kid: &str) -> SsoKey {
    let public = PublicKey::Ed { x: "AAAA".to_owned() };
    SsoKey { kid: Some(kid.to_owned()), algorithm: Algorithm::EdDSA, public }
}

fn turning_clock() -> Clock {
    let (begun, start) = (Instant::now(), OffsetDateTime::UNIX_EPOCH + time::Duration::days(1));
    Clock::of(move || start + begun.elapsed())
}

impl Instance {
    pub(super) async fn with(prepare: impl FnOnce(&Stub, &Clock)) -> Self {
        let (stub, clock) = (Arc::new(Stub::default()), turning_clock());
        stub.world().auth_version = 1;
        prepare(&stub, &clock);
        let realm = Some(("http://127.0.0.1:1".to_owned(), "r".to_owned()));
        let server = crate::sources::sso::Server { realm, issuer: None };
        let discovery = crate::sources::sso::Discovery::new(reqwest::Client::new(), server);
        let fetcher = Fetcher::new(discovery, Duration::from_secs(60), clock.clone());
        let feed = Arc::new(Feed::new(Parts {
            board: Some(stub.clone()),
            database: stub.clone(),
            sso: Some(Arc::new(fetcher)),
            configured: None,
            settings: vec![key("env:own")],
            seal: Arc::new(Sum),
            max_staleness: STALENESS,
            clock: clock.clone(),
        }));
        let running = Arc::clone(&feed);
        let task = tokio::spawn(async move { running.run().await });
        let instance = Self { feed, stub, clock, task };
        instance.pass(1).await;
        instance
    }

    pub(super) async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// The ids of the keys in force.
    fn keys(&self) -> Vec<String> {
        self.feed.current().state.service_keys.iter().map(|key| key.id.clone()).collect()
    }

    pub(super) fn publish(&self, version: u64, state: &AuthState) {
        publish(&self.stub, &self.clock, version, state);
    }

    /// Publishes every few seconds, as the tracker does.
    pub(super) async fn keep_publishing(
        &self,
        mut version: u64,
        state: &AuthState,
        seconds: u64,
    ) -> u64 {
        for _ in 0..seconds.div_ceil(5) {
            self.publish(version, state);
            version += 1;
            self.pass(5).await;
        }
        version
    }
}

pub(super) fn publish(stub: &Stub, clock: &Clock, version: u64, state: &AuthState) {
    let snapshot = Snapshot::seal(state, version, clock.now(), &Sum).unwrap();
    let mut world = stub.world();
    world.version = Some(version.to_string());
    world.snapshot = Some(snapshot.text().unwrap().into_bytes());
}

pub(super) fn state(auth_version: u64, keys: &[&str]) -> AuthState {
    let service_keys = keys.iter().map(|id| key(id)).collect();
    AuthState { auth_version, service_keys, ..AuthState::default() }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_snapshot_counts_and_news_are_there_within_a_second() {
    let instance = Instance::with(|stub, clock| publish(stub, clock, 5, &state(1, &["a"]))).await;
    assert_eq!(instance.feed.way(), Way::Shared);
    assert_eq!(instance.keys(), ["a", "env:own"]);
    let generation = instance.feed.current().generation;
    instance.publish(6, &state(2, &[]));
    instance.pass(1).await;
    assert_eq!(instance.keys(), ["env:own"]);
    assert_eq!(instance.feed.current().generation, generation + 1);
    instance.publish(7, &state(2, &[]));
    instance.pass(1).await;
    assert_eq!(instance.feed.current().generation, generation + 1, "a re-issue is no change");
}

#[tokio::test(start_paused = true)]
async fn what_is_forged_old_or_gone_changes_nothing() {
    let genuine = state(3, &["a"]);
    let instance = Instance::with(|stub, clock| {
        stub.world().auth_version = 3;
        publish(stub, clock, 10, &state(3, &["a"]));
    })
    .await;
    let now = instance.clock.now();
    let forged = Snapshot { mac: "1".to_owned(), ..sealed(&state(9, &["evil"]), 11, now) };
    let old = sealed(&state(3, &["revoked"]), 9, now);
    let behind = sealed(&state(2, &["revoked"]), 12, now);
    let late = sealed(&state(3, &["revoked"]), 12, now - time::Duration::seconds(16));
    let early = sealed(&state(3, &["revoked"]), 12, now + time::Duration::seconds(30));
    for snapshot in [forged, old, behind, late, early] {
        {
            let mut world = instance.stub.world();
            world.version = Some(snapshot.version.to_string());
            world.snapshot = Some(snapshot.text().unwrap().into_bytes());
        }
        instance.pass(1).await;
        assert_eq!(instance.keys(), ["a", "env:own"], "{snapshot:?}");
        assert_eq!(instance.feed.way(), Way::Shared, "the one before is still fresh");
    }
    for (version, text) in [(None, None), (Some("zzz"), Some("{}")), (Some("10"), Some("x"))] {
        {
            let mut world = instance.stub.world();
            world.version = version.map(str::to_owned);
            world.snapshot = text.map(|text: &str| text.as_bytes().to_vec());
        }
        instance.pass(1).await;
        assert_eq!(instance.keys(), ["a", "env:own"]);
    }
    instance.publish(13, &genuine);
    instance.pass(1).await;
    assert_eq!(instance.feed.way(), Way::Shared);
}

fn sealed(state: &AuthState, version: u64, at: OffsetDateTime) -> Snapshot {
    Snapshot::seal(state, version, at, &Sum).unwrap()
}

#[tokio::test(start_paused = true)]
async fn at_the_start_the_database_is_asked_too() {
    let replayed = |stub: &Stub, clock: &Clock| {
        let mut world = stub.world();
        world.auth_version = 7;
        world.keys = vec![key("live")];
        drop(world);
        publish(stub, clock, 99, &state(6, &["revoked"]));
    };
    let instance = Instance::with(replayed).await;
    assert_eq!(instance.feed.way(), Way::Direct);
    assert_eq!(instance.keys(), ["live", "env:own"]);
    let nobody_to_ask = |stub: &Stub, clock: &Clock| {
        stub.world().database_down = true;
        publish(stub, clock, 99, &state(6, &["revoked"]));
    };
    let instance = Instance::with(nobody_to_ask).await;
    assert_eq!(instance.keys(), ["env:own"]);
    assert!(instance.feed.is_stale(Part::Keys));
    instance.stub.world().database_down = false;
    instance.pass(1).await;
    assert_eq!(instance.keys(), ["revoked", "env:own"], "the database agrees with it");
}

#[tokio::test(start_paused = true)]
async fn without_redis_or_tracker_the_sources_are_asked_until_it_is_back() {
    let instance = Instance::with(|stub, clock| publish(stub, clock, 5, &state(1, &["a"]))).await;
    instance.stub.world().down = true;
    instance.pass(10).await;
    assert_eq!(instance.feed.way(), Way::Shared);
    instance.pass(6).await;
    assert_eq!(instance.feed.way(), Way::Direct);
    {
        let mut world = instance.stub.world();
        (world.auth_version, world.keys) = (2, vec![key("b")]);
    }
    instance.pass(1).await;
    assert_eq!(instance.keys(), ["b", "env:own"]);
    // A tracker that has not seen that yet is not believed.
    instance.stub.world().down = false;
    instance.publish(6, &state(1, &["a"]));
    instance.pass(1).await;
    assert_eq!((instance.feed.way(), instance.keys()[0].as_str()), (Way::Direct, "b"));
    instance.publish(7, &state(2, &["b"]));
    instance.pass(1).await;
    assert_eq!((instance.feed.way(), instance.keys()[0].as_str()), (Way::Shared, "b"));
}

#[tokio::test(start_paused = true)]
async fn keys_stay_while_nobody_can_be_asked_and_are_stale_in_the_end() {
    let instance = Instance::with(|stub, _| stub.world().keys = vec![key("a")]).await;
    assert_eq!((instance.feed.way(), instance.feed.is_stale(Part::Keys)), (Way::Direct, false));
    {
        let mut world = instance.stub.world();
        (world.down, world.database_down) = (true, true);
    }
    instance.pass(895).await;
    assert!(!instance.feed.is_stale(Part::Keys));
    instance.pass(10).await;
    assert!(instance.feed.is_stale(Part::Keys));
    assert_eq!(instance.keys(), ["a", "env:own"]);
    instance.stub.world().database_down = false;
    instance.pass(1).await;
    assert!(!instance.feed.is_stale(Part::Keys));
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_when_it_expires_and_settings_yield_to_the_database() {
    let instance = Instance::with(|stub, clock| {
        let expiring = ServiceKey {
            expires_at: Some(clock.now() + time::Duration::seconds(5)),
            ..key("expiring")
        };
        let same = ServiceKey { digest: "env:own".to_owned(), ..key("same") };
        stub.world().keys = vec![expiring, same];
    })
    .await;
    assert_eq!(instance.keys(), ["expiring", "same"]);
    instance.pass(6).await;
    assert_eq!(instance.keys(), ["same"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_key_waits_for_nobody() {
    let instance = Instance::with(|stub, clock| publish(stub, clock, 5, &state(1, &["a"]))).await;
    instance.stub.world().silent = true;
    instance.stub.world().down = true;
    instance.feed.keys_changed();
    instance.pass(1).await;
    assert_eq!(instance.stub.looks.load(Ordering::Relaxed), 1);
    assert_eq!(instance.keys(), ["a", "env:own"], "looks go on while Redis says nothing");
}
