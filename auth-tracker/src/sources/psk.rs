//! Keys of services, from the database: its version every time, everything when that is another.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    ports::{KeySource, PortError},
    reconcile::KeysSaid,
};

/// The most that one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// The database's side of the state.
pub struct PskSource {
    database: Arc<dyn KeySource>,
    clock: Clock,
}

impl std::fmt::Debug for PskSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PskSource").finish_non_exhaustive()
    }
}

impl PskSource {
    /// Asks this database.
    #[must_use]
    pub fn new(database: Arc<dyn KeySource>, clock: Clock) -> Self {
        Self { database, clock }
    }

    /// What it says, when `known` is the version that is held already.
    ///
    /// # Errors
    /// When it cannot be asked or does not answer in time.
    pub async fn look(&self, known: Option<u64>) -> Result<KeysSaid, PortError> {
        let late = || PortError("the database did not answer in time".to_owned());
        tokio::time::timeout(LOOK_TIMEOUT, self.ask(known)).await.unwrap_or_else(|_| Err(late()))
    }

    /// Only the version.
    ///
    /// # Errors
    /// As [`PskSource::look`].
    pub async fn version(&self) -> Result<u64, PortError> {
        let late = || PortError("the database did not answer in time".to_owned());
        let asked = tokio::time::timeout(LOOK_TIMEOUT, self.database.version());
        asked.await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self, known: Option<u64>) -> Result<KeysSaid, PortError> {
        // The time before the question: what is true at its end may have changed since.
        let at = self.clock.now();
        if let Some(known) = known
            && self.database.version().await? == known
        {
            return Ok(KeysSaid::Same(at));
        }
        let (version, keys) = self.database.keys(at).await?;
        Ok(KeysSaid::All { version, keys, at })
    }
}
