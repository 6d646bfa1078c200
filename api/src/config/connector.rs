//! The way to foreign hosts: off unless asked for.

use super::source::{Source, Spec};

const IMPL: Spec = Spec {
    names: &["CLOUD_CONNECTOR_IMPL"],
    about: "How foreign hosts and Satellites are reached; unset: not at all.",
    allowed: "mock (accepts and delivers nothing, for trials)",
    secret: false,
};
const RPS: Spec = Spec {
    names: &["CLOUD_CONNECTOR_RPS"],
    about: "The most messages a second to Cloud Connector, on average.",
    allowed: "1 to 100000",
    secret: false,
};
const BUCKET: Spec = Spec {
    names: &["CLOUD_CONNECTOR_REQ_BUCKET"],
    about: "The most messages to Cloud Connector at once.",
    allowed: "1 to 100000",
    secret: false,
};

/// How foreign hosts are reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectorImpl {
    /// Not at all.
    Off,
    /// By the mock, which delivers nothing.
    Mock,
}

/// The way to foreign hosts.
#[derive(Clone, Copy, Debug)]
pub struct ConnectorSettings {
    /// How they are reached.
    pub implementation: ConnectorImpl,
    /// Messages a second.
    pub per_second: u32,
    /// Messages at once.
    pub burst: u32,
}

impl ConnectorSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let implementation = match source.text(&IMPL).as_deref() {
            Some("mock") => ConnectorImpl::Mock,
            Some("impl") => {
                source.error(
                    "CLOUD_CONNECTOR_IMPL=impl is not available in this version; \
                     leave it unset, or set it to mock for trials",
                );
                ConnectorImpl::Off
            }
            Some(other) => {
                source.reject(&IMPL, other);
                ConnectorImpl::Off
            }
            None => ConnectorImpl::Off,
        };
        Self {
            implementation,
            per_second: source.within(&RPS, 100, 1..=100_000),
            burst: source.within(&BUCKET, 60, 1..=100_000),
        }
    }
}
