//! `dispatchctl recipients …`: who is registered, what is known of them, and the tokens with which
//! new ones register.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::{Args, Subcommand};
use dispatcher_wire::{
    registration::{TokenReply, TokenRequest},
    view::{RecipientDetailView, RecipientView},
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    cli::At,
    client::Client,
    inputs, listings,
    output::{self, Columns, Format, cell, note},
    recipients, text,
    trouble::{Result, Trouble, status},
};

/// `recipients`; alone, it lists them.
#[derive(Args, Debug)]
pub(crate) struct RecipientsArgs {
    #[command(subcommand)]
    command: Option<RecipientsCommand>,
}

#[derive(Debug, Subcommand)]
enum RecipientsCommand {
    /// List them
    List {
        /// Only those with this label; repeatable
        #[arg(long = "label", value_name = "K=V", value_parser = inputs::pair)]
        labels: Vec<(String, String)>,
    },
    /// Show one, with what its worker says of its host
    Show {
        /// Its name or id
        recipient: String,
    },
    /// Give one these labels, instead of those it has
    Label {
        /// Its name or id
        recipient: String,
        /// All its labels from now on; none removes them
        #[arg(value_name = "K=V", value_parser = inputs::pair)]
        labels: Vec<(String, String)>,
    },
    /// Remove one: its worker's key is refused from then on, its runs stay (for admins)
    Remove {
        /// Its name or id
        recipient: String,
    },
    /// Tokens with which workers register
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Print a token that registers one worker, once
    Create(TokenArgs),
}

#[derive(Args, Debug)]
struct TokenArgs {
    /// What people call the recipient; the worker's host name when absent
    #[arg(long)]
    name: Option<String>,
    /// A label of the recipient; repeatable
    #[arg(long = "label", value_name = "K=V", value_parser = inputs::pair)]
    labels: Vec<(String, String)>,
    /// Only this recipient may register with it; for admins where it is registered already
    #[arg(long, value_name = "UUID")]
    recipient: Option<Uuid>,
    /// For how long it may be used: 90, 30s, 15m, at most 1h
    #[arg(long, value_name = "TIME", value_parser = inputs::timeout)]
    expires_in: Option<i32>,
}

/// Carries out a recipients command.
pub(crate) async fn recipients(at: &At, args: RecipientsArgs) -> Result<u8> {
    let client = Client::new(at)?;
    match args.command {
        None => list(at, &client, &[]).await,
        Some(RecipientsCommand::List { labels }) => list(at, &client, &labels).await,
        Some(RecipientsCommand::Show { recipient }) => {
            let id = recipients::id_of(&client, &recipient).await?.to_string();
            show(at, client.get(&["recipients", &id], &[]).await?)
        }
        Some(RecipientsCommand::Label { recipient, labels }) => {
            let id = recipients::id_of(&client, &recipient).await?.to_string();
            let labels = inputs::labels(&labels)?.unwrap_or_default();
            let path = ["recipients", id.as_str(), "labels"];
            let body = Bytes::from(json!(labels).to_string());
            show(at, client.put(&path, &[], "application/json", body).await?)
        }
        Some(RecipientsCommand::Remove { recipient }) => {
            let id = recipients::id_of(&client, &recipient).await?.to_string();
            client.delete(&["recipients", &id]).await?;
            note(&format!("removed {id}; its worker's key is refused from now on"));
            Ok(status::SUCCESS)
        }
        Some(RecipientsCommand::Token(TokenCommand::Create(wish))) => {
            create_token(at, &client, wish).await
        }
    }
}

async fn list(at: &At, client: &Client, labels: &[(String, String)]) -> Result<u8> {
    let filter =
        |(name, value): &(String, String)| (format!("filter[labels][{name}]"), value.clone());
    let filters: Vec<_> = labels.iter().map(filter).collect();
    let items = listings::every(client, &["recipients"], &filters).await?;
    listings::show(at, items, "no recipients are registered", |known: Vec<RecipientView>| {
        let now = OffsetDateTime::now_utc();
        let headers =
            ["RECIPIENT", "NAME", "CONNECTED", "SEEN", "ACTIVE RUNS", "VERSION", "LABELS"];
        let mut table = Columns::new(at, &headers);
        for recipient in &known {
            table.row(vec![
                cell(recipient.id.to_string()),
                cell(&recipient.name),
                presence(recipient),
                cell(seen(recipient, now)),
                cell(recipient.active_runs.to_string()),
                cell(recipient.version.as_deref().unwrap_or("-")),
                cell(shown(&recipient.labels)),
            ]);
        }
        table.print()
    })
}

fn presence(recipient: &RecipientView) -> comfy_table::Cell {
    match (recipient.connected, &recipient.paused) {
        (true, None) => cell("yes").fg(output::GOOD),
        (true, Some(_)) => cell("yes, paused").fg(output::BUSY),
        (false, _) => cell("no").fg(output::BAD),
    }
}

fn seen(recipient: &RecipientView, now: OffsetDateTime) -> String {
    recipient.last_seen.as_deref().map_or("never".to_owned(), |then| text::age(then, now))
}

fn shown(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "-".to_owned();
    }
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn show(at: &At, value: Value) -> Result<u8> {
    if at.output != Format::Table {
        output::data(at.output, &value)?;
        return Ok(status::SUCCESS);
    }
    let RecipientDetailView { recipient, created_at, facts, .. } = listings::typed(value)?;
    let mut table = Columns::new(at, &[]);
    let now = OffsetDateTime::now_utc();
    table.row(vec![output::dim("recipient"), cell(recipient.id.to_string())]);
    table.row(vec![output::dim("name"), cell(&recipient.name)]);
    table.row(vec![output::dim("connected"), presence(&recipient)]);
    for (name, value) in [
        ("seen", seen(&recipient, now)),
        ("paused", recipient.paused.clone().unwrap_or_default()),
        ("active runs", recipient.active_runs.to_string()),
        ("labels", shown(&recipient.labels)),
        ("registered", created_at),
    ] {
        if !value.is_empty() {
            table.row(vec![output::dim(name), cell(value)]);
        }
    }
    for (name, value) in facts.unwrap_or_default().iter().filter(|(name, _)| *name != "paused") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.row(vec![output::dim(&text::clean(name)), cell(value)]);
    }
    table.print()?;
    Ok(status::SUCCESS)
}

/// The token alone on standard output, for files and pipes.
async fn create_token(at: &At, client: &Client, wish: TokenArgs) -> Result<u8> {
    let TokenArgs { name, labels, recipient, expires_in } = wish;
    let expires_in = expires_in
        .map(|seconds| {
            u32::try_from(seconds).map_err(|_| Trouble::usage("--expires-in is negative"))
        })
        .transpose()?;
    let labels = inputs::labels(&labels)?.unwrap_or_default();
    let request = TokenRequest { name, labels, recipient, expires_in };
    let made: TokenReply = client.create(&["recipients", "registrations"], &request).await?;
    if at.output != Format::Table {
        output::data(at.output, &made)?;
        return Ok(status::SUCCESS);
    }
    output::say(&made.token)?;
    note(&format!(
        "registers one worker of organisation {}, until {}",
        made.org_id, made.expires_at
    ));
    note("on the host: dispatcher-worker register --url URL --token-file FILE");
    Ok(status::SUCCESS)
}
