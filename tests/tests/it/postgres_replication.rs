//! Debezium reads our tables as it read the original's: the changes that PostgreSQL's `pgoutput` gives for
//! `runs` and `run_hosts` are those that consumers are told of, member by member.

use std::collections::BTreeMap;

use dispatcher_api::{
    runs::model::NewRun,
    store::{Stores, retention::Purge},
};
use dispatcher_tests::{
    conformance::fixtures::{create, finished, hosts, labels, now, org, run, started, stats},
    postgres::PrivatePostgres,
};
use serde_json::{Map, Value, json};
use time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

/// A row of a table, as text.
type Row = BTreeMap<String, Option<String>>;

/// A change of a row: `create`, `update` or `delete`, and the row after it, or before it.
#[derive(Debug)]
struct Change {
    table: String,
    kind: &'static str,
    row: Row,
}

/// A message of `pgoutput`, read from its beginning.
struct Message<'a>(&'a [u8]);

impl Message<'_> {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        head.to_vec()
    }

    fn number(&mut self, size: usize) -> u32 {
        self.bytes(size).into_iter().fold(0, |sum, byte| sum << 8 | u32::from(byte))
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap();
        let text = String::from_utf8(self.bytes(end)).unwrap();
        self.bytes(1);
        text
    }

    /// The name of a table and of its columns.
    fn relation(&mut self) -> (u32, (String, Vec<String>)) {
        let (id, _schema, table) = (self.number(4), self.text(), self.text());
        let _identity = self.bytes(1);
        let columns = (0..self.number(2)).map(|_| {
            self.bytes(1);
            let name = self.text();
            self.bytes(8);
            name
        });
        (id, (table, columns.collect()))
    }

    fn row(&mut self, columns: &[String]) -> Row {
        let count = self.number(2) as usize;
        assert_eq!(count, columns.len());
        let mut row = Row::new();
        for name in columns {
            match self.bytes(1).as_slice() {
                b"n" => row.insert(name.clone(), None),
                b"t" => {
                    let length = self.number(4) as usize;
                    row.insert(name.clone(), Some(String::from_utf8(self.bytes(length)).unwrap()))
                }
                // Stored apart and unchanged.
                b"u" => None,
                other => panic!("{other:?} is no kind of a value"),
            };
        }
        row
    }
}

/// What the slot has, in order; it is not read again.
async fn changes(client: &Client) -> Vec<Change> {
    const READ: &str = "
        SELECT data FROM pg_logical_slot_get_binary_changes(
            'debezium', NULL, NULL, 'proto_version', '1', 'publication_names', 'debezium')";
    let (mut tables, mut changes) = (BTreeMap::new(), Vec::new());
    for line in client.query(READ, &[]).await.unwrap() {
        let data: Vec<u8> = line.get(0);
        let mut message = Message(&data);
        let kind = match message.bytes(1).as_slice() {
            b"R" => {
                let (id, table) = message.relation();
                tables.insert(id, table);
                continue;
            }
            b"I" => "create",
            b"U" => "update",
            b"D" => "delete",
            _ => continue,
        };
        let (table, columns) = &tables[&message.number(4)];
        let mut which = message.bytes(1);
        let mut row = message.row(columns);
        if kind == "update" && which != b"N" {
            which = message.bytes(1);
            row = message.row(columns);
        }
        assert!(kind == "delete" || which == b"N");
        changes.push(Change { table: table.clone(), kind, row });
    }
    changes
}

fn time(text: &str) -> Value {
    json!(text.replacen(' ', "T", 1).replace("+00", "Z"))
}

