//! `dispatcher-worker run`: the agent, with what is around it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use dispatcher_wire::registration::Facts;
use dispatcher_worker::{
    Activity, ansible,
    http::{HttpLink, KeySource},
    identity::{Identity, IdentityFiles},
    run_watched,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{cli::Settings, facts, systemd};

/// How often the facts are told where nothing changes.
const TELL_EVERY: Duration = Duration::from_secs(3600);
/// How soon is tried again where they could not be told.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Executes runs until SIGTERM or SIGINT.
pub(super) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let files = settings.identity_files();
    let identity = files.load()?;
    let url = settings.url.as_deref().unwrap_or(&identity.url);
    let service = settings.service(url)?;
    let config = settings.agent(&identity.name)?;
    let link = Arc::new(HttpLink::new(service, &identity, newer_key(files, &identity)));
    let shutdown = stop_on_signals()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        recipient = %identity.recipient,
        org = identity.org_id,
        url,
        "starting"
    );
    let (activity, watched) = watch::channel(Activity::default());
    // Ansible takes its time to say its version; runs need not wait for that.
    let looking = async {
        match ansible::preflight(settings.ansible_runner.as_deref()).await {
            Ok(found) => tracing::info!(found, "playbooks can be executed"),
            Err(cure) => tracing::error!(cure, "playbooks cannot be executed; every run fails"),
        }
        tell_service(&link, watched.clone(), &facts::gather(settings).await).await;
    };
    let beside = async {
        tokio::join!(
            systemd::watchdog(),
            tell_manager(watched.clone(), settings.concurrency, &shutdown),
            looking,
        );
    };
    tokio::select! {
        ended = run_watched(config, Arc::clone(&link) as _, shutdown.clone(), activity) => ended?,
        () = beside => {}
    }
    tracing::info!("ended");
    Ok(())
}

/// The key in force, where the worker was registered again while it ran.
fn newer_key(files: IdentityFiles, identity: &Identity) -> KeySource {
    let recipient = identity.recipient;
    Box::new(move || match files.load() {
        Ok(found) => (found.recipient == recipient).then_some(found.key),
        Err(error) => {
            tracing::warn!(%error, "the key cannot be read again");
            None
        }
    })
}

fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let cannot = "signals cannot be heard";
    let mut terminate = signal(SignalKind::terminate()).context(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(cannot)?;
    let told = CancellationToken::new();
    let stop = told.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: what is under way is ended and reported");
        // Before anything else hears of it: the process may be gone right after.
        systemd::stopping();
        stop.cancel();
    });
    Ok(told)
}

/// Keeps the service manager's status line right, until the end.
async fn tell_manager(
    mut watched: watch::Receiver<Activity>,
    at_a_time: u32,
    shutdown: &CancellationToken,
) {
    systemd::ready();
    loop {
        let now = watched.borrow_and_update().clone();
        systemd::status(&now, at_a_time);
        let gone = tokio::select! {
            changed = watched.changed() => changed.is_err(),
            () = shutdown.cancelled() => true,
        };
        if gone {
            return std::future::pending().await;
        }
    }
}

/// Tells the dispatcher of this host: at the start, when it takes nothing any more, when it does
/// again, and once in a while.
async fn tell_service(link: &HttpLink, mut watched: watch::Receiver<Activity>, facts: &Facts) {
    loop {
        let paused = watched.borrow_and_update().paused.clone();
        let told = link.tell(&facts::with_pause(facts, paused.as_deref())).await;
        let again = match told {
            Ok(()) => TELL_EVERY,
            Err(error) => {
                tracing::debug!(%error, "the dispatcher cannot be told of this host");
                TELL_AGAIN
            }
        };
        let other = watched.wait_for(|known| known.paused != paused);
        if let Ok(Err(_)) = tokio::time::timeout(again, other).await {
            return std::future::pending().await;
        }
    }
}
