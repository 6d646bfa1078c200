//! From an archive to what it says about a run: opened, validated, judged, and cut to what is kept.
//! Slow for large archives; belongs on a thread where that does not matter.

use dispatcher_wire::event::RunnerEvent;

use super::{
    counting::Kind,
    decode::{Invalid, each_line},
    log::{self, fitting},
    model::{RunnerUpdate, Update},
    satellite_events, satellite_report, state,
    validate::{self, Events},
};
use crate::config::uploads::{Keeping, Opening};

/// The most that is kept of an error's details beside the log, in bytes.
pub(super) const MAX_DETAILS: usize = 64 << 10;
/// What stands where the outputs of a large upload end.
pub(super) const TRUNCATED: &str = "Truncated...";

/// What an archive says about its run: that of a host, or that of a Satellite, as its first line
/// shows.
///
/// # Errors
/// When it is not acceptable; says why.
pub fn from_archive(
    archive: &[u8],
    opening: &Opening,
    keeping: &Keeping,
) -> Result<Update, Invalid> {
    if kind(archive, opening) == Kind::Satellite {
        let found = satellite_events::events(archive, opening)?;
        return Ok(Update::Satellite(satellite_report::update(found, keeping)));
    }
    runner(archive, opening, keeping).map(Update::Runner)
}

/// Whose events an archive holds, as its first line shows. Nothing behind that is opened.
#[must_use]
pub fn kind(archive: &[u8], opening: &Opening) -> Kind {
    let mut found = false;
    let first = each_line(archive, opening, |line| {
        found = satellite_events::looks_like_one(line.bytes);
        Err(Invalid(String::new()))
    });
    if first.is_err() && found { Kind::Satellite } else { Kind::Runner }
}

fn runner(archive: &[u8], opening: &Opening, keeping: &Keeping) -> Result<RunnerUpdate, Invalid> {
    let mut found = validate::events(archive, opening)?;
    let outcome = state::outcome(&found.events);
    let log = log::assemble(&found.events, log_cap(outcome.hosts.len(), keeping));
    shorten(&mut found, keeping);
    let cut = |(code, details): (String, String)| {
        (fitting(&code, MAX_DETAILS).to_owned(), fitting(&details, MAX_DETAILS).to_owned())
    };
    Ok(RunnerUpdate {
        correlation_id: found.correlation_id,
        status: outcome.run,
        hosts: outcome.hosts,
        log,
        events: found.events,
        error: outcome.error.map(cut),
    })
}

/// Every host gets the whole log, so that many hosts must share what is kept.
fn log_cap(hosts: usize, keeping: &Keeping) -> usize {
    keeping.log_max.min(keeping.log_total / hosts.max(1))
}

/// Shortens the texts of a large upload's events as the contract says (§4.4), between characters.
fn shorten(found: &mut Events, keeping: &Keeping) {
    if found.opened.bytes < keeping.truncate_from {
        return;
    }
    let last_kept = found.opened.pieces.saturating_sub(2);
    let mut told = false;
    for (event, line) in found.events.iter_mut().zip(&found.lines) {
        shorten_texts(event, keeping.field_size);
        if *line > keeping.after_lines && *line < last_kept {
            event.stdout = Some(if told { "" } else { TRUNCATED }.to_owned());
            told = true;
        }
    }
}

