//! `serve`: one instance of the service. Everything it shares with others is named by settings.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{
    frame::{Frame, Signals},
    loops::Loops,
    opening, publishing, recycling, signs, telemetry,
};
use crate::{
    app::{App, Parts},
    auth::feeding,
    config::{
        Settings,
        connector::ConnectorImpl,
        database::Database,
        outside::Choice,
        source::{Effective, Source},
        tenants::TenantsImpl,
    },
    execution::local::LocalWorker,
    http::{
        listen::Bound,
        metrics, router,
        server::{self, Server},
    },
    runs::counting as runs_counting,
    storage::{Objects, Unready},
    uploads::counting as uploads_counting,
};

/// Modules of the original's process; here they are always all there.
const MODULES: [&str; 3] = ["api", "validator", "response-consumer"];

/// How long whoever reads metrics at the end may take.
const PROBES_TIMEOUT: Duration = Duration::from_secs(1);

/// What `run` may be asked for.
#[derive(Args, Debug)]
pub(super) struct Modules {
    /// api, validator, response-consumer: accepted, since every instance does all of it.
    #[arg(short, long = "module", value_delimiter = ',')]
    modules: Vec<String>,
}

impl Modules {
    /// Refuses modules that nobody knows.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.modules.iter().find(|name| !MODULES.contains(&name.as_str())) {
            Some(unknown) => bail!("unknown module {unknown}; there are {}", MODULES.join(", ")),
            None => Ok(()),
        }
    }
}

/// Serves until a signal.
///
/// # Errors
/// When the settings are wrong, or something they name cannot be used.
pub(super) async fn run() -> anyhow::Result<ExitCode> {
    let mut source = Source::from_process();
    let database = opening::database(&mut source);
    let (settings, _) = Settings::checked(source, None)?;
    let database = database.context("no database is named")?;
    telemetry::start(settings.logging)?;
    let bound: Result<_, _> = settings.http.listen.iter().map(Bound::to).collect();
    let frame = Frame::raise(&settings, bound?)?;
    let started = tokio::select! {
        started = start(settings, &database, &frame) => Some(started?),
        () = frame.signals.next() => None,
    };
    match started {
        Some(parts) => Instance::start(App::new(parts)?, frame).await?.until_signal().await,
        None => tracing::info!("ended before everything it needs was there"),
    }
    Ok(ExitCode::SUCCESS)
}

/// What the service is made of, once all of it is there. Settings that are wrong, and a database that
/// is not ours to touch, are not waited for.
async fn start(settings: Settings, database: &Database, frame: &Frame) -> anyhow::Result<Parts> {
    let secret_keys = settings.secrets.secret_keys.clone();
    let secret_keys = secret_keys.context("DISPATCHER_SECRET_KEYS is required")?;
    let objects = Objects::of(&settings.storage, &settings.tls, &settings.requests)?;
    let stores = frame
        .wait_for("database", async || opening::open(database).await, opening::may_come)
        .await?;
    let prepared = async || Ok(objects.prepare().await?);
    let may_come = |error: &anyhow::Error| {
        error.downcast_ref::<Unready>().is_some_and(|unready| !unready.lasting)
    };
    frame.wait_for("store", prepared, may_come).await?;
    Ok(Parts { stores, objects, secret_keys, more_services: Vec::new(), connector: None, settings })
}

/// A running instance.
pub(super) struct Instance {
    app: App,
    server: Server,
    probes: Server,
    loops: Loops,
    signals: Signals,
    /// Ends the signs of life.
    ended: CancellationToken,
    /// Where metrics and probes are.
    pub(super) metrics: Option<SocketAddr>,
}

