//! Clients that send GET and POST in turn, on connections that they keep, and count failures: a
//! request without a whole answer, or with an answer that HAProxy made up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::client::{Connection, request};

const CLIENTS: usize = 8;
/// Between two requests of a client, so that connections are idle, too.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct Load {
    clients: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    ends: AtomicBool,
    whole: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    pub(crate) fn on(port: u16) -> Self {
        let counts = Arc::<Counts>::default();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(counts.clone().client(port));
        }
        Self { clients, counts }
    }

    pub(crate) fn whole(&self) -> usize {
        self.counts.whole.load(Ordering::SeqCst)
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn goes_on(&self, more: usize) {
        let wanted = self.whole() + more;
        crate::balancer::until("answered more requests", async || self.whole() >= wanted).await;
    }

    /// Ends it; how many requests were answered, how many failed.
    pub(crate) async fn end(self) -> (usize, usize) {
        let Self { clients, counts } = self;
        counts.ends.store(true, Ordering::SeqCst);
        clients.join_all().await;
        (counts.whole.load(Ordering::SeqCst), counts.failed.load(Ordering::SeqCst))
    }
}

impl Counts {
    async fn client(self: Arc<Self>, port: u16) {
        let mut methods = ["GET", "POST"].into_iter().cycle();
        let mut kept = None;
        while !self.ends.load(Ordering::SeqCst) {
            let text = request(methods.next().unwrap(), "/x", "");
            if kept.is_none() {
                kept = Connection::to(port).await.ok();
            }
            let Some(connection) = &mut kept else {
                self.failed.fetch_add(1, Ordering::SeqCst);
                continue;
            };
            let answer = connection.request(&text).await;
            let is_whole = answer.as_ref().is_some_and(|answer| answer.status == 200);
            let count = if is_whole { &self.whole } else { &self.failed };
            count.fetch_add(1, Ordering::SeqCst);
            let closes = answer.is_none_or(|one| one.header("connection").is_some());
            if closes {
                kept = None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
