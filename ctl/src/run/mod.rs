//! `dispatchctl run`: everything typed is checked first, then the playbook is stored where it is a
//! local one, then the run is dispatched, then (if asked) followed to its end.

pub(crate) mod dispatch;

use std::path::Path;

use dispatcher_wire::view::PlaybookView;
use serde_json::json;
use uuid::Uuid;

use self::dispatch::Wish;
use crate::{
    cli::{At, RunArgs},
    client::Client,
    follow::{self, Target, interrupt::OnInterrupt},
    listings,
    output::{self, Format, note},
    playbooks::{self, Local},
    recipients::{self, Chosen},
    text,
    trouble::{Result, status},
};

/// Where the playbook comes from.
enum Source {
    Here(Local),
    Elsewhere(String),
}

/// Carries out `run`.
pub(crate) async fn run(at: &At, args: Box<RunArgs>) -> Result<u8> {
    let (source, default_name) = find(&args)?;
    let mut wish = Wish::read(&args, default_name)?;
    let name = wish.name.clone();
    let client = Client::new(at)?;
    let chosen = recipients::choose(&client, args.recipient.as_deref()).await?;
    let url = match source {
        Source::Elsewhere(url) => url,
        Source::Here(local) => {
            if recipients::is_ours(&client, &chosen).await? {
                wish.pin(local.sha256());
            }
            let stored = playbooks::store(&client, local).await?;
            listings::typed::<PlaybookView>(stored)?.url
        }
    };
    let id = dispatch::dispatch(&client, wish, url, &chosen).await?;
    if !args.follow {
        return accepted(at, id, &name, &chosen);
    }
    note(&format!("run {id}: {} on {}", text::clean(&name), text::clean(&chosen.shown())));
    let target = Target { run: id, host: None, from: 0, retries: args.patience.retries };
    let on_interrupt = OnInterrupt::of_own_run(args.cancel_on_interrupt);
    follow::follow(at, &client, &target, on_interrupt).await
}

fn find(args: &RunArgs) -> Result<(Source, String)> {
    let given = args.playbook.as_str();
    if given.starts_with("http://") || given.starts_with("https://") {
        let path = given.split(['?', '#']).next().unwrap_or(given);
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        return Ok((Source::Elsewhere(given.to_owned()), last.to_owned()));
    }
    let local = playbooks::read(Path::new(given), &args.entry)?;
    let name = local.name.clone();
    Ok((Source::Here(local), name))
}

/// The id alone on standard output, for scripts; what to do with it beside it, for people.
fn accepted(at: &At, id: Uuid, name: &str, chosen: &Chosen) -> Result<u8> {
    if at.output == Format::Table {
        output::say(&id.to_string())?;
        note(&format!("accepted: {} on {}", text::clean(name), text::clean(&chosen.shown())));
        note(&format!("follow it: dispatchctl logs -f {id}"));
    } else {
        let run = json!({"id": id, "name": name, "recipient": chosen.id, "org_id": chosen.org_id});
        output::data(at.output, &run)?;
    }
    Ok(status::SUCCESS)
}
