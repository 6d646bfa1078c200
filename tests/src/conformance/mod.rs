//! What every database behind the store traits must do, as one suite: each case is an async
//! function that gets an empty database and panics where it is wrong.
//!
//! `tests/it/conformance_*.rs` call every case once per database. A case wants a database of its
//! own, since claims of uploads and the cleaner know no organisation.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a case that cannot go on should panic"
)]

use async_trait::async_trait;
use dispatcher_api::store::Stores;
use serde_json::Value;
use uuid::Uuid;

pub mod append;
pub mod audit;
pub mod cancel;
pub mod claims;
pub mod events;
pub mod feed;
pub mod finish;
pub mod fixtures;
pub mod hosts;
pub mod idempotency;
pub mod inbox;
pub mod instances;
pub mod keys;
pub mod labels;
pub mod last_auth;
pub mod leases;
pub mod logs;
pub mod model;
pub mod playbooks;
pub mod recipients;
pub mod registrations;
pub mod retention;
pub mod runs;
pub mod satellites;
pub mod sending;
pub mod upkeep;
pub mod uploads;

/// A database under test: its stores, and a way to look behind them.
pub struct Subject {
    /// What is tested.
    pub stores: Stores,
    /// What looks.
    pub probe: Box<dyn Probe>,
}

/// A row of the outbox.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    /// Its number within its run.
    pub run_seq: i64,
    /// `run` or `run_host`.
    pub entity: String,
    /// The row that changed.
    pub entity_id: Uuid,
    /// `create` or `update`.
    pub event_type: String,
    /// The run's organisation.
    pub org_id: String,
    /// The run's service.
    pub service: String,
    /// The state after the change.
    pub status: String,
    /// What consumers get.
    pub payload: Value,
}

/// Looks behind the traits, with SQL of its own.
#[async_trait]
pub trait Probe: Send + Sync {
    /// The outbox rows of a run by number.
    async fn outbox(&self, run_id: Uuid) -> Vec<OutboxRow>;

    /// Replaces the labels of a run by this JSON text.
    async fn set_labels(&self, run_id: Uuid, json: &str);

    /// `runs.events`.
    async fn run_events(&self, run_id: Uuid) -> Value;

    /// Whether the work on a run still has inputs or secrets.
    async fn has_inputs(&self, run_id: Uuid) -> bool;
}

impl Subject {
    /// What consumers were told of a run: `<entity> <type> <status>`, sorted, except that the
    /// run's own creation must come before everything else. The numbers must have no gap.
    pub async fn told(&self, run_id: Uuid) -> Vec<String> {
        let rows = self.probe.outbox(run_id).await;
        for (row, number) in rows.iter().zip(1..) {
            assert_eq!(row.run_seq, number, "the numbers of {run_id} have a gap: {rows:?}");
            assert_eq!(row.payload["status"], row.status.as_str(), "{row:?}");
            assert_eq!(row.payload["id"], row.entity_id.to_string(), "{row:?}");
        }
        if let Some(first) = rows.first() {
            assert_eq!((first.entity.as_str(), first.event_type.as_str()), ("run", "create"));
        }
        let mut told: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {} {}", row.entity, row.event_type, row.status))
            .collect();
        told.sort();
        told
    }
}
