//! `dispatchctl runs list|get|cancel`.

pub(crate) mod cancel;
pub(crate) mod reference;

use std::collections::BTreeMap;

use dispatcher_wire::{
    RunStatus,
    view::{RunHostView, RunView},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    cli::{At, RunsCommand, RunsListArgs},
    client::Client,
    follow::ending,
    listings::{self, Page},
    output::{self, Columns, Format, cell, dim, note, short_id, status_cell},
    recipients, text,
    trouble::{Result, status},
};

/// What the list route is asked for.
const FIELDS: &str = "id,org_id,recipient,correlation_id,url,labels,timeout,status,service,name,\
                      web_console_url,created_at,updated_at";

/// A run of the list, as far as a table shows it.
#[derive(Deserialize, Serialize)]
struct ListedRun {
    id: Uuid,
    recipient: Uuid,
    status: RunStatus,
    name: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Value>>,
    created_at: String,
    updated_at: String,
}

/// Carries out a runs command.
pub(crate) async fn runs(at: &At, command: RunsCommand) -> Result<u8> {
    match command {
        RunsCommand::List(args) => list(at, args).await,
        RunsCommand::Get { run } => get(at, &run).await,
        RunsCommand::Cancel { runs } => cancel::cancel(at, &runs).await,
    }
}

async fn list(at: &At, args: RunsListArgs) -> Result<u8> {
    let client = Client::new(at)?;
    let filters = filters(&client, &args).await?;
    let (items, total) = if args.all {
        let items: Vec<Value> = listings::every(&client, &["runs"], &filters).await?;
        let total = items.len() as u64;
        (items, total)
    } else {
        let (limit, offset) = (u64::from(args.limit), u64::from(args.offset));
        let page: Page<Value> = listings::page(&client, &["runs"], &filters, limit, offset).await?;
        let total = page.meta.map_or(0, |meta| meta.total);
        (page.data, total)
    };
    let shown = items.len() as u64;
    let names = match at.output {
        Format::Table if !items.is_empty() => recipients::names(&client).await,
        _ => std::collections::HashMap::new(),
    };
    listings::show(at, items, "no runs", |runs| table(at, &runs, &names))?;
    if at.output == Format::Table && shown > 0 && u64::from(args.offset) + shown < total {
        note(&format!("{shown} of {total} runs; see --all, --limit and --offset"));
    }
    Ok(status::SUCCESS)
}

async fn filters(client: &Client, args: &RunsListArgs) -> Result<Vec<(String, String)>> {
    let mut filters = vec![("fields[data]".to_owned(), FIELDS.to_owned())];
    if let Some(status) = args.status {
        filters.push(("filter[status]".to_owned(), status.to_string()));
    }
    if let Some(service) = &args.service {
        filters.push(("filter[service]".to_owned(), service.clone()));
    }
    if let Some(recipient) = &args.recipient {
        let id = recipients::id_of(client, recipient).await?;
        filters.push(("filter[recipient]".to_owned(), id.to_string()));
    }
    for (key, value) in &args.labels {
        filters.push((format!("filter[labels][{key}]"), value.clone()));
    }
    Ok(filters)
}

fn table(
    at: &At,
    runs: &[ListedRun],
    names: &std::collections::HashMap<Uuid, String>,
) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    let mut table =
        Columns::new(at, &["RUN", "STATUS", "NAME", "RECIPIENT", "AGE", "TOOK", "LABELS"]);
    for run in runs {
        let took = if run.status.is_final() {
            text::span(&run.created_at, &run.updated_at).unwrap_or_default()
        } else {
            "-".to_owned()
        };
        let recipient = names.get(&run.recipient).cloned();
        table.row(vec![
            cell(short_id(&run.id)),
            status_cell(run.status),
            cell(run.name.as_deref().unwrap_or("-")),
            cell(recipient.unwrap_or_else(|| short_id(&run.recipient))),
            cell(text::age(&run.created_at, now)),
            cell(took),
            cell(labels(run.labels.as_ref())),
        ]);
    }
    table.print()
}

fn labels(labels: Option<&BTreeMap<String, Value>>) -> String {
    let shown: Vec<_> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key}={text}"),
            None => format!("{key}={value}"),
        })
        .collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(" ") }
}

async fn get(at: &At, typed: &str) -> Result<u8> {
    let client = Client::new(at)?;
    let id = reference::find(&client, typed).await?;
    let mut run: Value = client.get(&["runs", &id.to_string()], &[]).await?;
    let hosts: Vec<Value> = listings::every(&client, &["run_hosts"], &ending::of_run(id)).await?;
    if at.output != Format::Table {
        if let Some(members) = run.as_object_mut() {
            members.insert("hosts".to_owned(), Value::Array(hosts));
        }
        output::data(at.output, &run)?;
        return Ok(status::SUCCESS);
    }
    details(at, &listings::typed(run)?)?;
    let hosts: Vec<RunHostView> = hosts.into_iter().map(listings::typed).collect::<Result<_>>()?;
    hosts_table(at, &hosts)?;
    Ok(status::SUCCESS)
}

fn details(at: &At, run: &RunView) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    let created = format!("{} ({} ago)", run.created_at, text::age(&run.created_at, now));
    let took = text::span(&run.created_at, &run.updated_at).filter(|_| run.status.is_final());
    let error = run.error.as_ref().map(|error| format!("{}: {}", error.code, error.details));
    let labels: Vec<_> = run.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut table = Columns::new(at, &[]);
    table.row(vec![dim("run"), cell(run.id.to_string())]);
    table.row(vec![dim("status"), status_cell(run.status)]);
    for (name, value) in [
        ("waiting", run.pending_reason.clone()),
        ("error", error),
        ("name", run.name.clone()),
        ("recipient", Some(run.recipient.to_string())),
        ("org", Some(run.org_id.clone())),
        ("service", Some(run.service.clone())),
        ("labels", Some(labels.join(" ")).filter(|labels| !labels.is_empty())),
        ("playbook", Some(run.url.clone())),
        ("created", Some(created)),
        ("took", took),
        ("timeout", Some(format!("{}s", run.timeout))),
        ("output", Some(text::bytes(run.output_bytes))),
    ] {
        if let Some(value) = value {
            table.row(vec![dim(name), cell(value)]);
        }
    }
    table.print()
}

fn hosts_table(at: &At, hosts: &[RunHostView]) -> Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    output::say("")?;
    let mut table = Columns::new(at, &["HOST", "STATUS"]);
    for host in hosts {
        let status = host.status.map_or_else(|| cell("-"), status_cell);
        table.row(vec![cell(host.host.as_deref().unwrap_or("-")), status]);
    }
    table.print()
}
