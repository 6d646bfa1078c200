//! Waits at the service's doorbell for as long as the agent lives: that is this worker's presence,
//! its call to work, and how it hears of cancellations.

use std::{sync::Arc, time::Duration};

use dispatcher_wire::execution::Doorbell;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{agent::Link, backoff::Backoff};

/// How long one wait may take.
const WAIT_AT_MOST: Duration = Duration::from_secs(25);
/// How soon is asked again: where there is work that has to wait for the playbook under way, or the
/// service is going down, answers come at once and stay the same.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The last answer of the doorbell.
#[derive(Debug)]
pub(crate) struct Bell {
    /// What it said.
    pub(crate) answers: watch::Receiver<Doorbell>,
    _task: AbortOnDropHandle<()>,
}

/// Starts waiting.
pub(crate) fn attend(link: Arc<dyn Link>, shutdown: CancellationToken) -> Bell {
    let (sender, answers) = watch::channel(Doorbell::default());
    let task = tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = listen(&*link, &sender) => {}
        }
        // The receivers stay valid: nothing more is heard, and everything else goes on.
        shutdown.cancelled().await;
        std::future::pending::<()>().await;
    });
    Bell { answers, _task: AbortOnDropHandle::new(task) }
}

async fn listen(link: &dyn Link, answers: &watch::Sender<Doorbell>) {
    let mut backoff = Backoff::default();
    loop {
        let again_at = Instant::now() + ASK_AGAIN_AFTER;
        match link.wait(WAIT_AT_MOST).await {
            Ok(answer) => {
                backoff.reset();
                answers.send_replace(answer);
                tokio::time::sleep_until(again_at).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the doorbell cannot be attended");
                backoff.pause().await;
            }
        }
    }
}
