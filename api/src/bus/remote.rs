//! Wake-ups to and from other instances: one task that tells, at a bounded pace, and one that hears.
//!
//! Whether anything is heard is proven by hearing oneself: a pooler between may take a LISTEN and
//! never deliver. While nothing is heard, everybody here finds what is new by polling.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Wakeups,
    message::{self, News},
    outgoing::Outgoing,
    pace::Pace,
};
use crate::store::{
    StoreResult,
    wakeups::{Ear, WakeupStore},
};

/// The most messages of one instance: one in this time.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// How often "anything may have changed" is heeded: everybody who waits looks at once.
const EVERYTHING_EVERY: Duration = Duration::from_millis(500);
/// Without any message for this long, one's own is sent, to hear whether the way is there.
const SILENCE: Duration = Duration::from_secs(30);
/// Within which one's own message must have come back.
const ECHO_WITHIN: Duration = Duration::from_secs(5);
/// The pauses before listening anew: from, to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The names of the metrics.
const SENT: &str = "dispatcher_wakeups_sent_total";
const COALESCED: &str = "dispatcher_wakeups_coalesced_total";
const FAILED: &str = "dispatcher_wakeups_failed_total";
const RECEIVED: &str = "dispatcher_wakeups_received_total";
const LISTENING: &str = "dispatcher_wakeups_listening";

/// The way to the other instances over one database.
pub struct Remote {
    wakeups: Wakeups,
    store: Arc<dyn WakeupStore>,
    outgoing: Arc<Outgoing>,
    own: Uuid,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Remote {
    /// From now on keeps what is woken here for the others; [`Self::run`] tells them.
    #[must_use]
    pub fn join(wakeups: &Wakeups, store: Arc<dyn WakeupStore>) -> Self {
        let outgoing = Arc::clone(wakeups.0.outgoing.get_or_init(Arc::default));
        wakeups.0.is_deaf.store(true, Ordering::Relaxed);
        Self { wakeups: wakeups.clone(), store, outgoing, own: Uuid::new_v4() }
    }

    /// Tells and hears until the process ends.
    pub async fn run(self, shutdown: CancellationToken) {
        describe();
        let both = async { tokio::join!(self.tell(), self.hear()) };
        let _ = shutdown.run_until_cancelled(both).await;
    }

    async fn tell(&self) {
        let mut pace = Pace::new(TELL_EVERY, 1);
        let mut failing = false;
        loop {
            self.outgoing.something().await;
            tokio::time::sleep(pace.wait(Instant::now())).await;
            let (news, wakes) = self.outgoing.take();
            pace.done(Instant::now());
            metrics::counter!(COALESCED).increment(wakes.saturating_sub(1));
            let sent = self.store.notify(&message::encode(self.own, &news)).await;
            metrics::counter!(if sent.is_ok() { SENT } else { FAILED }).increment(1);
            if let (Err(error), false) = (&sent, failing) {
                tracing::warn!(%error, "other instances are not woken; they poll");
            }
            failing = sent.is_err();
        }
    }

    async fn hear(&self) {
        let (mut pause, mut told) = (PAUSES.0, false);
        loop {
            let why = match self.store.listen().await {
                Ok(ear) => self.hear_with(ear).await,
                Err(error) => error.to_string(),
            };
            let heard = !self.wakeups.0.is_deaf.swap(true, Ordering::Relaxed);
            metrics::gauge!(LISTENING).set(0.0);
            (pause, told) = if heard { (PAUSES.0, false) } else { (pause, told) };
            if !told {
                tracing::warn!(why, "wake-ups of other instances do not arrive; this one polls");
            }
            tokio::time::sleep(spread(pause)).await;
            (pause, told) = ((pause * 2).min(PAUSES.1), true);
        }
    }

    /// Hears until nothing is heard any more; why.
    async fn hear_with(&self, mut ear: Box<dyn Ear>) -> String {
        let mut everything = Pace::new(EVERYTHING_EVERY, 1);
        let mut awaiting_own = self.say_hello().await.is_ok();
        loop {
            let patience = if awaiting_own { ECHO_WITHIN } else { SILENCE };
            match tokio::time::timeout(patience, ear.next()).await {
                Ok(Ok(text)) => {
                    awaiting_own = false;
                    self.note_heard();
                    self.heed(&text, &mut everything);
                }
                Ok(Err(error)) => return error.to_string(),
                Err(_) if awaiting_own => {
                    return "not even its own arrive; LISTEN does not work through a pooler that \
                            shares connections between transactions"
                        .to_owned();
                }
                Err(_) => awaiting_own = self.say_hello().await.is_ok(),
            }
        }
    }

    /// Says nothing, to hear it.
    async fn say_hello(&self) -> StoreResult<()> {
        let hello = message::encode(self.own, &News::Of([].into()));
        self.store.notify(&hello).await
    }

    fn note_heard(&self) {
        if self.wakeups.0.is_deaf.swap(false, Ordering::Relaxed) {
            metrics::gauge!(LISTENING).set(1.0);
            tracing::info!("wake-ups of other instances arrive");
            // What was said in the meantime is not known.
            self.wakeups.hear(News::Everything);
        }
    }

    fn heed(&self, text: &str, everything: &mut Pace) {
        let Some((from, news)) = message::decode(text) else {
            tracing::debug!("a wake-up of another version was not understood");
            return;
        };
        if from == self.own {
            return;
        }
        metrics::counter!(RECEIVED).increment(1);
        let now = Instant::now();
        if news == News::Everything {
            if !everything.wait(now).is_zero() {
                return;
            }
            everything.done(now);
        }
        self.wakeups.hear(news);
    }
}

/// A pause that differs between instances.
fn spread(pause: Duration) -> Duration {
    let random = Uuid::new_v4().as_bytes().first().copied().unwrap_or_default();
    pause.mul_f64(0.75 + f64::from(random) / 512.0)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!(SENT, "Messages with wake-ups sent to other instances.");
    describe_counter!(COALESCED, "Wake-ups that went along with another in one message.");
    describe_counter!(FAILED, "Messages with wake-ups that could not be sent.");
    describe_counter!(RECEIVED, "Messages with wake-ups of other instances.");
    describe_gauge!(
        LISTENING,
        "1 while wake-ups of other instances arrive, 0 while it only polls."
    );
    metrics::gauge!(LISTENING).set(0.0);
}
