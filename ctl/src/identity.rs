//! `dispatchctl identity`: who the dispatcher takes one for.

use dispatcher_wire::view::IdentityAnswer;
use serde_json::Value;

use crate::{
    cli::At,
    client::Client,
    listings::typed,
    output::{self, Columns, Format, cell, dim},
    trouble::{Result, status},
};

/// Shows who one is.
pub(crate) async fn identity(at: &At) -> Result<u8> {
    let client = Client::new(at)?;
    let answer: Value = client.get(&["identity"], &[]).await?;
    if at.output == Format::Table {
        table(at, &typed::<IdentityAnswer>(answer)?)?;
    } else {
        output::data(at.output, &answer)?;
    }
    Ok(status::SUCCESS)
}

fn table(at: &At, answer: &IdentityAnswer) -> Result<()> {
    let who = &answer.identity;
    let org = who.org_id.as_deref().unwrap_or("every one");
    let mut table = Columns::new(at, &[]);
    let mut row = |name, value: &str| table.row(vec![dim(name), cell(value)]);
    row("kind", &who.kind);
    row("id", &who.id);
    who.name.iter().for_each(|name| row("name", name));
    row("organisation", org);
    row("role", &who.role);
    row("known by", &who.way);
    who.key_id.iter().for_each(|id| row("key", id));
    who.expires_at.iter().for_each(|end| row("ends", end));
    who.last_auth_at.iter().for_each(|at| row("last seen", at));
    table.print()
}
