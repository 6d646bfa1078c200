//! One run in full: what is known of it, and why it has not started while it waits.

use std::collections::BTreeMap;

use dispatcher_wire::{
    RunStatus,
    view::{RunError, RunView},
};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::{RunDetail, RunRow, WorkView};
use crate::{
    events::model::timestamp,
    execution::model::WorkState,
    recipients::model::PRESENT_FOR,
    store::{RunStore, StoreResult},
};

/// One run of an organisation, if there is that one; only of these services, unless there are none.
///
/// # Errors
/// When the database fails.
pub async fn view(
    store: &dyn RunStore,
    org_id: &str,
    services: &[String],
    run_id: Uuid,
    now: OffsetDateTime,
) -> StoreResult<Option<RunView>> {
    let found = store.get(org_id, run_id).await?;
    let found = found.filter(|detail| detail.run.is_of_services(services));
    Ok(found.map(|detail| write(detail, services.is_empty(), now)))
}

/// `sees_all`: whether the reader may see every run of the organisation, and so the names of others.
fn write(detail: RunDetail, sees_all: bool, now: OffsetDateTime) -> RunView {
    let RunDetail { run, work, error, output_bytes } = detail;
    let status = run.status_at(now);
    let waits = work.as_ref().filter(|_| status == RunStatus::Running);
    let pending_reason = waits.and_then(|work| pending_reason(&run, work, sees_all, now));
    RunView {
        id: run.id,
        recipient: run.recipient,
        correlation_id: run.correlation_id,
        labels: labels(&run.labels),
        timeout: run.timeout,
        status,
        created_at: timestamp(run.created_at),
        updated_at: timestamp(run.updated_at),
        org_id: run.org_id,
        url: run.url,
        service: run.service,
        name: run.name,
        web_console_url: run.web_console_url.unwrap_or_default(),
        pending_reason,
        error: error.map(|(code, details)| RunError { code, details }),
        output_bytes,
    }
}

/// Why a run of our worker has not started, in the order of what a person can do about it.
fn pending_reason(
    run: &RunRow,
    work: &WorkView,
    sees_all: bool,
    now: OffsetDateTime,
) -> Option<String> {
    let recipient = run.recipient;
    match work.state {
        WorkState::Started | WorkState::Done => return None,
        WorkState::Claimed => {
            return Some(format!("the worker of recipient {recipient} is preparing it"));
        }
        WorkState::Pending => {}
    }
    let Some(seen) = work.recipient_seen else {
        return Some(format!("waiting for recipient {recipient}: its worker was never seen"));
    };
    if seen + PRESENT_FOR <= now {
        let seen = timestamp(seen);
        return Some(format!("waiting for recipient {recipient}: its worker was last seen {seen}"));
    }
    Some(match work.busy_with {
        Some(other) if sees_all => format!("recipient {recipient} is busy with run {other}"),
        Some(_) => format!("recipient {recipient} is busy with another run"),
        None => "waiting to be claimed".to_owned(),
    })
}

/// Labels as stored by us; anything else in a database of the original reads as none.
fn labels(stored: &Value) -> BTreeMap<String, String> {
    let members = stored.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::{Duration, macros::datetime};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-08-01 10:00 UTC);

    fn detail(work: Option<WorkView>) -> RunDetail {
        let run = RunRow {
            id: Uuid::from_u128(1),
            org_id: "1".to_owned(),
            recipient: Uuid::from_u128(2),
            correlation_id: Uuid::from_u128(3),
            url: "https://example.com".to_owned(),
            labels: json!({"a": "b", "n": 1}),
            status: RunStatus::Running,
            timeout: 60,
            service: "tasks".to_owned(),
            name: None,
            web_console_url: None,
            principal: None,
            sat_id: None,
            sat_org_id: None,
            response_full: true,
            created_at: NOW,
            updated_at: NOW,
        };
        RunDetail { run, work, error: None, output_bytes: 7 }
    }

    fn reason(state: WorkState, seen_ago: Option<i64>, busy: bool) -> Option<String> {
        let work = WorkView {
            state,
            busy_with: busy.then(|| Uuid::from_u128(9)),
            recipient_seen: seen_ago.map(|ago| NOW - Duration::seconds(ago)),
            cancel_requested: false,
        };
        write(detail(Some(work)), true, NOW).pending_reason
    }

    #[test]
    fn a_waiting_run_says_why() {
        let pending = |seen, busy| reason(WorkState::Pending, seen, busy).unwrap();
        assert!(pending(None, false).ends_with("its worker was never seen"));
        assert!(pending(Some(60), true).ends_with("was last seen 2026-08-01T09:59:00Z"));
        let busy = "recipient 00000000-0000-0000-0000-000000000002 is busy with run \
                    00000000-0000-0000-0000-000000000009";
        assert_eq!(pending(Some(1), true), busy);
        assert_eq!(pending(Some(1), false), "waiting to be claimed");
        let work = WorkView {
            state: WorkState::Pending,
            busy_with: Some(Uuid::from_u128(9)),
            recipient_seen: Some(NOW),
            cancel_requested: false,
        };
        let told = write(detail(Some(work)), false, NOW).pending_reason.unwrap();
        assert!(told.ends_with("is busy with another run"), "{told}");
        assert!(reason(WorkState::Claimed, Some(1), false).unwrap().ends_with("preparing it"));
        assert_eq!(reason(WorkState::Started, Some(1), false), None);
        assert_eq!(reason(WorkState::Done, None, false), None);
    }

    #[test]
    fn an_expired_run_waits_for_nothing() {
        let work = WorkView {
            state: WorkState::Pending,
            busy_with: None,
            recipient_seen: None,
            cancel_requested: false,
        };
        let view = write(detail(Some(work)), true, NOW + Duration::seconds(60));
        assert_eq!((view.status, view.pending_reason), (RunStatus::Timeout, None));
    }

    #[test]
    fn errors_and_odd_labels_are_shown_as_they_can_be() {
        let error = Some(("UNDEFINED_ERROR".to_owned(), "why".to_owned()));
        let view = write(RunDetail { error, ..detail(None) }, true, NOW);
        assert_eq!(view.error.unwrap().details, "why");
        assert_eq!(view.labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!((view.pending_reason, view.output_bytes), (None, 7));
    }
}
