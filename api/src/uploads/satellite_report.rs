//! From the events of a Satellite to what they say of their run and its hosts (contract §5.2), and
//! the events as they are stored.

use std::collections::BTreeMap;

use dispatcher_wire::satellite::{SatelliteEvent, SatelliteEventKind};

use super::{
    log::fitting,
    progress::{Piece, Place},
    satellite::{HostReport, SatelliteUpdate},
    satellite_events::{Events, Read},
    update::{MAX_DETAILS, TRUNCATED},
};
use crate::config::uploads::Keeping;

/// The code that stands for a Satellite that was not reached.
const CONNECTION: &str = "SATELLITE_CONNECTION_ERROR";
/// The code that stands for a Satellite that did not work.
const INFRASTRUCTURE: &str = "SATELLITE_INFRASTRUCTURE_ERROR";

/// What these events say.
#[must_use]
pub fn update(mut found: Events, keeping: &Keeping) -> SatelliteUpdate {
    // Stable: those without a sequence come last, and equals stay in upload order.
    found.events.sort_by_key(|read| place(&read.event).sequence);
    let mut update = SatelliteUpdate {
        correlation_id: found.correlation_id,
        hosts: BTreeMap::new(),
        all_hosts: HostReport::default(),
        completed: None,
        events: Vec::new(),
        error: found.events.iter().find_map(|read| error(&read.event)),
        log_max: keeping.log_max,
        log_total: keeping.log_total,
    };
    for Read { event, host, .. } in &found.events {
        let report = match host {
            Some(host) => update.hosts.entry(*host).or_default(),
            None => &mut update.all_hosts,
        };
        note(report, event);
        if event.kind == SatelliteEventKind::Completed && update.completed.is_none() {
            update.completed = event.status;
        }
    }
    shorten(&mut found, keeping);
    update.events = found.events.into_iter().map(|read| read.event).collect();
    update
}

fn place(event: &SatelliteEvent) -> Place {
    // A real sequence never stands where those without one do.
    let sequence = event.sequence.map_or(Place::LAST, |sequence| sequence.min(Place::LAST - 1));
    Place { sequence, kind: event.kind as u8 }
}

fn note(report: &mut HostReport, event: &SatelliteEvent) {
    let place = place(event);
    let text: String = event.texts().collect();
    if !place.is_last() || !text.is_empty() {
        report.pieces.push(Piece { place, text });
    }
    let Some(status) = event.status else { return };
    report.reported = Some((place.sequence, status));
    if event.kind == SatelliteEventKind::Finished && report.finished.is_none() {
        report.finished = Some(status);
    }
}

fn error(event: &SatelliteEvent) -> Option<(String, String)> {
    let failed = |code: Option<i64>| code.is_some_and(|code| code != 0);
    let (code, text) = if failed(event.satellite_connection_code) {
        (CONNECTION, &event.satellite_connection_error)
    } else if failed(event.satellite_infrastructure_code) {
        (INFRASTRUCTURE, &event.satellite_infrastructure_error)
    } else {
        return None;
    };
    let text = text.as_deref().unwrap_or_default();
    Some((code.to_owned(), fitting(text, MAX_DETAILS).to_owned()))
}

