//! Listeners, limits of HTTP, draining.

use std::{net::SocketAddr, time::Duration};

use super::{
    Form,
    gunicorn::{Given, Gunicorn},
    listening,
    peers::TrustedPeers,
    source::{Source, Spec},
    values::{ByteSize, ListenAddress, Seconds},
};

const METRICS_PORT: Spec = Spec {
    names: &["METRICS_PORT"],
    about: "The port of /metrics, /live and /ready.",
    allowed: "0 to 65535 (0: any)",
    secret: false,
};
const METRICS_PATH: Spec = Spec {
    names: &["METRICS_PATH"],
    about: "The path of the metrics.",
    allowed: "a path that starts with /",
    secret: false,
};
const MAX_BODY: Spec = Spec {
    names: &["HTTP_MAX_BODY_SIZE"],
    about: "The largest body of a request, except uploads, events and playbooks.",
    allowed: "1B to 100MB, such as 512KB (decimal) or 1MiB",
    secret: false,
};
const MAX_CONTENT_LENGTH: Spec = Spec {
    names: &["MAX_CONTENT_LENGTH_MB"],
    about: "For HTTP_MAX_BODY_SIZE, in MiB; 0: not set.",
    allowed: "0 to 95",
    secret: false,
};
const IDENTITY_FROM: Spec = Spec {
    names: &["IDENTITY_HEADER_FROM"],
    about: "Peers whose x-rh-identity header is believed; from all others it is dropped.",
    allowed: "networks such as 10.0.0.0/8, unix, loopback, separated by commas",
    secret: false,
};
const FORWARDED_FROM: Spec = Spec {
    names: &["FORWARDED_FROM"],
    about: "Proxies whose X-Forwarded-For says where a request comes from (its last address), for \
            the limit on failed attempts. Nobody else's is looked at.",
    allowed: "networks such as 10.0.0.0/8, unix, loopback, separated by commas",
    secret: false,
};
const INDENTED_JSON: Spec = Spec {
    // The second name, with its blank, is the one that DCI's control server looks for.
    names: &["JSONIFY_PRETTYPRINT_REGULAR", "JSONIFY_PRETTYPRINT_REGULAR "],
    about: "Whether JSON answers are indented, for people who read them.",
    allowed: "True; anything else is false",
    secret: false,
};
const AUTH_FAILURES: Spec = Spec {
    names: &["AUTH_FAILURES_PER_MINUTE"],
    about: "Failed attempts to be let in from one address (IPv6: one /64), a minute; beyond that \
            its requests are answered with 429. Set FORWARDED_FROM behind a proxy, or all its \
            clients are one address.",
    allowed: "0 to 100000 (0: no limit)",
    secret: false,
};
const HEADER_TIMEOUT: Spec = Spec {
    names: &["HTTP_HEADER_TIMEOUT"],
    about: "Seconds within which the head of a request must have arrived.",
    allowed: "1 to 3600",
    secret: false,
};
const REQUEST_TIMEOUT: Spec = Spec {
    names: &["HTTP_REQUEST_TIMEOUT"],
    about: "Seconds within which a request must be answered; transfers and streams have longer.",
    allowed: "1 to 3600",
    secret: false,
};
const TRANSFER_TIMEOUT: Spec = Spec {
    names: &["HTTP_TRANSFER_TIMEOUT"],
    about: "Seconds within which an upload or a stored playbook must have been received.",
    allowed: "1 to 86400",
    secret: false,
};
const MAX_HEADERS: Spec = Spec {
    names: &["HTTP_MAX_HEADER_SIZE"],
    about: "The most bytes that the head of a request may take.",
    allowed: "8KiB to 1MiB",
    secret: false,
};
const MAX_CONNECTIONS: Spec = Spec {
    names: &["HTTP_MAX_CONNECTIONS"],
    about: "Connections served at a time; more wait to be accepted.",
    allowed: "1 to 1000000",
    secret: false,
};
const DRAIN_DELAY: Spec = Spec {
    names: &["DRAIN_DELAY"],
    about: "Seconds after SIGTERM in which health fails and requests are still taken.",
    allowed: "0 to 3600",
    secret: false,
};
const GRACEFUL_TIMEOUT: Spec = Spec {
    names: &["GRACEFUL_TIMEOUT"],
    about: "Seconds for requests under way to end, after no more are taken.",
    allowed: "0 to 3600",
    secret: false,
};

