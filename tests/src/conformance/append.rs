//! Batches of records: overlaps, gaps, foreign claims, hosts, limits, and when to end.

use dispatcher_api::execution::model::{
    AppendBatch, AppendOutcome, Hold, OUTPUT_DROPPED, WorkState,
};
use dispatcher_wire::RunStatus;
use time::Duration;
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        append, batch, claimed, create, detail, doorbell, finished, host_rows, host_states, hosts,
        now, org, run, started, stats,
    },
};

async fn output(subject: &Subject, org: &str, run_id: Uuid) -> Vec<u8> {
    let log = subject.stores.runs.read_log(org, run_id, None, 0, 1 << 20).await.unwrap();
    log.unwrap().bytes
}

/// Records that are there already are skipped with their output; a gap changes nothing.
pub async fn overlaps_are_skipped_and_gaps_refused(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    let gap = subject.stores.work.append(hold, &batch(1, &["x"], at)).await.unwrap();
    assert_eq!(gap, AppendOutcome::Gap { next_counter: 0 });
    assert_eq!(detail(&subject.stores, &run).await.work.unwrap().state, WorkState::Claimed);
    assert_eq!(append(&subject.stores, hold, &batch(0, &["a", "", "b"], at)).await, (3, false));
    assert_eq!(detail(&subject.stores, &run).await.work.unwrap().state, WorkState::Started);
    assert_eq!(append(&subject.stores, hold, &batch(0, &["a", "", "b"], at)).await, (3, false));
    assert_eq!(append(&subject.stores, hold, &batch(0, &["a"], at)).await, (3, false));
    assert_eq!(append(&subject.stores, hold, &batch(2, &["b", "c"], at)).await, (4, false));
    for first in [5, u64::MAX] {
        for texts in [&["x"][..], &[]] {
            let gap = subject.stores.work.append(hold, &batch(first, texts, at)).await.unwrap();
            assert_eq!(gap, AppendOutcome::Gap { next_counter: 4 });
        }
    }
    assert_eq!(append(&subject.stores, hold, &batch(4, &[], at)).await, (4, false));
    assert_eq!(output(subject, &org, run.id).await, b"abc");
    assert_eq!(detail(&subject.stores, &run).await.output_bytes, 3);
}

/// Whoever does not hold the work changes nothing.
pub async fn foreign_claims_change_nothing(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let nobody = Hold { run_id: run.id, claim: Uuid::nil(), recipient: run.recipient };
    let refused = async |hold| {
        let batch = AppendBatch { hosts: vec!["x".to_owned()], ..batch(0, &["x"], at) };
        let outcome = subject.stores.work.append(hold, &batch).await.unwrap();
        assert_eq!(outcome, AppendOutcome::NotYours);
    };
    refused(nobody).await;
    let hold = claimed(&subject.stores, &run, at).await;
    refused(nobody).await;
    refused(Hold { recipient: Uuid::new_v4(), ..hold }).await;
    refused(Hold { run_id: Uuid::new_v4(), ..hold }).await;
    assert_eq!(output(subject, &org, run.id).await, b"");
    assert_eq!(host_states(&subject.stores, &run).await, []);
    assert_eq!(append(&subject.stores, hold, &batch(0, &["x"], at)).await, (1, false));
}