/// The payload that the contract derives from a row (§6).
fn payload(change: &Change) -> Value {
    let value = |name: &str| change.row.get(name).cloned().flatten();
    let text = |name: &str| json!(value(name));
    let mut payload = Map::new();
    let mut put = |name: &str, value: Value| payload.insert(name.to_owned(), value);
    put("id", text("id"));
    if change.table == "runs" {
        for name in ["org_id", "recipient", "correlation_id", "service", "url"] {
            put(name, text(name));
        }
        put("labels", serde_json::from_str(&value("labels").unwrap()).unwrap());
        for (name, column) in [("name", "playbook_name"), ("web_console_url", "playbook_run_url")] {
            if value(column).is_some() {
                put(name, text(column));
            }
        }
        let mut config = Map::new();
        for name in ["sat_id", "sat_org_id"] {
            if let Some(value) = value(name) {
                config.insert(name.to_owned(), json!(value));
            }
        }
        put("recipient_config", Value::Object(config));
        put("timeout", json!(value("timeout").unwrap().parse::<i64>().unwrap()));
    } else {
        put("run_id", text("run_id"));
        if value("inventory_id").is_some() {
            put("inventory_id", text("inventory_id"));
        }
        put("host", text("host"));
    }
    put("status", text("status"));
    put("created_at", time(&value("created_at").unwrap()));
    put("updated_at", time(&value("updated_at").unwrap()));
    Value::Object(payload)
}

/// What we tell of a table, in order of the runs: kind and payload.
async fn told(client: &Client, entity: &str, run_id: Uuid) -> Vec<(String, Value)> {
    const READ: &str = "SELECT event_type, payload FROM outbox
                        WHERE entity = $1 AND run_id = $2 ORDER BY run_seq";
    let rows = client.query(READ, &[&entity, &run_id]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What the slot tells of a run's rows, changes that nobody can see left out.
fn derived(changes: &[Change], table: &str, run_id: Uuid) -> Vec<(String, Value)> {
    let key = if table == "runs" { "id" } else { "run_id" };
    let id = run_id.to_string();
    let own = |change: &&Change| {
        change.table == table && change.row.get(key).cloned().flatten().as_ref() == Some(&id)
    };
    let mut derived: Vec<_> = changes
        .iter()
        .filter(own)
        .map(|change| (change.kind.to_owned(), payload(change)))
        .collect();
    derived.dedup();
    derived
}

async fn whole_life(stores: &Stores) -> NewRun {
    let at = now();
    let mut one = run(&org());
    one.hosts = hosts(&["a", "b"]);
    one.hosts[0].inventory_id = Some(Uuid::new_v4());
    one.labels = labels(&[("id", "1234"), ("why", "a \"b\" {}")]);
    create(stores, std::slice::from_ref(&one)).await;
    let hold = started(stores, &one, at).await;
    finished(stores, hold, 1, stats(&[("a", false), ("b", true)]), at).await;
    one
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_our_tables_are_what_consumers_are_told() {
    let server = tokio::task::spawn_blocking(|| {
        PrivatePostgres::start_with("-c wal_level=logical", &[]).unwrap()
    });
    let server = server.await.unwrap();
    let database = server.migrated().await.unwrap();
    let (stores, client) = (database.stores().await.unwrap(), database.client().await.unwrap());
    // A slot wants a transaction of its own.
    for begin in [
        "SET TIME ZONE 'UTC'",
        "CREATE PUBLICATION debezium FOR TABLE runs, run_hosts",
        "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')",
    ] {
        client.batch_execute(begin).await.unwrap();
    }
    let runs = [whole_life(&stores).await, whole_life(&stores).await];
    let seen = changes(&client).await;
    for run in &runs {
        let ours = told(&client, "run", run.id).await;
        assert_eq!(derived(&seen, "runs", run.id), ours);
        assert!(ours.len() >= 2, "{ours:?}");
        let hosts = told(&client, "run_host", run.id).await;
        assert_eq!(sorted(derived(&seen, "run_hosts", run.id)), sorted(hosts));
    }
    let late = now() + Duration::hours(2);
    let purge = Purge::Remove(now());
    assert_eq!(stores.retention.purge_runs(&[runs[0].id], late, purge).await.unwrap().runs, 1);
    let gone = changes(&client).await;
    let deleted: Vec<_> = derived(&gone, "runs", runs[0].id);
    assert_eq!(deleted.len(), 1, "the whole row is known when it goes");
    assert_eq!(deleted[0], told(&client, "run", runs[0].id).await.pop().unwrap());
}

/// Hosts of one commit come in any order.
fn sorted(mut changes: Vec<(String, Value)>) -> Vec<(String, Value)> {
    changes.sort_by_key(|(kind, payload)| {
        (payload["id"].to_string(), payload["updated_at"].to_string(), kind.clone())
    });
    changes
}
