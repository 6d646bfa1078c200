//! Accounts for a load after it: everything acknowledged is in the database exactly once, every run
//! was executed at most once, and its events reached the broker in order with none missing.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    agent::LINES,
    consumer::{Consumer, Message},
    load::Notes,
    process::PATIENCE,
};

/// How often it is looked whether everything has come to rest.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// What is not at rest: runs without an end that some host reports on, uploads not applied, events not
/// published.
const RESTLESS: &str = "
    SELECT (SELECT count(*) FROM runs WHERE status = 'running' AND playbook_name <> ALL($1)),
           (SELECT count(*) FROM uploads WHERE state = 'pending'),
           (SELECT count(*) FROM outbox WHERE published_at IS NULL)";

/// What the database holds of a run.
struct Row {
    status: String,
    name: String,
    output: String,
    events: i64,
}

/// Waits until every run has ended but those that were left in flight, every upload is applied and every
/// event is published.
///
/// # Errors
/// When that never is; says what is left.
pub async fn at_rest(database: &Client, notes: &Notes) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let row = database.query_one(RESTLESS, &[&notes.left_in_flight]).await?;
        let left: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
        if left == [0; 3] {
            return Ok(started.elapsed());
        }
        if started.elapsed() > PATIENCE {
            bail!(
                "{} runs have not ended, {} uploads are pending, {} events are not published",
                left[0],
                left[1],
                left[2]
            );
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Everything that is not as it should be.
///
/// # Errors
/// When the database does not answer.
pub async fn account(
    database: &Client,
    notes: &Notes,
    executions: &[String],
    consumer: &Consumer,
) -> Result<Vec<String>> {
    let mut wrong = notes.contradictions.clone();
    wrong.extend(notes.unanswered.iter().map(|what| format!("no answer in time: {what}")));
    let rows = rows(database).await?;
    dispatches(&rows, notes, executions, &mut wrong);
    uploads(database, &rows, notes, &mut wrong).await?;
    let expected: HashMap<Uuid, i64> = rows.iter().map(|(id, row)| (*id, row.events)).collect();
    let total = usize::try_from(expected.values().sum::<i64>())?;
    let messages = consumer.until(|messages| distinct(messages) >= total).await;
    let messages = messages.unwrap_or_else(|_| consumer.messages());
    events(&expected, &messages, &mut wrong);
    Ok(wrong)
}

async fn rows(database: &Client) -> Result<HashMap<Uuid, Row>> {
    const ALL: &str = "
        SELECT r.id, r.status::text, coalesce(r.playbook_name, ''),
               (SELECT coalesce(string_agg(convert_from(o.data, 'UTF8'), '' ORDER BY o.start_byte), '')
                FROM run_output o WHERE o.run_id = r.id),
               coalesce((SELECT last FROM run_sequence s WHERE s.run_id = r.id), 0)
        FROM runs r";
    let rows = database.query(ALL, &[]).await.context("the runs")?;
    let row = |row: tokio_postgres::Row| {
        let of =
            Row { status: row.get(1), name: row.get(2), output: row.get(3), events: row.get(4) };
        (row.get(0), of)
    };
    Ok(rows.into_iter().map(row).collect())
}

fn dispatches(
    rows: &HashMap<Uuid, Row>,
    notes: &Notes,
    executions: &[String],
    wrong: &mut Vec<String>,
) {
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    rows.values().for_each(|row| *named.entry(row.name.as_str()).or_default() += 1);
    let more = named.iter().filter(|(_, count)| **count > 1);
    wrong.extend(more.map(|(name, count)| format!("{name} is there {count} times")));
    let mut executed: HashMap<&str, usize> = HashMap::new();
    executions.iter().for_each(|marker| *executed.entry(marker.as_str()).or_default() += 1);
    let more = executed.iter().filter(|(_, count)| **count > 1);
    wrong.extend(more.map(|(name, count)| format!("{name} was executed {count} times")));
    for dispatched in &notes.dispatched {
        let marker = &dispatched.marker;
        let Some(row) = rows.get(&dispatched.run).filter(|row| row.name == *marker) else {
            wrong.push(format!("{marker} was acknowledged and is not there"));
            continue;
        };
        let times = executed.get(marker.as_str()).copied().unwrap_or_default();
        if row.status == "success" && (times != 1 || numbers(&row.output, marker) != expected()) {
            let output = &row.output;
            wrong.push(format!(
                "{marker} is a success, executed {times} times, and printed:\n{output}"
            ));
        }
        let ended = ["success", "failure", "canceled"];
        if !ended.contains(&row.status.as_str())
            || (row.status == "canceled" && !dispatched.is_canceled && !may_be_canceled(marker))
        {
            wrong.push(format!("{marker} ended as {}", row.status));
        }
    }
}

/// Whether a cancellation was asked for, acknowledged or not.
fn may_be_canceled(marker: &str) -> bool {
    let number = marker.rsplit('-').next().and_then(|number| number.parse::<u64>().ok());
    number.is_some_and(crate::load::is_canceled)
}

fn expected() -> Vec<usize> {
    (1..=LINES).collect()
}

/// The numbers of the lines that a run printed, in their order.
fn numbers(output: &str, marker: &str) -> Vec<usize> {
    let end = format!(" of {marker}");
    let number = |line: &str| {
        // As it is, or as a task of Ansible shows it.
        let line = line.trim().trim_start_matches("\"msg\": ").trim_matches('"');
        line.strip_prefix("line ")?.strip_suffix(&end)?.parse().ok()
    };
    output.lines().filter_map(number).collect()
}

async fn uploads(
    database: &Client,
    rows: &HashMap<Uuid, Row>,
    notes: &Notes,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let stored = database.query("SELECT id, state FROM uploads", &[]).await?;
    let stored: HashMap<Uuid, String> =
        stored.into_iter().map(|row| (row.get(0), row.get(1))).collect();
    for (upload, run) in &notes.uploads {
        let state = stored.get(upload).map_or("missing", String::as_str);
        let status = rows.get(run).map_or("missing", |row| row.status.as_str());
        if (state, status) != ("applied", "success") {
            wrong.push(format!("upload {upload} is {state}, its run {run} is {status}"));
        }
    }
    Ok(())
}

fn place(message: &Message) -> Option<(Uuid, i64)> {
    let run = message.header("run_id")?.as_str()?.parse().ok()?;
    Some((run, message.header("run_seq")?.as_i64()?))
}

fn distinct(messages: &[Message]) -> usize {
    let places: std::collections::HashSet<_> = messages.iter().filter_map(place).collect();
    places.len()
}

fn events(expected: &HashMap<Uuid, i64>, messages: &[Message], wrong: &mut Vec<String>) {
    let mut seen: HashMap<Uuid, Vec<i64>> = HashMap::new();
    for message in messages {
        let Some((run, number)) = place(message) else {
            wrong.push(format!("an event without run and number: {message:?}"));
            continue;
        };
        let of_run = seen.entry(run).or_default();
        if !of_run.contains(&number) {
            of_run.push(number);
        }
    }
    for (run, last) in expected {
        let came = seen.remove(run).unwrap_or_default();
        if came != (1..=*last).collect::<Vec<_>>() {
            wrong.push(format!("of run {run} with {last} events came, in this order: {came:?}"));
        }
    }
    wrong.extend(seen.keys().map(|run| format!("events of run {run}, which is not there")));
}
