//! Where a service lives across its starts, so that a test can kill it and start it again in either
//! form without knowing which.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use crate::{postgres::Database, process::Service};

/// A directory, and a database where the service does not bring its own.
pub struct Home {
    directory: TempDir,
    database: Option<Database>,
}

impl Home {
    /// For `standalone`: everything in the directory, SQLite.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn standalone() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()?, database: None })
    }

    /// For `serve` on a PostgreSQL database.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn on(database: Database) -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()?, database: Some(database) })
    }

    /// For `serve` on a fresh database of the server that all tests share.
    ///
    /// # Errors
    /// When there is no directory or server.
    pub async fn postgres() -> Result<Self> {
        Self::on(Database::migrated().await?)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the service and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(&self) -> Result<Service> {
        self.start_with(&[]).await
    }

    /// The same with more environment variables.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn start_with(&self, variables: &[(&str, &str)]) -> Result<Service> {
        match &self.database {
            None => Service::start_with(self.path(), variables).await,
            Some(database) => Service::serve(self.path(), &database.url, variables).await,
        }
    }
}
