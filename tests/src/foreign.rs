//! A foreign host: writes job events as existing executors do, packs them and sends them back.

use std::io::Write as _;

use anyhow::{Context, Result};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use uuid::Uuid;

/// The content type of plain runner events.
pub const JSONL: &str = "application/vnd.redhat.playbook.v1+jsonl";
const BOUNDARY: &str = "a-boundary-that-no-archive-contains";

/// What a run on these hosts reports, start to end: one line of output per host.
#[must_use]
pub fn transcript(correlation_id: Uuid, hosts: &[&str]) -> Vec<Value> {
    let mut events = vec![json!({
        "event": "executor_on_start", "uuid": Uuid::new_v4(), "counter": -1, "stdout": "",
        "start_line": 0, "end_line": 0,
        "event_data": { "crc_dispatcher_correlation_id": correlation_id },
    })];
    for (index, host) in hosts.iter().enumerate() {
        events.push(json!({
            "event": "runner_on_ok", "uuid": Uuid::new_v4(), "counter": index + 1,
            "stdout": format!("ok: [{host}]"), "start_line": index, "end_line": index + 1,
            "event_data": { "host": host, "playbook": "site.yml" },
        }));
    }
    events.push(stats(hosts.len() + 1, &[], &[]));
    events
}

/// The last event, with counts.
#[must_use]
pub fn stats(counter: usize, failed: &[&str], unreachable: &[&str]) -> Value {
    let once =
        |hosts: &[&str]| hosts.iter().map(|host| ((*host).to_owned(), json!(1))).collect::<Value>();
    json!({
        "event": "playbook_on_stats", "uuid": Uuid::new_v4(), "counter": counter,
        "stdout": "PLAY RECAP", "start_line": counter, "end_line": counter + 1,
        "event_data": { "failures": once(failed), "dark": once(unreachable) },
    })
}

/// Events as lines.
#[must_use]
pub fn lines(events: &[Value]) -> Vec<u8> {
    events.iter().flat_map(|event| format!("{event}\n").into_bytes()).collect()
}

/// Packed with gzip.
///
/// # Errors
/// Never: memory takes everything.
pub fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(content)?;
    Ok(packer.finish()?)
}

/// Packed with xz.
///
/// # Errors
/// Never: memory takes everything.
pub fn xz(content: &[u8]) -> Result<Vec<u8>> {
    let mut packer = liblzma::write::XzEncoder::new(Vec::new(), 1);
    packer.write_all(content)?;
    Ok(packer.finish()?)
}

/// The body of a request with one part, and the request's content type.
#[must_use]
pub fn form(part: &str, content_type: Option<&str>, content: &[u8]) -> (String, Vec<u8>) {
    let mut body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"events\"\r\n"
    )
    .into_bytes();
    if let Some(kind) = content_type {
        body.extend(format!("Content-Type: {kind}\r\n").into_bytes());
    }
    body.extend(b"\r\n");
    body.extend(content);
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").into_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// Sends an archive to a return address, as hosts do.
///
/// # Errors
/// When there is no answer.
pub async fn send(return_url: &str, archive: &[u8]) -> Result<Response> {
    let (kind, body) = form("file", Some(JSONL), archive);
    let request = Client::new().post(return_url).header("content-type", kind).body(body);
    Ok(request.send().await?)
}

/// Sends an archive that is taken; answers with its request id.
///
/// # Errors
/// When it is not taken.
pub async fn accepted(return_url: &str, archive: &[u8]) -> Result<Uuid> {
    let answer = send(return_url, archive).await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    anyhow::ensure!(status == 202, "{status}: {body}");
    let id = body.get("request_id").and_then(Value::as_str).context("a request id")?;
    Ok(id.parse()?)
}
