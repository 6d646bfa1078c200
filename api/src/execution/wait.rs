//! The doorbell: a worker waits for work or a cancellation. Waiting is presence.

use std::time::Duration;

use dispatcher_wire::execution::{Doorbell, MAX_WAIT_SECONDS};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Execution, ExecutionError, now};
use crate::bus::Topic;

/// How often the database is asked while a worker waits: wake-ups are hints, this is the truth.
const POLL_EVERY: Duration = Duration::from_secs(1);

impl Execution {
    /// Waits until there is something to do for the recipient, at most this long and never longer
    /// than [`MAX_WAIT_SECONDS`]. The end of the process ends the wait at once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn wait(
        &self,
        recipient: Uuid,
        at_most: Duration,
    ) -> Result<Doorbell, ExecutionError> {
        let until = Instant::now() + at_most.min(Duration::from_secs(MAX_WAIT_SECONDS));
        loop {
            let listener = self.parts.wakeups.listen(Topic::Recipient(recipient));
            self.seen(recipient).await?;
            let bell = self.parts.work.doorbell(recipient, now()).await?;
            let left = until.saturating_duration_since(Instant::now());
            let rings = bell.work || !bell.cancel.is_empty();
            if rings || left.is_zero() || self.parts.shutdown.is_cancelled() {
                return Ok(bell);
            }
            tokio::select! {
                _ = listener.wait(left.min(POLL_EVERY)) => {}
                () = self.parts.shutdown.cancelled() => {}
            }
        }
    }
}
