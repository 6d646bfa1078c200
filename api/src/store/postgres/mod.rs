//! The store on PostgreSQL: deadpool-postgres with statements prepared once per connection.
//!
//! How it keeps its promises:
//! - Every change of a run or its side rows locks the row in `runs` first (several in the order of
//!   their ids), so that changes of one run follow each other and batches cannot deadlock. What is
//!   read next sees the state under the lock, since each statement has its own snapshot.
//! - Statements that do not depend on each other's answers are sent together; a method costs a
//!   number of statements that does not depend on the number of rows.
//! - A transaction that the server gives up for a conflict is begun again, a bounded number of
//!   times; everything else is for the caller, who may repeat every method.

mod adopt;
mod append;
mod apply;
mod audit;
mod cancel;
mod claim;
mod connection;
mod create;
mod encryption;
mod events;
mod fault;
mod feed;
mod finish;
mod instances;
mod keys;
mod last_auth;
mod leases;
mod lists;
mod logs;
pub mod migrate;
mod outbox;
mod output;
mod playbooks;
mod recipients;
mod registrations;
mod retention;
mod rows;
mod runs;
mod satellite;
mod servers;
mod upkeep;
mod uploads;
mod wakeups;
mod work;

use std::sync::Arc;

pub use connection::PostgresStore;

use super::{StoreResult, Stores};
use crate::config::database::Postgres;

impl PostgresStore {
    /// Opens a database that is migrated.
    ///
    /// # Errors
    /// When it cannot be reached or is not migrated.
    pub async fn connect(config: &Postgres) -> StoreResult<Stores> {
        let store = Arc::new(Self::open(config).await?);
        Ok(Stores {
            runs: store.clone(),
            work: store.clone(),
            recipients: store.clone(),
            registrations: store.clone(),
            uploads: store.clone(),
            playbooks: store.clone(),
            keys: store.clone(),
            audit: store.clone(),
            upkeep: store.clone(),
            leases: store.clone(),
            last_auth: store.clone(),
            instances: store.clone(),
            events: store.clone(),
            feed: store.clone(),
            retention: store.clone(),
            wakeups: Some(store),
        })
    }
}
