//! What the instance tells its supervisor: alive while its runtime and the loops that accept
//! connections turn, from before its database is there; ready once that has answered.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{app::App, http::server::Server, systemd};

/// How often the database is tried before the first answer.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Says that it is ready once it is.
pub(super) async fn ready(app: App, ended: CancellationToken) {
    let ready = async {
        while let Err(error) = app.stores.upkeep.ping().await {
            systemd::waiting(&format!("waiting for the database: {error}"));
            tokio::time::sleep(TRY_EVERY).await;
        }
        if !app.lifecycle.is_draining() {
            systemd::ready("serving");
        }
    };
    let _ = ended.run_until_cancelled(ready).await;
}

/// Gives signs of life until the process ends, its drain included. Each is given by a task of the
/// runtime, and only if every accepting loop came by since the last: a process that hangs, or no
/// longer accepts, gives none and is replaced.
pub(super) async fn alive(server: Server, watchdog: Option<Duration>, ended: CancellationToken) {
    let Some(every) = systemd::sign_every(watchdog) else { return };
    tracing::info!(every_seconds = every.as_secs_f64(), "systemd is given signs of life");
    let giving = async {
        loop {
            if server.beats() {
                systemd::alive();
            } else {
                tracing::error!("connections are not accepted any more; no sign of life is given");
            }
            tokio::time::sleep(every).await;
        }
    };
    let _: Option<()> = ended.run_until_cancelled(giving).await;
}
