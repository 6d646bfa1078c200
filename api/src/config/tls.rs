//! Outgoing connections: whom to trust beyond the system's own list, and how long to wait.

use std::{path::PathBuf, time::Duration};

use super::{
    source::{Source, Spec},
    values::Seconds,
};

const CA_FILE: Spec = Spec {
    names: &["TLS_CA_FILE"],
    about: "Certificates of authorities that are trusted beside the system's, for every outgoing \
            connection with TLS: Redis, RabbitMQ, S3, the SSO server, services outside, addresses of \
            playbooks (and PostgreSQL, where DB_CA names none).",
    allowed: "an absolute path to a file with PEM certificates",
    secret: false,
};
const CONNECT: Spec = Spec {
    names: &["REQUESTS_TIMEOUT_CONNECT"],
    about: "Seconds that connecting to another HTTP service may take.",
    allowed: "0.1 to 60",
    secret: false,
};
const READ: Spec = Spec {
    names: &["REQUESTS_TIMEOUT_READ"],
    about: "Seconds that another HTTP service may be silent in the middle of a request.",
    allowed: "0.1 to 300",
    secret: false,
};

/// Whom to trust.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Authorities beside those of the system, as PEM.
    pub ca_file: Option<PathBuf>,
}

impl TlsSettings {
    /// Reads them. The file itself is opened by whoever connects.
    pub fn read(source: &mut Source) -> Self {
        Self { ca_file: absolute(source, &CA_FILE) }
    }
}

/// How long other HTTP services may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte.
    pub read: Duration,
}

impl Timeouts {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let seconds = |number: f64| Seconds(Duration::from_secs_f64(number));
        let connect = source.within(&CONNECT, seconds(3.0), seconds(0.1)..=seconds(60.0));
        let read = source.within(&READ, seconds(10.0), seconds(0.1)..=seconds(300.0));
        Self { connect: connect.0, read: read.0 }
    }
}

/// A path that is meant wherever the process was started.
pub(super) fn absolute(source: &mut Source, spec: &Spec) -> Option<PathBuf> {
    let path = source.text(spec)?;
    if !path.starts_with('/') {
        source.reject(spec, &path);
        return None;
    }
    Some(path.into())
}
