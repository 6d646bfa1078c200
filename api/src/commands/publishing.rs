//! Wires the publisher of events: which broker it is.

use std::sync::Arc;

use secrecy::ExposeSecret as _;

use crate::{
    app::App,
    bus::amqp::AmqpBroker,
    events::publisher::{Parts, Publisher},
    tls,
};

/// What operators call this process: its host and its id.
pub(super) fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}

/// The publisher; `None` where no broker is named.
///
/// # Errors
/// When the broker's address cannot be understood, or `TLS_CA_FILE` cannot be read.
pub(super) fn publisher(app: &App) -> anyhow::Result<Option<Publisher>> {
    let settings = app.settings.events.clone();
    let Some(url) = &settings.amqp_url else { return Ok(None) };
    let (name, tls) = (process_name(), tls::client_config(&app.settings.tls)?);
    let timeout = settings.confirm_timeout;
    let broker = AmqpBroker::at(url.expose_secret(), &name, timeout, Arc::new(tls))?;
    tracing::info!(?broker, "events are published");
    Ok(Some(Publisher::new(Parts {
        events: app.stores.events.clone(),
        leases: app.stores.leases.clone(),
        broker: Arc::new(broker),
        wakeups: app.wakeups.clone(),
        settings,
        name,
    })))
}