impl Instance {
    /// Serves on the listeners of the frame and starts every loop.
    ///
    /// # Errors
    /// When the local worker's address belongs to somebody else, or the address of the broker cannot
    /// be understood.
    pub(super) async fn start(app: App, frame: Frame) -> anyhow::Result<Self> {
        say_what_is_special(&app.settings);
        runs_counting::begin();
        uploads_counting::begin();
        frame.probes.answer_by(metrics::router(&app, frame.handle.clone()));
        let publisher = publishing::publisher(&app)?;
        let times = feeding::last_auth_ways(&app)?;
        // Before the first request, so that nobody who may call is refused.
        frame.quickly(feeding::start(&app)).await?;
        // Likewise, so that a dispatch to it is not refused.
        let worker = frame.quickly(LocalWorker::of(&app)).await??;
        frame.server.answer_by(router::router(&app));
        frame.answer()?;
        let Frame { server, probes, handle, signals, metrics: address, ended, .. } = frame;
        let loops = Loops::start(&app, handle, worker, publisher, times);
        tokio::spawn(signs::ready(app.clone(), ended.clone()));
        Ok(Self { app, server, probes, loops, signals, metrics: address, ended })
    }

    /// Serves until SIGTERM or SIGINT, then drains. Requests and loops end side by side, within
    /// one graceful timeout.
    pub(super) async fn until_signal(self) {
        let graceful = self.app.settings.http.graceful_timeout;
        let enough = recycling::turn(&self.app, &self.ended);
        server::drain(&self.app, || self.signals.next(), enough).await;
        let (served, ()) = tokio::join!(self.server.stop(graceful), self.loops.ended(graceful));
        if !served {
            tracing::warn!("requests under way were cut off after GRACEFUL_TIMEOUT");
        }
        self.probes.stop(PROBES_TIMEOUT).await;
        self.ended.cancel();
        tracing::info!("ended");
    }
}

/// How the server is limited, for whoever said it in other words.
fn say_how_it_is_limited(settings: &Settings) {
    let line = |one: &Effective| format!("{}={} ({})", one.name, one.value, one.origin);
    let limits: Vec<String> = settings.server.iter().map(line).collect();
    tracing::info!("limits of the server: {}", limits.join(", "));
}

fn say_what_is_special(settings: &Settings) {
    say_how_it_is_limited(settings);
    settings.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    if !settings.unknown.is_empty() {
        let names = settings.unknown.join(", ");
        tracing::warn!(names, "these variables are set and no setting is called so");
    }
    if !settings.meaningless.is_empty() {
        let names = settings.meaningless.join(", ");
        tracing::warn!(names, "these settings are set and have no meaning here");
    }
    for service in settings.secrets.services.iter().filter(|service| !service.is_usable()) {
        let service = &service.service;
        tracing::warn!(
            service,
            "its key has other characters than letters and digits; no request can present it"
        );
    }
    if settings.connector.implementation == ConnectorImpl::Mock {
        tracing::warn!(
            "CLOUD_CONNECTOR_IMPL=mock: dispatches to foreign hosts are accepted and DELIVERED \
             TO NOBODY"
        );
    }
    if settings.inventory.choice == Choice::Mock {
        tracing::warn!(
            "INVENTORY_CONNECTOR_IMPL=mock: connection_status answers for TWO HOSTS THAT ARE MADE UP"
        );
    }
    if settings.sources.choice == Choice::Mock {
        tracing::warn!(
            "SOURCES_IMPL=mock: connection_status answers with a client of Satellites that is MADE UP"
        );
    }
    if settings.rbac.choice == Choice::Mock {
        tracing::warn!(
            "RBAC_IMPL=mock: EVERYBODY with an identity may look at the runs of remediations, \
             config_manager and test"
        );
    }
    if [TenantsImpl::DynamicMock, TenantsImpl::FixedMock].contains(&settings.tenants.implementation)
    {
        tracing::warn!(
            "TENANT_TRANSLATOR_IMPL is a mock: dispatches by account go to organisations that are \
             MADE UP"
        );
    }
    if settings.dispatch.demo_mode {
        tracing::warn!("DEMO_MODE: every run has the zero correlation id");
    }
}
