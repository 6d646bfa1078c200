//! `dispatchctl keys …`: make, list, replace and revoke keys of services. A secret goes to standard
//! output or to a private file, once, and nowhere else.

pub(crate) mod args;
mod confirm;
mod deliver;

use dispatcher_wire::admin::{KeyView, MadeKey, NewKey, RevokedKey, Rotation};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use self::{
    args::{CreateArgs, KeysCommand},
    deliver::Place,
};
use crate::{
    cli::At,
    client::Client,
    listings,
    output::{self, Columns, Format, cell, note},
    text,
    trouble::{Result, Trouble, status},
};

/// Carries out a command on keys.
pub(crate) async fn keys(at: &At, command: KeysCommand) -> Result<u8> {
    let client = Client::new(at)?;
    match command {
        KeysCommand::Create(args) => create(at, &client, args).await,
        KeysCommand::List { service, live } => list(at, &client, service, live).await,
        KeysCommand::Rotate { id, overlap, expires_at, to } => {
            let rotation = Rotation {
                id: Some(fresh_id()),
                overlap_seconds: u64::try_from(overlap).ok(),
                expires_at,
            };
            let place = Place::new(to.output_file)?;
            let path = ["keys", id.as_str(), "rotate"];
            let made = make(&client, &path, &rotation, rotation.id.as_deref()).await;
            let made = place.deliver(at, made)?;
            confirm::wait(&client, made.auth_version).await
        }
        KeysCommand::Revoke { id } => revoke(at, &client, &id).await,
    }
}

async fn create(at: &At, client: &Client, args: CreateArgs) -> Result<u8> {
    let org_id = if args.all_orgs { None } else { client.org().map(str::to_owned) };
    let wanted = NewKey {
        id: Some(fresh_id()),
        service: args.service,
        role: Some(args.role.as_str().to_owned()),
        org_id,
        all_orgs: args.all_orgs,
        expires_at: args.expires_at,
    };
    let place = Place::new(args.to.output_file)?;
    let made = make(client, &["keys"], &wanted, wanted.id.as_deref()).await;
    place.deliver(at, made)?;
    Ok(status::SUCCESS)
}

/// Asks for a key under an id of our choice. Where the answer is lost, a key that was made all the
/// same would open something and be known to nobody: it is revoked.
async fn make(
    client: &Client,
    path: &[&str],
    body: &impl Serialize,
    id: Option<&str>,
) -> Result<MadeKey> {
    let trouble = match client.create(path, body).await {
        Err(trouble) if trouble.is_connection() => trouble,
        answer => return answer,
    };
    let Some(id) = id else { return Err(trouble) };
    let hint = match client.end::<RevokedKey>(&["keys", id]).await {
        Ok(_) => format!("the key {id} had been made and is revoked again; try once more"),
        Err(gone) if gone.is_missing() => "no key was made; try once more".to_owned(),
        Err(_) => format!(
            "a key {id} may have been made that nobody knows; revoke it when the dispatcher \
             answers again: dispatchctl keys revoke {id}"
        ),
    };
    Err(trouble.hint(hint))
}

/// Eight random letters and digits, as ids of keys are.
fn fresh_id() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect()
}

async fn list(at: &At, client: &Client, service: Option<String>, live: bool) -> Result<u8> {
    let mut filters = Vec::new();
    filters.extend(service.map(|name| ("service".to_owned(), name)));
    filters.extend(live.then(|| ("live".to_owned(), "true".to_owned())));
    let items: Vec<Value> = listings::every(client, &["keys"], &filters).await?;
    listings::show(at, items, "there are no keys", |keys: Vec<KeyView>| {
        let now = OffsetDateTime::now_utc();
        let headers = ["KEY", "SERVICE", "ROLE", "ORG", "STATE", "AGE", "ENDS", "MADE BY"];
        let mut table = Columns::new(at, &headers);
        for key in &keys {
            let age = key.created_at.as_deref().map_or("-".to_owned(), |at| text::age(at, now));
            let state = if key.source == "settings" { "settings" } else { key.state.as_str() };
            table.row(vec![
                cell(&key.id),
                cell(&key.service),
                cell(&key.role),
                cell(key.org_id.as_deref().unwrap_or("every")),
                cell(state).fg(if key.state == "live" { output::GOOD } else { output::BAD }),
                cell(age),
                cell(key.expires_at.as_deref().unwrap_or("-")),
                cell(key.created_by.as_deref().unwrap_or("-")),
            ]);
        }
        table.print()
    })
}

async fn revoke(at: &At, client: &Client, id: &str) -> Result<u8> {
    let revoked: RevokedKey = client.end(&["keys", id]).await?;
    if at.output == Format::Table {
        note(&format!("revoked {}", deliver::line(&revoked.key)));
    } else {
        output::data(at.output, &revoked)?;
    }
    confirm::wait(client, revoked.auth_version).await
}

/// What goes wrong with a file for a key.
fn unusable(path: &std::path::Path, error: &std::io::Error) -> Trouble {
    Trouble::usage(format!("`{}` cannot take the key: {error}", path.display()))
}
