//! Handing out the inputs of a run, to the holder of its claim only.

use dispatcher_wire::inputs::RunInputs;

use super::{Execution, ExecutionError, model::Hold};
use crate::runs;

impl Execution {
    /// The inputs of a run, secrets opened.
    ///
    /// # Errors
    /// When the run is not held, or its secrets cannot be opened with the keys of this process.
    pub async fn inputs(&self, hold: Hold) -> Result<RunInputs, ExecutionError> {
        let stored = self.parts.work.inputs(hold).await?.ok_or(ExecutionError::NotYours)?;
        Ok(runs::inputs::put_together(&self.parts.keyring, hold.run_id, stored)?)
    }
}
