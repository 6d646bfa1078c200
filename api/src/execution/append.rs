//! Taking in events of a run: one call of the store per batch.

use dispatcher_wire::{event::RunnerEvent, execution::AppendReply};
use dispatcher_worker::crash;

use super::{
    Execution, ExecutionError,
    batch::{self, Terms},
    model::{AppendBatch, AppendOutcome, Hold},
    now,
};
use crate::{bus::Topic, config::execution::ExecutionSettings};

impl Execution {
    /// Makes the events of an NDJSON body durable; the first has this number.
    ///
    /// # Errors
    /// When a line is not acceptable, records before these are missing, or the run is not held.
    pub async fn append_lines(
        &self,
        hold: Hold,
        first_counter: u64,
        body: &[u8],
    ) -> Result<AppendReply, ExecutionError> {
        self.append(hold, &batch::from_lines(body, &self.terms(first_counter))?).await
    }

    /// Makes events durable; the first has this number.
    ///
    /// # Errors
    /// As [`Execution::append_lines`].
    pub async fn append_events(
        &self,
        hold: Hold,
        first_counter: u64,
        events: &[RunnerEvent],
    ) -> Result<AppendReply, ExecutionError> {
        self.append(hold, &batch::from_events(events, &self.terms(first_counter))?).await
    }

    async fn append(&self, hold: Hold, batch: &AppendBatch) -> Result<AppendReply, ExecutionError> {
        crash::point("execution.append.before");
        let outcome = self.parts.work.append(hold, batch).await?;
        crash::point("execution.append.committed");
        match outcome {
            AppendOutcome::Applied { next_counter, cancel } => {
                if !batch.output_ends.is_empty() {
                    self.parts.wakeups.wake(Topic::Run(hold.run_id));
                }
                self.seen(hold.recipient).await?;
                Ok(AppendReply { next_counter, cancel })
            }
            AppendOutcome::Gap { next_counter } => Err(ExecutionError::Gap(next_counter)),
            AppendOutcome::NotYours => Err(ExecutionError::NotYours),
        }
    }

    fn terms(&self, first_counter: u64) -> Terms {
        let now = now();
        let lease_until = self.lease_until(now);
        let ExecutionSettings { output_max, hosts_max, .. } = self.parts.settings;
        Terms { first_counter, now, lease_until, output_max, hosts_max }
    }
}