fn shorten_texts(event: &mut RunnerEvent, most: usize) {
    let data = event.event_data.as_mut();
    let of_data = data.into_iter().flat_map(|data| {
        [
            &mut data.playbook,
            &mut data.playbook_uuid,
            &mut data.crc_dispatcher_error_code,
            &mut data.crc_dispatcher_error_details,
        ]
    });
    let texts = of_data.chain([&mut event.stdout]).flatten().chain([&mut event.uuid]);
    for text in texts.filter(|text| text.len() > most) {
        *text = format!("{}...", fitting(text, most));
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use dispatcher_wire::RunStatus;
    use serde_json::json;

    use super::{
        super::decode::tests::{OPENING, gzip, xz},
        *,
    };

    const KEEPING: Keeping = Keeping {
        log_max: 1000,
        log_total: 1500,
        truncate_from: 2000,
        field_size: 11,
        after_lines: 5,
    };
    const OPEN: Opening = Opening { max_hosts: 100, ..OPENING };

    fn archive(lines: usize, stdout: &str) -> Vec<u8> {
        let mut text = String::new();
        for n in 0..lines {
            let event = if n == 0 { "executor_on_start" } else { "runner_on_ok" };
            let id = "7a6c0f43-6a5b-4e6c-9f2f-000000000001";
            let event = json!({"event": event, "uuid": "u", "counter": n, "stdout": stdout,
                "start_line": n, "end_line": n + 1,
                "event_data": {"crc_dispatcher_correlation_id": id}});
            writeln!(text, "{event}").unwrap();
        }
        text.into_bytes()
    }

    fn outputs(update: &RunnerUpdate) -> Vec<&str> {
        update.events.iter().map(|event| event.stdout.as_deref().unwrap()).collect()
    }

    #[test]
    fn three_encodings_say_the_same() {
        let plain = archive(3, "out");
        let update = runner(&plain, &OPEN, &KEEPING).unwrap();
        assert_eq!(update.log, "out\nout\nout\n");
        assert_eq!(update.hosts, [("localhost".to_owned(), RunStatus::Running)]);
        for archive in [gzip(&plain), xz(&plain)] {
            assert_eq!(runner(&archive, &OPEN, &KEEPING).unwrap(), update);
        }
    }

    #[test]
    fn events_of_large_uploads_are_shortened_and_the_log_is_not() {
        let update = runner(&archive(12, "äöüäöüäöü"), &OPEN, &KEEPING).unwrap();
        let cut = "äöüäö...";
        let expected = [cut, cut, cut, cut, cut, cut, "Truncated...", "", "", "", "", cut];
        assert_eq!(outputs(&update), expected);
        assert_eq!(update.log, "äöüäöüäöü\n".repeat(12));
        let small = Keeping { truncate_from: 1 << 20, ..KEEPING };
        let update = runner(&archive(12, "äöüäöüäöü"), &OPEN, &small).unwrap();
        assert_eq!(outputs(&update), ["äöüäöüäöü"; 12]);
    }

    #[test]
    fn an_upload_is_large_from_its_threshold_on_and_blank_lines_count() {
        let cut = |archive: &[u8], truncate_from| {
            let update = runner(archive, &OPEN, &Keeping { truncate_from, ..KEEPING }).unwrap();
            outputs(&update).iter().position(|output| *output == TRUNCATED)
        };
        let plain = archive(12, "out");
        let size = plain.len() as u64;
        assert_eq!((cut(&plain, size), cut(&plain, size + 1)), (Some(6), None));
        let blanks = [b"\n \n".to_vec(), plain].concat();
        assert_eq!(cut(&blanks, size), Some(4));
    }

    #[test]
    fn the_first_line_says_whose_events_they_are() {
        let of = |archive: &[u8]| from_archive(archive, &OPEN, &KEEPING);
        assert!(matches!(of(&gzip(&archive(3, "out"))), Ok(Update::Runner(_))));
        let event = format!(
            "\n{}\n",
            json!({"type": "playbook_run_update", "version": 3, "correlation_id": uuid::Uuid::nil()})
        );
        for archive in [event.clone().into_bytes(), gzip(event.as_bytes()), xz(event.as_bytes())] {
            assert!(matches!(of(&archive), Ok(Update::Satellite(_))));
        }
        let mixed = [event.as_bytes(), &archive(1, "out")].concat();
        assert_eq!(of(&mixed).unwrap_err().0, "line 3: type is missing");
        assert_eq!(of(b"").unwrap_err().0, "it holds no events");
    }

    #[test]
    fn many_hosts_share_what_is_kept() {
        assert_eq!(log_cap(1, &KEEPING), 1000);
        assert_eq!(log_cap(3, &KEEPING), 500);
        assert_eq!(log_cap(0, &KEEPING), 1000);
    }
}
