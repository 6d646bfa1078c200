//! The process itself: its threads, when it begins anew, and how its life is watched.

use std::time::Duration;

use super::{
    gunicorn::Gunicorn,
    source::{Source, Spec},
};

const THREADS: Spec = Spec {
    names: &["WORKER_THREADS"],
    about: "Threads that answer requests; 0: one per processor.",
    allowed: "0 to 1024",
    secret: false,
};
const MAX_REQUESTS: Spec = Spec {
    names: &["MAX_REQUESTS"],
    about: "After so many requests, probes not counted, the process drains and ends with success, \
            so that its supervisor starts it anew; instances of one database go one after the \
            other. 0: never.",
    allowed: "0 to 1000000000000",
    secret: false,
};
const JITTER: Spec = Spec {
    names: &["MAX_REQUESTS_JITTER"],
    about: "Up to so many requests more, drawn at the start, so that not all instances begin anew \
            at once.",
    allowed: "0 to 1000000000000",
    secret: false,
};
const WATCHDOG: Spec = Spec {
    names: &["WATCHDOG_TIMEOUT"],
    about: "Seconds of silence after which systemd may replace the process: a sign of life is given \
            three times in that time, and in systemd's own (WatchdogSec) where that is shorter. \
            Only where systemd asks for it; 0: never.",
    allowed: "0 to 3600",
    secret: false,
};

/// The most of either number of requests.
const MOST_REQUESTS: u64 = 1_000_000_000_000;

/// The process itself.
#[derive(Clone, Copy, Debug)]
pub struct ProcessSettings {
    /// Threads that answer requests; `None`: one per processor.
    pub threads: Option<usize>,
    /// After how many requests it begins anew; `None`: never.
    pub max_requests: Option<u64>,
    /// Up to how many more, at random.
    pub max_requests_jitter: u64,
    /// How long silence may last; `None`: no sign of life is given.
    pub watchdog: Option<Duration>,
}

impl ProcessSettings {
    /// Reads them.
    pub fn read(source: &mut Source, gunicorn: &Gunicorn) -> Self {
        let threads = source.given_within(&THREADS, gunicorn.workers.as_ref(), 0, 0..=1024);
        let max = gunicorn.max_requests.as_ref();
        let max_requests = source.given_within(&MAX_REQUESTS, max, 0, 0..=MOST_REQUESTS);
        let jitter = gunicorn.jitter.as_ref();
        let watchdog = source.given_within(&WATCHDOG, gunicorn.timeout.as_ref(), 30, 0..=3600);
        Self {
            threads: usize::try_from(threads).ok().filter(|threads| *threads > 0),
            max_requests: Some(max_requests).filter(|most| *most > 0),
            max_requests_jitter: source.given_within(&JITTER, jitter, 0, 0..=MOST_REQUESTS),
            watchdog: Some(watchdog).filter(|seconds| *seconds > 0).map(Duration::from_secs),
        }
    }
}
