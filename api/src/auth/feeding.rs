//! How the auth state gets into an instance (decision 12): what its feed is made of, and the loops
//! that go with it.

use std::{sync::Arc, time::Duration};

use auth_tracker::{
    clock::Clock,
    feed::{self, Board, Feed},
    last_auth::{Rule, TimesSink, Ways},
    ports::{LastAuthSink, Seal},
    redis::AuthRedis,
    state::ServiceKey,
};

use super::sources::{self, Sources};
use crate::{
    app::App, config::Settings, keyring::Keyring, keys::source::DatabaseKeys, store::Stores,
};

/// How long the start waits for the database's keys.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// The feed of an instance with these settings; `own` are the keys that they name.
///
/// # Errors
/// When something that settings say of the SSO server or Redis cannot be used.
pub fn feed(
    settings: &Settings,
    own: Vec<ServiceKey>,
    keyring: &Arc<Keyring>,
    stores: &Stores,
) -> anyhow::Result<Feed> {
    let clock = Clock::system();
    let sources = Sources::of(settings.auth.sso.as_ref(), &settings.tls, &clock)?;
    let board = sources::redis(&settings.auth, &settings.tls)?;
    Ok(Feed::new(feed::Parts {
        board: board.map(|redis| Arc::new(redis) as Arc<dyn Board>),
        database: Arc::new(DatabaseKeys(Arc::clone(&stores.keys))),
        sso: sources.fetcher,
        configured: sources.configured,
        settings: own,
        seal: Arc::clone(keyring) as Arc<dyn Seal>,
        max_staleness: settings.auth.max_staleness,
        clock,
    }))
}

/// Keeps what is in force current until the process ends. Returns once the database has said which
/// keys there are, or after a while: from then on requests can be answered, if only by what the
/// settings say.
pub async fn start(app: &App) {
    let feed = Arc::clone(app.auth.feed());
    let keeping = app.shutdown.clone();
    tokio::spawn(keeping.run_until_cancelled_owned(async move { feed.run().await }));
    let (mut states, heartbeat) = (app.auth.feed().subscribe(), app.heartbeat.clone());
    tokio::spawn(app.shutdown.clone().run_until_cancelled_owned(async move {
        loop {
            heartbeat.auth_version(states.borrow_and_update().state.auth_version);
            if states.changed().await.is_err() {
                return;
            }
        }
    }));
    if tokio::time::timeout(FIRST_WORD, app.auth.feed().heard_of_keys()).await.is_err() {
        tracing::warn!("the database has not said which keys there are; going on without them");
    }
}

/// Where times of last authentication go.
///
/// # Errors
/// When what settings say of Redis cannot be used.
pub fn last_auth_ways(app: &App) -> anyhow::Result<Ways> {
    let auth = &app.settings.auth;
    let redis: Option<AuthRedis> = sources::redis(auth, &app.settings.tls)?;
    Ok(Ways {
        redis: redis.map(|redis| Arc::new(redis) as Arc<dyn TimesSink>),
        database: Arc::clone(&app.stores.last_auth) as Arc<dyn LastAuthSink>,
        rule: Rule { interval: auth.last_auth.interval, threshold: auth.last_auth.threshold },
    })
}
