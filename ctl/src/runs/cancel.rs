//! Canceling runs, one outcome each.

use std::collections::BTreeMap;

use dispatcher_wire::{
    dispatch::{CancelItem, RunCanceled},
    view::RunView,
};
use serde_json::json;
use uuid::Uuid;

use super::reference;
use crate::{
    cli::At,
    client::Client,
    output::{self, BAD, Columns, Format, GOOD, cell},
    run::dispatch,
    text,
    trouble::{Result, Trouble, status},
};

/// The most runs that one request may cancel.
const MOST: usize = 50;
/// The code of a cancellation that is under way.
const ACCEPTED: u16 = 202;
const NOT_FOUND: u16 = 404;

/// Carries out `runs cancel`.
pub(crate) async fn cancel(at: &At, typed: &[String]) -> Result<u8> {
    let client = Client::new(at)?;
    let runs = reference::find_all(&client, typed).await?;
    let mut outcomes = Vec::with_capacity(runs.len());
    for some in runs.chunks(MOST) {
        outcomes.extend(request(&client, some).await?);
    }
    show(at, &outcomes)?;
    let all = outcomes.iter().all(|(_, code)| *code == ACCEPTED);
    Ok(if all { status::SUCCESS } else { status::FAILURE })
}

/// Cancels one run.
pub(crate) async fn cancel_one(client: &Client, run: Uuid) -> Result<()> {
    match request(client, &[run]).await?.as_slice() {
        [(_, ACCEPTED)] => Ok(()),
        [(_, code)] => Err(Trouble::failed(meaning(*code))),
        _ => Err(Trouble::connection("the dispatcher did not say whether the run is canceled")),
    }
}

/// Codes by run, in their order. A run whose organisation cannot be found out is not there.
async fn request(client: &Client, runs: &[Uuid]) -> Result<Vec<(Uuid, u16)>> {
    let mut orgs = BTreeMap::new();
    for run in runs {
        if let Some(org) = org_of(client, *run).await? {
            orgs.insert(*run, org);
        }
    }
    let items: Vec<_> =
        runs.iter().filter_map(|run| Some(item(*run, orgs.get(run)?.clone()))).collect();
    let answers: Vec<RunCanceled> = match items.as_slice() {
        [] => Vec::new(),
        items => client.post(&["internal", "v2", "cancel"], None, &items).await?,
    };
    if answers.len() != items.len() {
        return Err(Trouble::connection("the dispatcher did not answer for every run"));
    }
    // By position: where a run was refused, the answer does not carry its id.
    let codes: BTreeMap<_, _> =
        items.iter().map(|item| item.run_id).zip(answers.iter().map(|a| a.code)).collect();
    Ok(runs.iter().map(|run| (*run, codes.get(run).copied().unwrap_or(NOT_FOUND))).collect())
}

fn item(run_id: Uuid, org_id: String) -> CancelItem {
    CancelItem { run_id, org_id, principal: dispatch::principal() }
}

async fn org_of(client: &Client, run: Uuid) -> Result<Option<String>> {
    if let Some(org) = client.org() {
        return Ok(Some(org.to_owned()));
    }
    let view: Option<RunView> = client.get_if_there(&["runs", &run.to_string()]).await?;
    Ok(view.map(|view| view.org_id))
}

fn show(at: &At, outcomes: &[(Uuid, u16)]) -> Result<()> {
    if at.output != Format::Table {
        let all: Vec<_> = outcomes
            .iter()
            .map(|(run, code)| json!({"run_id": run, "code": code, "outcome": meaning(*code)}))
            .collect();
        return output::data(at.output, &all);
    }
    let mut table = Columns::new(at, &["RUN", "OUTCOME"]);
    for (run, code) in outcomes {
        let colour = if *code == ACCEPTED { GOOD } else { BAD };
        table.row(vec![cell(run.to_string()), cell(text::clean(&meaning(*code))).fg(colour)]);
    }
    table.print()
}

fn meaning(code: u16) -> String {
    match code {
        ACCEPTED => "cancel requested".to_owned(),
        400 => "refused: it belongs to another organisation, or its recipient cannot cancel runs"
            .to_owned(),
        NOT_FOUND => "there is no such run".to_owned(),
        409 => "refused: it has already ended, or its recipient is not connected".to_owned(),
        500.. => format!("failed inside the dispatcher (code {code}); try again"),
        code => format!("refused with code {code}"),
    }
}
