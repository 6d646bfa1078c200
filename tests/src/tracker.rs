//! Trackers as child processes, and what instances would see of them: the feed of the tracker's
//! library over the same database, Redis and SSO server.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use auth_tracker::{
    clock::Clock,
    feed::{Feed, Parts},
    last_auth::TimesSink,
    layout::{DIRTY, SNAPSHOT},
    ports::LastAuth,
    redis::AuthRedis,
    snapshot::Snapshot,
    sources::sso::{self, Discovery, Fetcher, Server},
    state::AuthState,
};
use dispatcher_api::{
    auth::principal::Role,
    keyring::Keyring,
    keys::{
        model::{NewServiceKey, ServiceKey},
        source::DatabaseKeys,
    },
    store::Stores,
};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    guarded::{Guarded, directory},
    oidc::{Issuer, REALM},
    ports,
    postgres::Database,
    process::{PATIENCE, SECRET_KEYS, binary},
    redis::PrivateRedis,
};

/// Between two looks at whether something is so.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until something is so; how long that took.
///
/// # Errors
/// When it is not in time.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Result<Duration> {
    let begun = Instant::now();
    while !tokio::time::timeout(PATIENCE, is_so()).await.unwrap_or(false) {
        ensure!(begun.elapsed() < PATIENCE, "it is never so that {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(begun.elapsed())
}

/// What trackers and instances share.
pub struct Shared {
    /// The database.
    pub database: Database,
    /// Its stores.
    pub stores: Stores,
    /// Redis.
    pub redis: PrivateRedis,
    /// Where trackers and instances are told that it is.
    pub redis_url: String,
    /// The SSO server.
    pub issuer: Issuer,
    /// The shared secrets.
    pub keyring: Arc<Keyring>,
}

impl Shared {
    /// All of it, fresh.
    ///
    /// # Errors
    /// When something cannot be started.
    pub async fn start() -> Result<Self> {
        Self::with(Database::migrated().await?, PrivateRedis::start().await?).await
    }

    /// The same over this database and Redis.
    ///
    /// # Errors
    /// When something cannot be started.
    pub async fn with(database: Database, redis: PrivateRedis) -> Result<Self> {
        let stores = database.stores().await?;
        let keyring = Arc::new(Keyring::parse(SECRET_KEYS)?);
        let redis_url = redis.url();
        Ok(Self { database, stores, redis, redis_url, issuer: Issuer::start()?, keyring })
    }

    /// The environment of a tracker.
    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", self.database.url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("DISPATCHER_SECRET_KEYS", SECRET_KEYS.to_owned()),
            ("SSO_URL", self.issuer.url().to_owned()),
            ("SSO_REALM", REALM.to_owned()),
            ("LOG_LEVEL", "debug".to_owned()),
        ]
    }

    /// A tracker with more variables and arguments, not started yet.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn tracker(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Result<Tracker> {
        let mut command = Command::new(binary("auth-tracker")?);
        let port = ports::free()?;
        command.env("TRACKER_METRICS_PORT", port.to_string()).args(arguments);
        command.envs(self.variables()).envs(variables.iter().copied());
        let guarded = Guarded::new(directory("tracker")?, &command, "")?;
        Ok(Tracker { guarded, port })
    }

    /// A running tracker.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn started(&self, arguments: &[&str]) -> Result<Tracker> {
        let tracker = self.tracker(&[], arguments)?;
        tracker.guarded.start()?;
        tracker.until_ready().await?;
        Ok(tracker)
    }

    /// An instance's feed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn instance(&self) -> Result<InstanceFeed> {
        let redis = self.auth_redis()?;
        let clock = Clock::system();
        let realm = Some((self.issuer.url().to_owned(), REALM.to_owned()));
        let client = sso::client(reqwest::Client::builder())?;
        let discovery = Discovery::new(client, Server { realm, issuer: None });
        let fetcher = Fetcher::new(discovery, Duration::from_secs(60), clock.clone());
        let feed = Arc::new(Feed::new(Parts {
            board: Some(Arc::new(redis)),
            database: Arc::new(DatabaseKeys(Arc::clone(&self.stores.keys))),
            sso: Some(Arc::new(fetcher)),
            configured: None,
            settings: Vec::new(),
            seal: self.keyring.clone(),
            max_staleness: Duration::from_secs(900),
            clock,
        }));
        let running = Arc::clone(&feed);
        let task = tokio::spawn(async move { running.run().await });
        Ok(InstanceFeed { feed, task })
    }

    /// Redis as instances use it.
    ///
    /// # Errors
    /// When its address cannot be used.
    pub fn auth_redis(&self) -> Result<AuthRedis> {
        let authorities = self.redis.authority().map(std::fs::read).transpose()?;
        Ok(AuthRedis::at(&self.redis_url, authorities)?)
    }

    /// Makes a key of a service; its id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn make_key(&self) -> Result<String> {
        let id = Uuid::new_v4().simple().to_string();
        let key = ServiceKey {
            id: id.clone(),
            service: id.clone(),
            org_id: None,
            role: Role::Operator,
            created_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
            created_by: "test".to_owned(),
            expires_at: None,
            revoked_at: None,
            revoked_by: None,
        };
        let digest = self.keyring.digests(id.as_bytes()).into_iter().next().context("a digest")?;
        self.stores.keys.make(&NewServiceKey { key, digest }, None, None).await?;
        Ok(id)
    }

    /// Revokes it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_key(&self, id: &str) -> Result<()> {
        let now = OffsetDateTime::now_utc().truncate_to_microsecond();
        self.stores.keys.revoke(id, "test", now, None).await?.context("it is there")?;
        Ok(())
    }

    /// The snapshot in Redis.
    ///
    /// # Errors
    /// When there is none, or it is not genuine.
    pub async fn snapshot(&self) -> Result<(Snapshot, AuthState)> {
        let mut client = self.redis.client().await?;
        let text: Vec<u8> = redis::cmd("GET").arg(SNAPSHOT).query_async(&mut client).await?;
        let snapshot = Snapshot::parse(&text)?;
        let state = snapshot.open(self.keyring.as_ref())?;
        Ok((snapshot, state))
    }

    /// Notes a time as an instance does.
    ///
    /// # Errors
    /// When Redis fails.
    pub async fn authenticated(&self, id: &str, second: i64) -> Result<()> {
        let at = OffsetDateTime::from_unix_timestamp(second)?;
        let time = LastAuth { kind: "user".to_owned(), id: id.to_owned(), at };
        Ok(TimesSink::note(&self.auth_redis()?, &[time]).await?)
    }

    /// The second that is written down for somebody.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn written(&self, id: &str) -> Result<Option<i64>> {
        let times = self.stores.last_auth.last_auth("user", &[id.to_owned()]).await?;
        Ok(times.get(id).map(|at| at.unix_timestamp()))
    }

    /// The names of sets of times that are not written down.
    ///
    /// # Errors
    /// When Redis fails.
    pub async fn unwritten(&self) -> Result<Vec<String>> {
        let mut client = self.redis.client().await?;
        let mut sets: Vec<String> =
            redis::cmd("KEYS").arg("sync_last_auth_keys:*").query_async(&mut client).await?;
        if redis::cmd("EXISTS").arg(DIRTY).query_async::<u8>(&mut client).await? > 0 {
            sets.push(DIRTY.to_owned());
        }
        Ok(sets)
    }
}

