//! What becomes of a token whose key nobody knows: whether a key may still come, who is asked for
//! it, and until when it is worth waiting.
//!
//! Requests only wait. Redis is asked by [`Feed::run`], once for however many wait.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Board, Feed, Held, Way};
use crate::{
    sources::sso::{ASKED_PAUSE, Fetcher},
    state::AuthState,
};

/// How long somebody waits for a key that was not there.
pub const REFETCH_WAIT: Duration = Duration::from_secs(3);
/// How many ids of keys that have gone are remembered.
const MOST_GONE: usize = 64;

/// Ids of keys that have gone, the latest last.
pub(super) type Gone = VecDeque<String>;

/// What the tracker was last asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ask {
    /// When, by whichever instance. `None`: never.
    at: Option<Instant>,
    /// When the keys had been fetched that were known then.
    before: Option<OffsetDateTime>,
    /// Whether nothing more comes of it.
    over: bool,
}

impl Ask {
    fn is_recent(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < ASKED_PAUSE)
    }

    /// Until when it may be answered.
    fn until(&self) -> Option<Instant> {
        self.at.filter(|_| !self.over).map(|at| at + REFETCH_WAIT)
    }
}

impl Feed {
    /// The state after the SSO server's keys have been fetched anew, for whoever met a token with
    /// this key id, or with a signature that fits no key (`None`). Fetches at most once per
    /// [`ASKED_PAUSE`], for all instances together where they share a tracker; waits for at most
    /// [`REFETCH_WAIT`], and not at all where nothing new can come: the key is known, or was known
    /// and has gone, or somebody asked a moment ago and has been answered.
    pub async fn request_refetch(&self, kid: Option<&str>) -> Arc<Held> {
        if let Some(fetcher) = self.sso.as_ref().filter(|_| self.may_come(kid)) {
            if self.board.is_some() && self.way() == Way::Shared {
                self.ask_tracker().await;
            } else {
                // Whatever has come until then has to do.
                let _ = tokio::time::timeout(REFETCH_WAIT, self.ask_server(fetcher)).await;
            }
        }
        self.current()
    }

    fn may_come(&self, kid: Option<&str>) -> bool {
        let Some(kid) = kid else { return true };
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        !gone.iter().any(|known| known == kid) && !self.held.borrow().state.knows(kid)
    }

    /// Remembers the keys that a new state has no more. What comes back is found there.
    pub(super) fn remember_gone(&self, before: &AuthState, now: &AuthState) {
        let kids = before.sso_keys.iter().filter_map(|key| key.kid.clone());
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|kid| !now.knows(kid));
        gone.extend(kids.filter(|kid| !now.knows(kid)));
        let many = gone.len().saturating_sub(MOST_GONE);
        gone.drain(..many);
    }

    async fn ask_server(&self, fetcher: &Fetcher) {
        let mut heard = self.heard.subscribe();
        let Some(at) = fetcher.ask().await.latest.and_then(|latest| latest.at) else { return };
        // The loop takes it over.
        let _ = heard.wait_for(|heard| heard.sso_at >= Some(at)).await;
    }

    /// Waits for the answer to what is asked now, or was asked a moment ago.
    async fn ask_tracker(&self) {
        let mut heard = self.heard.subscribe();
        let before = heard.borrow_and_update().sso_at;
        let begun = self.asked.send_if_modified(|ask| {
            let due = !ask.is_recent();
            if due {
                *ask = Ask { at: Some(Instant::now()), before, over: false };
            }
            due
        });
        if begun {
            self.wanted.notify_one();
        }
        let mut asked = self.asked.subscribe();
        loop {
            let ask = *asked.borrow_and_update();
            let Some(until) = ask.until().filter(|until| *until > Instant::now()) else { return };
            if heard.borrow_and_update().sso_at != ask.before {
                return;
            }
            tokio::select! {
                _ = heard.changed() => {}
                _ = asked.changed() => {}
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// Asks the tracker whenever somebody waits for that, until it is dropped.
    pub(super) async fn keep_asking(&self, board: &dyn Board) {
        loop {
            self.wanted.notified().await;
            match board.want_keys().await {
                Ok(ago) => self.was_asked(ago),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "the tracker could not be asked for keys of the SSO server"
                    );
                    self.asked.send_modify(|ask| ask.over = true);
                }
            }
        }
    }

    /// Another instance may have asked before this one, and may have been answered already.
    fn was_asked(&self, ago: Duration) {
        if ago.is_zero() {
            return;
        }
        let known = self.heard.borrow().sso_at;
        let answered = known.is_some_and(|at| at >= self.clock.now() - ago);
        self.asked.send_modify(|ask| {
            ask.at = Instant::now().checked_sub(ago).or(ask.at);
            ask.over |= answered;
        });
    }

    /// Tells the tracker of changed keys, until it is dropped. A hint may get lost.
    pub(super) async fn keep_telling(&self, board: &dyn Board) {
        loop {
            self.told.notified().await;
            if let Err(error) = board.want_look().await {
                tracing::debug!(%error, "the tracker could not be told of a changed key");
            }
        }
    }
}
