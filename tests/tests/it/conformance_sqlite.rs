//! The conformance suite on SQLite: every case in a directory of its own.

use async_trait::async_trait;
use dispatcher_api::store::sqlite::{FILE_NAME, Store};
use dispatcher_tests::conformance::{OutboxRow, Probe, Subject};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

#[path = "cases/mod.rs"]
mod cases;

/// Looks into the file with a connection of its own; owns the directory.
struct File(TempDir);

impl File {
    fn connection(&self) -> Connection {
        Connection::open(self.0.path().join(FILE_NAME)).unwrap()
    }
}

#[async_trait]
impl Probe for File {
    async fn outbox(&self, run_id: Uuid) -> Vec<OutboxRow> {
        let connection = self.connection();
        let mut statement = connection
            .prepare(
                "SELECT run_seq, entity, entity_id, event_type, org_id, service, status, payload
                 FROM outbox WHERE run_id = ?1 ORDER BY run_seq",
            )
            .unwrap();
        let rows = statement.query_map([run_id], |row| {
            Ok(OutboxRow {
                run_seq: row.get(0)?,
                entity: row.get(1)?,
                entity_id: row.get(2)?,
                event_type: row.get(3)?,
                org_id: row.get(4)?,
                service: row.get(5)?,
                status: row.get(6)?,
                payload: serde_json::from_str(&row.get::<_, String>(7)?).unwrap(),
            })
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    async fn set_labels(&self, run_id: Uuid, json: &str) {
        let changed = self
            .connection()
            .execute("UPDATE runs SET labels = ?2 WHERE id = ?1", params![run_id, json])
            .unwrap();
        assert_eq!(changed, 1);
    }

    async fn run_events(&self, run_id: Uuid) -> Value {
        let sql = "SELECT events FROM runs WHERE id = ?1";
        let text: String = self.connection().query_row(sql, [run_id], |row| row.get(0)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    async fn has_inputs(&self, run_id: Uuid) -> bool {
        let sql = "SELECT inputs IS NOT NULL OR sealed_secrets IS NOT NULL FROM run_work
                   WHERE run_id = ?1";
        let found = self.connection().query_row(sql, [run_id], |row| row.get(0)).optional();
        found.unwrap().unwrap_or(false)
    }
}

async fn subject() -> Subject {
    let directory = tempfile::tempdir().unwrap();
    Subject { stores: Store::open(directory.path()).unwrap(), probe: Box::new(File(directory)) }
}
