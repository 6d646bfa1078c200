//! Waits at the service's doorbell for as long as the agent lives: that is this worker's presence,
//! its call to work, and how it hears of cancellations.

use std::{sync::Arc, time::Duration};

use dispatcher_wire::execution::Doorbell;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    agent::{Activity, Link},
    backoff::{Backoff, spread},
    link::LinkError,
};

/// How long one wait may take; each takes a little less, so that workers that begin together do not
/// stay in step.
const WAIT_AT_MOST: Duration = Duration::from_secs(25);
/// How soon is asked again after an answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How soon after an answer that came early and says nothing: the instance that gave it is going
/// down, and tells all its workers so at once.
const ASK_ANOTHER_AFTER: Duration = Duration::from_secs(2);

/// The last answer of the doorbell.
#[derive(Debug)]
pub(crate) struct Bell {
    /// What it said.
    pub(crate) answers: watch::Receiver<Doorbell>,
    _task: AbortOnDropHandle<()>,
}

/// Starts waiting.
pub(crate) fn attend(
    link: Arc<dyn Link>,
    at_a_time: u32,
    activity: Arc<watch::Sender<Activity>>,
    shutdown: CancellationToken,
) -> Bell {
    let (sender, answers) = watch::channel(Doorbell::default());
    let task = tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = listen(&*link, at_a_time, &activity, &sender) => {}
        }
        // The receivers stay valid: nothing more is heard, and everything else goes on.
        shutdown.cancelled().await;
        std::future::pending::<()>().await;
    });
    Bell { answers, _task: AbortOnDropHandle::new(task) }
}

async fn listen(
    link: &dyn Link,
    at_a_time: u32,
    activity: &watch::Sender<Activity>,
    answers: &watch::Sender<Doorbell>,
) {
    let mut backoff = Backoff::default();
    loop {
        let asked_at = Instant::now();
        let at_most = spread(WAIT_AT_MOST);
        // While nothing is taken, nothing is work.
        let takes = if activity.borrow().paused.is_some() { 0 } else { at_a_time };
        match link.wait(at_most, takes).await {
            Ok(answer) => {
                backoff.reset();
                note(activity, None);
                let silent = !answer.work && answer.cancel.is_empty();
                answers.send_replace(answer);
                let early = silent && asked_at.elapsed() < at_most / 2;
                if early {
                    tokio::time::sleep(spread(ASK_ANOTHER_AFTER)).await;
                }
                tokio::time::sleep_until(asked_at + ASK_AGAIN_AFTER).await;
            }
            Err(error) => {
                if note(activity, Some(error.to_string())) {
                    tracing::warn!(%error, "the doorbell cannot be attended; it is tried again and again");
                }
                match error {
                    LinkError::KeyRefused(_) => backoff.slow_pause().await,
                    _ => backoff.pause().await,
                }
            }
        }
    }
}

/// Notes why the service is not heard. Whether that is news.
fn note(activity: &watch::Sender<Activity>, away: Option<String>) -> bool {
    activity.send_if_modified(|known| std::mem::replace(&mut known.away, away.clone()) != away)
}
