//! The conformance suite on PostgreSQL: every case in a database of its own.

use async_trait::async_trait;
use dispatcher_tests::{
    conformance::{OutboxRow, Probe, Subject},
    postgres::Database,
};
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

#[path = "cases/mod.rs"]
mod cases;

/// Looks into the database with a connection of its own.
struct Connection(Client);

#[async_trait]
impl Probe for Connection {
    async fn outbox(&self, run_id: Uuid) -> Vec<OutboxRow> {
        let sql = "SELECT run_seq, entity, entity_id, event_type, org_id, service, status, payload
                   FROM outbox WHERE run_id = $1 ORDER BY run_seq";
        let row = |row: &tokio_postgres::Row| OutboxRow {
            run_seq: row.get(0),
            entity: row.get(1),
            entity_id: row.get(2),
            event_type: row.get(3),
            org_id: row.get(4),
            service: row.get(5),
            status: row.get(6),
            payload: row.get(7),
        };
        self.0.query(sql, &[&run_id]).await.unwrap().iter().map(row).collect()
    }

    async fn set_labels(&self, run_id: Uuid, json: &str) {
        let sql = "UPDATE runs SET labels = $2::text::jsonb WHERE id = $1";
        assert_eq!(self.0.execute(sql, &[&run_id, &json]).await.unwrap(), 1);
    }

    async fn run_events(&self, run_id: Uuid) -> Value {
        let sql = "SELECT events FROM runs WHERE id = $1";
        self.0.query_one(sql, &[&run_id]).await.unwrap().get(0)
    }

    async fn has_inputs(&self, run_id: Uuid) -> bool {
        let sql = "SELECT inputs IS NOT NULL OR sealed_secrets IS NOT NULL FROM run_work
                   WHERE run_id = $1";
        self.0.query_opt(sql, &[&run_id]).await.unwrap().is_some_and(|row| row.get(0))
    }
}

async fn subject() -> Subject {
    let database = Database::migrated().await.unwrap();
    let probe = Box::new(Connection(database.client().await.unwrap()));
    Subject { stores: database.stores().await.unwrap(), probe }
}
