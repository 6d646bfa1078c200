//! The snapshot in Redis: published with its version at once, never over a newer one; and the hints
//! that go with it.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{AuthRedis, TIMEOUT};
use crate::{
    feed::Board,
    layout::{CHANGED, DIRTY, REFETCH, SNAPSHOT, VERSION, WANTED},
    ports::PortError,
    snapshot::{MOST_BYTES, Snapshot},
    sources::sso::ASKED_PAUSE,
};

/// Puts a snapshot in place with its version and announces it, unless what is there has the same
/// version or a newer one that was not overruled: then that version comes back. Versions are
/// compared as decimal text, since Lua's numbers are not exact enough. Something of another type is
/// nothing.
const PUBLISH: &str = "
    local held = redis.pcall('GET', KEYS[1])
    if type(held) == 'string' and held ~= ARGV[3] then
        if #held > #ARGV[1] or (#held == #ARGV[1] and held >= ARGV[1]) then return held end
    end
    redis.call('SET', KEYS[1], ARGV[1])
    redis.call('SET', KEYS[2], ARGV[2])
    redis.call('PUBLISH', ARGV[4], ARGV[1])
    return false";

/// How long a request for keys stands. A tracker counts [`ASKED_PAUSE`] from when it heard of the
/// request, at most a look later, and the next request must not come before it would be heeded.
const ASK_LASTS: Duration = ASKED_PAUSE.saturating_add(Duration::from_millis(600));
/// What was not asked now was asked so long ago at least.
const LEAST_AGO: Duration = Duration::from_millis(1);
/// The longest version that is read: a `u64` has 20 digits.
const LONGEST_VERSION: isize = 40;
/// Between two tries to hear hints.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);
/// After so long a silence, the connection is tried.
const SILENCE: Duration = Duration::from_secs(15);

/// What came of publishing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Published {
    /// It is in place.
    Done,
    /// This version is there, and is not older.
    Newer(String),
}

/// What the tracker is asked for, at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wants {
    /// A request for the SSO server's keys: another one is another text.
    pub refetch: Option<String>,
    /// What stands where the version belongs.
    pub version: Option<String>,
    /// How many last-authentication times are not written down.
    pub dirty: usize,
}

impl AuthRedis {
    /// Publishes a snapshot. `overruled` is a version that is there and does not count.
    ///
    /// # Errors
    /// When Redis fails; it may be in place all the same.
    pub async fn publish(
        &self,
        snapshot: &Snapshot,
        overruled: Option<&str>,
    ) -> Result<Published, PortError> {
        let text = snapshot.text().map_err(|error| PortError(error.to_string()))?;
        let mut command = redis::cmd("EVAL");
        command.arg(PUBLISH).arg(2).arg(VERSION).arg(SNAPSHOT);
        command.arg(snapshot.version.to_string()).arg(text);
        command.arg(overruled.unwrap_or_default()).arg(CHANGED);
        let held: Option<String> = self.ask(&command).await?;
        Ok(held.map_or(Published::Done, Published::Newer))
    }

    /// What the tracker is asked for.
    ///
    /// # Errors
    /// When Redis fails.
    pub async fn wants(&self) -> Result<Wants, PortError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GETRANGE").arg(REFETCH).arg(0).arg(LONGEST_VERSION);
        pipeline.cmd("GETRANGE").arg(VERSION).arg(0).arg(LONGEST_VERSION);
        pipeline.cmd("SCARD").arg(DIRTY);
        let (refetch, version, dirty): (String, String, usize) = self.ask_all(&pipeline).await?;
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Wants { refetch: some(refetch), version: some(version), dirty })
    }

    /// Passes hints on a channel on, until it is dropped. A hint may get lost.
    pub async fn listen(&self, channel: &str, hints: &Notify) {
        loop {
            if let Err(error) = self.hear_from(channel, hints).await {
                tracing::debug!(%error, channel, "hints are not heard");
            }
            tokio::time::sleep(LISTEN_PAUSE).await;
        }
    }

    async fn hear_from(&self, channel: &str, hints: &Notify) -> Result<(), PortError> {
        let late = |_| PortError("it did not answer in time".to_owned());
        let failed = |error: redis::RedisError| PortError(super::plain(&error));
        let subscribing = async {
            let mut subscription = self.servers.client().await.get_async_pubsub().await?;
            subscription.subscribe(channel).await?;
            Ok(subscription)
        };
        let subscription = tokio::time::timeout(TIMEOUT, subscribing).await.map_err(late)?;
        let (mut asking, mut messages) = subscription.map_err(failed)?.split();
        // What was said before may have been missed.
        hints.notify_one();
        loop {
            match tokio::time::timeout(SILENCE, messages.next()).await {
                Ok(Some(_)) => hints.notify_one(),
                Ok(None) => return Err(PortError("the connection ended".to_owned())),
                Err(_) => {
                    let asked = tokio::time::timeout(TIMEOUT, asking.ping::<redis::Value>());
                    asked.await.map_err(late)?.map_err(failed)?;
                }
            }
        }
    }

    async fn start_of(&self, key: &str, bytes: isize) -> Result<Option<Vec<u8>>, PortError> {
        let mut command = redis::cmd("GETRANGE");
        command.arg(key).arg(0).arg(bytes - 1);
        let text: Vec<u8> = self.ask(&command).await?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

#[async_trait]
impl Board for AuthRedis {
    async fn version(&self) -> Result<Option<String>, PortError> {
        let text = self.start_of(VERSION, LONGEST_VERSION).await?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    async fn snapshot(&self) -> Result<Option<Vec<u8>>, PortError> {
        let most = isize::try_from(MOST_BYTES + 1).unwrap_or(isize::MAX);
        self.start_of(SNAPSHOT, most).await
    }

    async fn want_keys(&self) -> Result<Duration, PortError> {
        let lasts = u64::try_from(ASK_LASTS.as_millis()).unwrap_or(u64::MAX);
        let mut pipeline = redis::pipe();
        let set = pipeline.cmd("SET").arg(REFETCH).arg(Uuid::new_v4().to_string());
        set.arg("NX").arg("PX").arg(lasts);
        pipeline.cmd("PTTL").arg(REFETCH);
        let (first, left): (Option<String>, i64) = self.ask_all(&pipeline).await?;
        if first.is_some() {
            self.want_look().await?;
            return Ok(Duration::ZERO);
        }
        match u64::try_from(left) {
            Ok(left) if left <= lasts => {
                Ok(ASK_LASTS.saturating_sub(Duration::from_millis(left)).max(LEAST_AGO))
            }
            // Nobody of ours put that there: it would stand in the way for good.
            _ => {
                self.ask::<i64>(redis::cmd("PEXPIRE").arg(REFETCH).arg(lasts)).await?;
                Ok(ASK_LASTS)
            }
        }
    }

    async fn want_look(&self) -> Result<(), PortError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(WANTED).arg("");
        self.ask::<u64>(&command).await.map(drop)
    }

    async fn hear(&self, hints: &Notify) {
        self.listen(CHANGED, hints).await;
    }
}