/// Shortens the texts of a large upload's events as the contract says (§4.4), between characters. The
/// first output that is left out says so; where there is none, there is none to leave out.
fn shorten(found: &mut Events, keeping: &Keeping) {
    if found.opened.bytes < keeping.truncate_from {
        return;
    }
    let mut late: Vec<&mut Read> = Vec::new();
    for read in &mut found.events {
        let SatelliteEvent {
            console,
            satellite_connection_error,
            satellite_infrastructure_error,
            ..
        } = &mut read.event;
        let texts = [console, satellite_connection_error, satellite_infrastructure_error];
        for text in texts.into_iter().flatten().filter(|text| text.len() > keeping.field_size) {
            *text = format!("{}...", fitting(text, keeping.field_size));
        }
        if read.line > keeping.after_lines && read.event.console.is_some() {
            late.push(read);
        }
    }
    late.sort_by_key(|read| read.line);
    for (n, read) in late.into_iter().enumerate() {
        read.event.console = Some(if n == 0 { TRUNCATED } else { "" }.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::RunStatus::{Canceled, Failure, Success};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::{
        super::{
            decode::tests::OPENING,
            satellite_events::{self, tests::RUN},
        },
        *,
    };

    const KEEPING: Keeping = Keeping {
        log_max: 1000,
        log_total: 1500,
        truncate_from: 1500,
        field_size: 11,
        after_lines: 5,
    };

    fn event(kind: &str, members: Value) -> Value {
        let mut event =
            json!({"type": format!("playbook_run_{kind}"), "version": 3, "correlation_id": RUN});
        let members = members.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(members);
        event
    }

    fn said(events: &[Value]) -> SatelliteUpdate {
        let archive: String = events.iter().map(|event| format!("{event}\n")).collect();
        update(satellite_events::events(archive.as_bytes(), &OPENING).unwrap(), &KEEPING)
    }

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    #[test]
    fn events_are_sorted_by_sequence_and_given_to_their_hosts() {
        let update = said(&[
            event("completed", json!({"status": "failure"})),
            event("finished", json!({"host": A, "status": "success"})),
            event("finished", json!({"host": A, "status": "failure"})),
            event("update", json!({"host": A, "sequence": 2, "console": "two"})),
            event("update", json!({"host": A, "sequence": 1, "console": "one"})),
            event("update", json!({"host": B, "sequence": 1, "status": "canceled"})),
        ]);
        let order: Vec<Option<i64>> = update.events.iter().map(|event| event.sequence).collect();
        assert_eq!(order, [Some(1), Some(1), Some(2), None, None, None]);
        assert_eq!(update.completed, Some(Failure));
        let texts = |host: Uuid| -> Vec<&str> {
            update.hosts[&host].pieces.iter().map(|piece| piece.text.as_str()).collect()
        };
        assert_eq!(texts(A), ["one", "two"]);
        assert_eq!(texts(B), [""]);
        let of = |host: Uuid| (update.hosts[&host].finished, update.hosts[&host].reported);
        assert_eq!(of(A), (Some(Success), Some((Place::LAST, Failure))));
        assert_eq!(of(B), (None, Some((1, Canceled))));
        assert_eq!(update.all_hosts.pieces, []);
    }

    #[test]
    fn errors_are_said_to_all_hosts_and_kept_for_the_run() {
        let completed = |members| said(&[event("completed", members)]);
        let update = completed(json!({"satellite_connection_code": 1,
            "satellite_connection_error": "away", "satellite_infrastructure_code": 1}));
        assert_eq!(update.all_hosts.pieces[0].text, "away");
        assert_eq!(update.error.unwrap(), (CONNECTION.to_owned(), "away".to_owned()));
        let update = completed(json!({"satellite_infrastructure_code": 1}));
        assert_eq!(update.all_hosts.pieces, [], "no text is no text");
        assert_eq!(update.error.unwrap(), (INFRASTRUCTURE.to_owned(), String::new()));
        assert_eq!(completed(json!({"satellite_connection_code": 0})).error, None);
        assert_eq!(completed(json!({})).completed, None);
    }

    #[test]
    fn events_of_large_uploads_are_shortened_and_logs_are_not() {
        let line = |n: i64| {
            event("update", json!({"host": A, "sequence": 20 - n, "console": "äöüäöüäöü"}))
        };
        let mut events: Vec<Value> = (0..12).map(line).collect();
        events.push(event("finished", json!({"host": A, "status": "success"})));
        let update = said(&events);
        let stored: Vec<Option<&str>> =
            update.events.iter().map(|event| event.console.as_deref()).collect();
        let (cut, none) = (Some("äöüäö..."), Some(""));
        let told = Some("Truncated...");
        let expected = [none, none, none, none, none, told, cut, cut, cut, cut, cut, cut, None];
        assert_eq!(stored, expected, "the first by line says so");
        assert!(update.hosts[&A].pieces.iter().all(|piece| piece.text == "äöüäöüäöü"));
    }
}