/// A host is created when it is first named, and told once.
pub async fn hosts_are_created_once(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut run = run(&org);
    run.hosts = hosts(&["known"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    let naming = |first, names: &[&str]| AppendBatch {
        hosts: names.iter().map(|name| (*name).to_owned()).collect(),
        ..batch(first, &["x"], at)
    };
    append(&subject.stores, hold, &naming(0, &["a", "known"])).await;
    append(&subject.stores, hold, &naming(0, &["a", "known"])).await;
    append(&subject.stores, hold, &naming(1, &["a", "b\0", "it's"])).await;
    append(&subject.stores, hold, &naming(2, &["b\0", "b\u{FFFD}"])).await;
    let running = |host: &str| (host.to_owned(), RunStatus::Running);
    let expected = ["a", "b\u{FFFD}", "it's", "known"].map(running);
    assert_eq!(host_states(&subject.stores, &run).await, expected);
    let mut told = vec!["run create running"];
    told.extend(["run_host create running"; 4]);
    assert_eq!(subject.told(run.id).await, told);
}

/// Hosts beyond the limit are not created, which the log says once; the run goes on, and what
/// happened on them decides all the same.
pub async fn hosts_have_a_limit(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut run = run(&org);
    run.hosts = hosts(&["known"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    let naming = |first, names: &[&str]| AppendBatch {
        hosts: names.iter().map(|name| (*name).to_owned()).collect(),
        hosts_max: 4,
        ..batch(first, &["x\n"], at)
    };
    append(&subject.stores, hold, &naming(0, &["a", "known"])).await;
    append(&subject.stores, hold, &naming(1, &["a", "b", "c", "d", "known"])).await;
    append(&subject.stores, hold, &naming(1, &["a", "b", "c", "d", "known"])).await;
    append(&subject.stores, hold, &naming(2, &["d", "e"])).await;
    let note = "[dispatcher: the run has more than 4 hosts, the rest are not listed]\n";
    let printed = format!("x\nx\n{note}x\n");
    assert_eq!(output(subject, &org, run.id).await, printed.as_bytes());
    assert_eq!(detail(&subject.stores, &run).await.output_bytes, printed.len() as u64);
    let running = |host: &str| (host.to_owned(), RunStatus::Running);
    let expected = ["a", "b", "c", "known"].map(running);
    assert_eq!(host_states(&subject.stores, &run).await, expected);
    let mut told = vec!["run create running"];
    told.extend(["run_host create running"; 4]);
    assert_eq!(subject.told(run.id).await, told);

    let counted = [("a", false), ("b", false), ("c", false), ("d", true), ("known", false)];
    let last = AppendBatch { outcome: stats(&counted), ..naming(3, &["a", "b", "c", "d"]) };
    append(&subject.stores, hold, &last).await;
    let ended = finished(&subject.stores, hold, 4, stats(&[]), at).await;
    assert_eq!(ended, RunStatus::Failure);
    let log = &host_rows(&subject.stores, &run).await[3].log;
    assert_eq!(log, &format!("{printed}x\nend\n"));
}

/// A run that has as many hosts as it may have, and names no other, gets no note.
pub async fn as_many_hosts_as_allowed(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    let named = |first, names: &[&str]| AppendBatch {
        hosts: names.iter().map(|name| (*name).to_owned()).collect(),
        hosts_max: 2,
        ..batch(first, &["x"], at)
    };
    append(&subject.stores, hold, &named(0, &["a", "b"])).await;
    append(&subject.stores, hold, &named(1, &["a", "b"])).await;
    assert_eq!(output(subject, &org, run.id).await, b"xx");
    assert_eq!(host_states(&subject.stores, &run).await.len(), 2);
}

/// Output beyond the limit is dropped behind one marker; records still count.
pub async fn output_has_a_limit(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    for (first, text) in ["12345\n", "678\u{e9}\n", "more\n", "and more\n"].iter().enumerate() {
        let limited = AppendBatch { output_max: 10, ..batch(first as u64, &[text], at) };
        assert_eq!(append(&subject.stores, hold, &limited).await, (first as u64 + 1, false));
    }
    let expected = format!("12345\n678\n{OUTPUT_DROPPED}");
    assert_eq!(output(subject, &org, run.id).await, expected.as_bytes());
    assert_eq!(detail(&subject.stores, &run).await.output_bytes, expected.len() as u64);
}

/// Outcomes of batches come together; a batch that is repeated does not undo a later one.
pub async fn outcomes_are_merged(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut run = run(&org);
    run.hosts = hosts(&["a", "b"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    let saying = |first, said: &[(&str, bool)]| AppendBatch {
        outcome: stats(said),
        ..batch(first, &["x"], at)
    };
    append(&subject.stores, hold, &saying(0, &[("a", false), ("b", true)])).await;
    append(&subject.stores, hold, &saying(1, &[("b", false)])).await;
    append(&subject.stores, hold, &saying(0, &[("a", true)])).await;
    let ended = finished(&subject.stores, hold, 2, stats(&[]), at).await;
    assert_eq!(ended, RunStatus::Success);
}

/// After the run's time the worker is told to end it; what it still says is taken.
pub async fn late_records_are_taken_and_answered(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let end = run.row().expires_at();
    let hold = started(&subject.stores, &run, end - Duration::seconds(1)).await;
    let before = batch(1, &["a"], end - Duration::microseconds(1));
    assert_eq!(append(&subject.stores, hold, &before).await, (2, false));
    assert_eq!(append(&subject.stores, hold, &batch(2, &["b"], end)).await, (3, true));
    let bell = doorbell(&subject.stores, run.recipient, end).await;
    assert_eq!(bell.cancel, [run.id]);
    subject.stores.upkeep.expire(end, 10).await.unwrap();
    assert_eq!(append(&subject.stores, hold, &batch(3, &["c"], end)).await, (4, true));
    assert_eq!(output(subject, &org, run.id).await, b"abc");
    assert!(at < end);
}