/// A tracker as a process. Killed when dropped.
pub struct Tracker {
    /// Its process.
    pub guarded: Guarded,
    port: u16,
}

impl Tracker {
    /// Waits until it says that it is ready: active, or standing by.
    ///
    /// # Errors
    /// When it ends before.
    pub async fn until_ready(&self) -> Result<()> {
        let ready = async || {
            let asked = self.probe("ready").await;
            asked.is_ok_and(|(status, _)| status == 200)
        };
        self.guarded.until("was ready", ready).await
    }

    /// A probe, or the metrics.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn probe(&self, name: &str) -> Result<(u16, String)> {
        let url = format!("http://127.0.0.1:{}/{name}", self.port);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let answer = client.get(url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Whether it is the active one.
    pub async fn is_active(&self) -> bool {
        let metrics = self.probe("metrics").await;
        metrics
            .is_ok_and(|(_, text)| text.lines().any(|line| line == "dispatcher_tracker_active 1"))
    }
}

/// The state as an instance holds it.
pub struct InstanceFeed {
    /// Where it is.
    pub feed: Arc<Feed>,
    task: JoinHandle<()>,
}

impl InstanceFeed {
    /// Whether a key is in force.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.feed.current().state.service_keys.iter().any(|key| key.id == id)
    }

    /// Waits until a key is in force, or is not; how long that took.
    ///
    /// # Errors
    /// When that is not so in time.
    pub async fn until_has(&self, id: &str, has: bool) -> Result<Duration> {
        until("the instance knows of the key", async || self.has(id) == has).await
    }
}

impl Drop for InstanceFeed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
