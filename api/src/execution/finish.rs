//! Ending a run.

use dispatcher_wire::RunStatus;
use dispatcher_worker::crash;

use super::{
    Execution, ExecutionError,
    batch::{BatchError, MAX_COUNTER},
    model::{Finish, FinishOutcome, Hold},
    now,
};
use crate::bus::Topic;

impl Execution {
    /// Ends a run that has this many records; answers with the state it is in now. Repeating it
    /// answers the same.
    ///
    /// # Errors
    /// When records are missing, or the run is not held.
    pub async fn finish(&self, hold: Hold, next_counter: u64) -> Result<RunStatus, ExecutionError> {
        if next_counter > MAX_COUNTER {
            return Err(BatchError::Counter(next_counter).into());
        }
        let settings = &self.parts.settings;
        let (host_log_cap, all_logs_cap) = (settings.host_log_max, settings.host_logs_total);
        let finish = Finish { next_counter, host_log_cap, all_logs_cap, now: now() };
        crash::point("execution.finish.before");
        let outcome = self.parts.work.finish(hold, &finish).await?;
        crash::point("execution.finish.committed");
        match outcome {
            FinishOutcome::Final(status) => {
                self.parts.wakeups.wake(Topic::Run(hold.run_id));
                // The recipient is free for its next run.
                self.parts.wakeups.wake(Topic::Recipient(hold.recipient));
                self.parts.wakeups.wake(Topic::Events);
                Ok(status)
            }
            FinishOutcome::Gap { next_counter } => Err(ExecutionError::Gap(next_counter)),
            FinishOutcome::NotYours => Err(ExecutionError::NotYours),
        }
    }
}
