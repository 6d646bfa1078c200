//! How a followed run ended: the summary line and the exit status.

use std::{collections::BTreeMap, io::IsTerminal};

use dispatcher_wire::{
    RunStatus,
    view::{RunHostView, RunView},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cli::At,
    client::Client,
    listings::{self, PAGE, Page},
    output::{self, ColorChoice, Format, note},
    text,
    trouble::{Result, status},
};

/// Up to how many hosts are named one by one.
const MOST_NAMED: usize = 5;

/// The exit status of an outcome.
pub(crate) fn exit_status(outcome: RunStatus) -> u8 {
    match outcome {
        // Nobody ends while it is running; a status is needed all the same.
        RunStatus::Success | RunStatus::Running => status::SUCCESS,
        RunStatus::Failure => status::FAILURE,
        RunStatus::Canceled => status::CANCELED,
        RunStatus::Timeout => status::TIMEOUT,
    }
}

/// The query for the hosts of a run.
pub(crate) fn of_run(run: Uuid) -> [(String, String); 2] {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    [pair("filter[run][id]", run.to_string()), pair("fields[data]", "host,status".to_owned())]
}

/// Tells how the run ended: a summary for people on standard error, or the run as data.
pub(crate) async fn tell(at: &At, client: &Client, run: &RunView) -> Result<u8> {
    let page: Result<Page<RunHostView>> =
        listings::page(client, &["run_hosts"], &of_run(run.id), PAGE, 0).await;
    let (hosts, total) = match page {
        Ok(page) => {
            let total = page.meta.map_or(page.data.len() as u64, |meta| meta.total);
            (page.data, total)
        }
        Err(trouble) => {
            note(&format!("note: its hosts are not known: {}", text::clean(trouble.message())));
            (Vec::new(), 0)
        }
    };
    note(&summary(run, &hosts, total, at.color));
    if let Some(error) = &run.error {
        note(&format!("  {}: {}", text::clean(&error.code), text::clean(&error.details)));
    }
    if at.output != Format::Table {
        output::data(at.output, &as_data(run, &hosts))?;
    }
    Ok(exit_status(run.status))
}

fn as_data(run: &RunView, hosts: &[RunHostView]) -> Value {
    let mut value = json!(run);
    if let Some(members) = value.as_object_mut() {
        members.insert("hosts".to_owned(), json!(hosts));
    }
    value
}

fn summary(run: &RunView, hosts: &[RunHostView], total: u64, color: ColorChoice) -> String {
    let paints = color.paints(&std::io::stderr());
    let took = text::span(&run.created_at, &run.updated_at).unwrap_or_default();
    let status = word(run.status, paints);
    let space = if std::io::stderr().is_terminal() { "\n" } else { "" };
    format!("{space}{status} after {took}{}", host_part(hosts, total, paints))
}

fn host_part(hosts: &[RunHostView], total: u64, paints: bool) -> String {
    let known = |host: &RunHostView| Some((host.host.clone()?, host.status?));
    let hosts: Vec<_> = hosts.iter().filter_map(known).collect();
    if hosts.is_empty() {
        return String::new();
    }
    if total <= MOST_NAMED as u64 {
        let named: Vec<_> = hosts
            .iter()
            .map(|(host, status)| format!("{} {}", text::clean(host), word(*status, paints)))
            .collect();
        return format!("  ({})", named.join(", "));
    }
    let mut counts = BTreeMap::new();
    for (_, status) in &hosts {
        *counts.entry(status.as_str()).or_insert(0) += 1;
    }
    let counted: Vec<_> =
        counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let unseen = total.saturating_sub(hosts.len() as u64);
    let more = if unseen > 0 { format!(", {unseen} more") } else { String::new() };
    format!("  ({total} hosts: {}{more}{})", counted.join(", "), not_well(&hosts))
}

/// Those that need somebody to look at them.
fn not_well(hosts: &[(String, RunStatus)]) -> String {
    let failed: Vec<_> = hosts.iter().filter(|(_, status)| *status == RunStatus::Failure).collect();
    if failed.is_empty() {
        return String::new();
    }
    let names: Vec<_> = failed.iter().take(MOST_NAMED).map(|(host, _)| text::clean(host)).collect();
    let more = if failed.len() > MOST_NAMED { ", …" } else { "" };
    format!("; failed: {}{more}", names.join(", "))
}

fn word(status: RunStatus, paints: bool) -> String {
    if !paints {
        return status.to_string();
    }
    let code = match status {
        RunStatus::Success => 32,
        RunStatus::Failure => 31,
        RunStatus::Timeout => 35,
        RunStatus::Canceled => 33,
        RunStatus::Running => 36,
    };
    format!("\x1b[{code}m{status}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, status: RunStatus) -> RunHostView {
        RunHostView { host: Some(name.to_owned()), status: Some(status), stdout: None }
    }

    #[test]
    fn few_hosts_are_named_and_many_are_counted() {
        let few = [host("a", RunStatus::Success), host("b", RunStatus::Failure)];
        assert_eq!(host_part(&few, 2, false), "  (a success, b failure)");
        assert_eq!(host_part(&[], 0, false), "");
        let mut many: Vec<_> = (0..9).map(|n| host(&format!("h{n}"), RunStatus::Success)).collect();
        many.push(host("bad", RunStatus::Failure));
        let want = "  (300 hosts: 1 failure, 9 success, 290 more; failed: bad)";
        assert_eq!(host_part(&many, 300, false), want);
    }

    #[test]
    fn every_outcome_has_its_exit_status() {
        let statuses = RunStatus::ALL.map(exit_status);
        assert_eq!(statuses, [0, 0, 1, 4, 3]);
    }
}
