//! What the instance tells its supervisor: ready once it accepts and its database has answered,
//! alive while its runtime and the loops that accept connections turn.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{app::App, http::server::Server, systemd};

/// How often the database is tried before the first answer.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Gives signs until the process ends, its drain included.
pub(super) async fn give(app: App, server: Server, ended: CancellationToken) {
    let signs = async { tokio::join!(ready(&app), alive(&app, &server)) };
    let _ = ended.run_until_cancelled(signs).await;
}

async fn ready(app: &App) {
    while let Err(error) = app.stores.upkeep.ping().await {
        systemd::status(&format!("waiting for the database: {error}"));
        tokio::time::sleep(TRY_EVERY).await;
    }
    if !app.lifecycle.is_draining() {
        systemd::ready("serving");
    }
}

/// The sign is given by a task of the runtime, and only if every accepting loop came by since the
/// last: a process that hangs, or no longer accepts, gives none and is replaced.
async fn alive(app: &App, server: &Server) {
    let Some(every) = systemd::sign_every(app.settings.process.watchdog) else { return };
    tracing::info!(every_seconds = every.as_secs_f64(), "systemd is given signs of life");
    loop {
        if server.beats() || app.lifecycle.is_draining() {
            systemd::alive();
        } else {
            tracing::error!("connections are not accepted any more; no sign of life is given");
        }
        tokio::time::sleep(every).await;
    }
}