/// Everything about HTTP that is not one route's own.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where the service listens.
    pub listen: Vec<ListenAddress>,
    /// Where metrics and probes are.
    pub metrics: SocketAddr,
    /// The path of the metrics.
    pub metrics_path: String,
    /// The largest ordinary body, in bytes.
    pub max_body: usize,
    /// Whose identity header is believed.
    pub identity_from: TrustedPeers,
    /// Whose word on where a request comes from is taken.
    pub forwarded_from: TrustedPeers,
    /// Failed attempts of one source a minute; 0 is no limit.
    pub auth_failures: u32,
    /// Whether JSON is indented, for people.
    pub indented_json: bool,
    /// Whether only requests to loopback host names are answered.
    pub loopback_hosts_only: bool,
    /// For the head of a request.
    pub header_timeout: Duration,
    /// For ordinary requests.
    pub request_timeout: Duration,
    /// For requests that carry files.
    pub transfer_timeout: Duration,
    /// The most bytes of a head.
    pub max_header_size: usize,
    /// The most connections.
    pub max_connections: usize,
    /// Between the signal and the end of accepting.
    pub drain_delay: Duration,
    /// For requests under way.
    pub graceful_timeout: Duration,
}

impl HttpSettings {
    /// Reads them. Standalone listens on loopback at its own address and drains at once.
    pub fn read(
        source: &mut Source,
        form: Form,
        own_listen: Option<SocketAddr>,
        gunicorn: &Gunicorn,
    ) -> Self {
        let standalone = form == Form::Standalone;
        let any = if standalone { [127, 0, 0, 1] } else { [0, 0, 0, 0] };
        let delay = if standalone { 0 } else { 5 };
        let timeout = gunicorn.timeout.as_ref().filter(|timeout| timeout.value > 0);
        let graceful = gunicorn.graceful.as_ref();
        let metrics_port = source.parsed(&METRICS_PORT, if standalone { 0 } else { 9001 });
        Self {
            listen: listening::read(source, own_listen, gunicorn),
            metrics: SocketAddr::from((any, metrics_port)),
            metrics_path: metrics_path(source),
            max_body: max_body(source),
            identity_from: source.parsed(&IDENTITY_FROM, TrustedPeers::default()),
            forwarded_from: source.given_or(
                &FORWARDED_FROM,
                gunicorn.forwarded.as_ref(),
                TrustedPeers::default(),
            ),
            auth_failures: source.within(&AUTH_FAILURES, 60, 0..=100_000),
            indented_json: source.is_true(&INDENTED_JSON),
            loopback_hosts_only: standalone,
            header_timeout: seconds(source, &HEADER_TIMEOUT, 10, 1..=3600),
            request_timeout: given_seconds(source, &REQUEST_TIMEOUT, timeout, 60, 1..=3600),
            transfer_timeout: seconds(source, &TRANSFER_TIMEOUT, 600, 1..=86_400),
            max_header_size: size(source, &MAX_HEADERS, 64 * 1024, 8192..=1 << 20),
            max_connections: max_connections(source, gunicorn),
            drain_delay: seconds(source, &DRAIN_DELAY, delay, 0..=3600),
            graceful_timeout: given_seconds(source, &GRACEFUL_TIMEOUT, graceful, 30, 0..=3600),
        }
    }
}

/// DCI's way of saying the size of a body is in MiB; ours wins.
fn max_body(source: &mut Source) -> usize {
    const MIB: u64 = 1 << 20;
    let mib = source.within(&MAX_CONTENT_LENGTH, 0, 0..=95);
    let default = if mib > 0 { mib * MIB } else { 512_000 };
    size(source, &MAX_BODY, default, 1..=100_000_000)
}

fn max_connections(source: &mut Source, gunicorn: &Gunicorn) -> usize {
    let given = gunicorn.connections.as_ref();
    let most = source.given_within(&MAX_CONNECTIONS, given, 10_000, 1..=1_000_000);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Seconds of our own, or of gunicorn, which knows whole ones only.
fn given_seconds(
    source: &mut Source,
    spec: &Spec,
    given: Option<&Given<u64>>,
    default: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Duration {
    match given.filter(|_| !source.is_set(spec)) {
        Some(_) => Duration::from_secs(source.given_within(spec, given, default, allowed)),
        None => seconds(source, spec, default, allowed),
    }
}

fn metrics_path(source: &mut Source) -> String {
    let path = source.parsed(&METRICS_PATH, "/metrics".to_owned());
    let reserved = ["/", "/live", "/ready"].contains(&path.as_str());
    if !path.starts_with('/') || reserved || path.contains(['{', '}', '*', ':']) {
        source.reject(&METRICS_PATH, &path);
    }
    path
}

fn seconds(
    source: &mut Source,
    spec: &Spec,
    default: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Duration {
    let [least, default, most] = [*allowed.start(), default, *allowed.end()].map(Seconds::whole);
    source.within(spec, default, least..=most).0
}

fn size(
    source: &mut Source,
    spec: &Spec,
    default: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> usize {
    let allowed = ByteSize(*allowed.start())..=ByteSize(*allowed.end());
    usize::try_from(source.within(spec, ByteSize(default), allowed).0).unwrap_or(usize::MAX)
}
