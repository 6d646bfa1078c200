//! Stored playbooks: a file or a folder is put under a name, and dispatched by the address that
//! the dispatcher answers.

use std::path::Path;

use bytes::Bytes;
use dispatcher_wire::view::PlaybookView;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    bundle,
    cli::{At, PlaybooksCommand},
    client::Client,
    listings,
    output::{self, Columns, Format, cell, note},
    text,
    trouble::{Result, Trouble, status},
};

/// The longest name of a stored playbook.
const MAX_NAME: usize = 128;
/// How many left-out files are named.
const MOST_SKIPPED: usize = 5;

/// A playbook that was read here and can be stored.
pub(crate) struct Local {
    /// The name to store it under.
    pub(crate) name: String,
    bytes: Bytes,
    entry: Option<String>,
}

impl Local {
    /// The SHA-256 of what is stored, in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.bytes);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Carries out a playbooks command.
pub(crate) async fn playbooks(at: &At, command: PlaybooksCommand) -> Result<u8> {
    match command {
        PlaybooksCommand::List => list(at).await,
        PlaybooksCommand::Get { name } => {
            let client = Client::new(at)?;
            show(at, client.get(&["playbooks", &name], &[]).await?)
        }
        PlaybooksCommand::Put { path, name, entry } => {
            let mut local = read(&path, &entry)?;
            local.name = name.unwrap_or(local.name);
            let client = Client::new(at)?;
            show(at, store(&client, local).await?)
        }
    }
}

async fn list(at: &At) -> Result<u8> {
    let client = Client::new(at)?;
    let items = listings::every(&client, &["playbooks"], &[]).await?;
    listings::show(at, items, "no playbooks are stored", |all: Vec<PlaybookView>| {
        let now = OffsetDateTime::now_utc();
        let mut table = Columns::new(at, &["NAME", "KIND", "SIZE", "CHANGED", "SHA256"]);
        for playbook in &all {
            let kind =
                playbook.entry.as_ref().map_or("file".to_owned(), |e| format!("bundle, {e}"));
            table.row(vec![
                cell(&playbook.name),
                cell(kind),
                cell(text::bytes(u64::try_from(playbook.size).unwrap_or(0))),
                cell(text::age(&playbook.updated_at, now)),
                cell(text::shorten(&playbook.sha256, 12)),
            ]);
        }
        table.print()
    })
}

fn show(at: &At, value: Value) -> Result<u8> {
    if at.output != Format::Table {
        output::data(at.output, &value)?;
        return Ok(status::SUCCESS);
    }
    let playbook: PlaybookView = listings::typed(value)?;
    let mut table = Columns::new(at, &[]);
    let entry = playbook.entry.as_deref().unwrap_or("-");
    let size = text::bytes(u64::try_from(playbook.size).unwrap_or(0));
    for (name, value) in [
        ("name", playbook.name.as_str()),
        ("url", &playbook.url),
        ("entry", entry),
        ("size", &size),
        ("sha256", &playbook.sha256),
        ("changed", &playbook.updated_at),
    ] {
        table.row(vec![output::dim(name), cell(value)]);
    }
    table.print()?;
    Ok(status::SUCCESS)
}

/// Reads a file, or packs a folder; says what is left out.
pub(crate) fn read(path: &Path, entry: &str) -> Result<Local> {
    let shown = path.display();
    let meta = std::fs::metadata(path).map_err(|error| {
        Trouble::usage(format!("cannot read the playbook `{shown}`: {error}"))
            .hint("allowed: a file, a folder, or an address that begins with http:// or https://")
    })?;
    if meta.is_dir() {
        let bundle = bundle::pack(path, entry)?;
        tell_skipped(&bundle.skipped);
        let (name, bytes) = (stored_name(path)?, bundle.bytes.into());
        return Ok(Local { name, bytes, entry: Some(entry.to_owned()) });
    }
    let bytes = bundle::read(path, bundle::MAX_BYTES)?;
    if bytes.is_empty() {
        return Err(Trouble::usage(format!("the playbook `{shown}` is empty")));
    }
    Ok(Local { name: stored_name(path)?, bytes: bytes.into(), entry: None })
}

fn tell_skipped(skipped: &[String]) {
    for one in skipped.iter().take(MOST_SKIPPED) {
        note(&format!("note: left out: {}", text::clean(one)));
    }
    if skipped.len() > MOST_SKIPPED {
        note(&format!("note: left out {} more", skipped.len() - MOST_SKIPPED));
    }
}

/// Stores it under its name.
pub(crate) async fn store(client: &Client, local: Local) -> Result<Value> {
    let Local { name, bytes, entry } = local;
    let content_type = if entry.is_some() { "application/x-tar" } else { "application/yaml" };
    let query: Vec<_> = entry.map(|entry| ("entry".to_owned(), entry)).into_iter().collect();
    client.put(&["playbooks", &name], &query, content_type, bytes).await
}

/// A name that the dispatcher takes, made of the file's.
fn stored_name(path: &Path) -> Result<String> {
    // `.` and `..` have names, too: those of the folders they mean.
    let full = std::fs::canonicalize(path)
        .map_err(|error| Trouble::usage(format!("cannot read `{}`: {error}", path.display())))?;
    let name = path.file_name().or_else(|| full.file_name()).unwrap_or_default().to_string_lossy();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String =
        name.chars().map(|c| if allowed(c) { c } else { '-' }).take(MAX_NAME).collect();
    let name = name.trim_start_matches('.');
    Ok(if name.is_empty() { "playbook".to_owned() } else { name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_file_names() {
        let dir = tempfile::tempdir().unwrap();
        for (file, want) in
            [("hello.yml", "hello.yml"), (".a b$ü.yml", "a-b--.yml"), ("...", "playbook")]
        {
            let path = dir.path().join(file);
            std::fs::write(&path, "x").unwrap();
            assert_eq!(stored_name(&path).unwrap(), want);
        }
        let sub = dir.path().join("site");
        std::fs::create_dir(&sub).unwrap();
        assert_eq!(stored_name(&sub.join(".")).unwrap(), "site");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let error = |path: &Path| read(path, "site.yml").err().unwrap();
        assert!(error(Path::new("/no/such.yml")).message().contains("/no/such.yml"));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(error(file.path()).message().contains("empty"));
    }
}
