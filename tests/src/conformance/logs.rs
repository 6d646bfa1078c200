//! Reading output: every piece of it, whoever executed the run.

use dispatcher_api::runs::model::{LogSlice, NewRun};
use dispatcher_wire::RunStatus;
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        append, batch, claimed_upload, create, foreign_run, hosts, now, org, run, started, stats,
        update, upload,
    },
};

async fn read(
    subject: &Subject,
    run: &NewRun,
    host: Option<&str>,
    from: u64,
    cap: usize,
) -> Option<LogSlice> {
    subject.stores.runs.read_log(&run.org_id, run.id, host, from, cap).await.unwrap()
}

/// From every byte, with every cap: what was asked for, something unless there is nothing, and
/// complete exactly when it reaches the end of a final run.
async fn every_slice(subject: &Subject, run: &NewRun, host: Option<&str>, whole: &[u8], end: bool) {
    for from in 0..=whole.len() + 2 {
        for cap in 1..=whole.len() + 1 {
            let slice = read(subject, run, host, from as u64, cap).await.unwrap();
            let rest = whole.get(from..).unwrap_or_default();
            assert!(slice.bytes.len() <= cap && rest.starts_with(&slice.bytes), "{from}, {cap}");
            assert_eq!(slice.bytes.is_empty(), rest.is_empty(), "{from}, {cap}");
            let reaches = slice.bytes.len() == rest.len();
            assert_eq!(slice.complete, end && reaches, "{from}, {cap}");
        }
    }
    let beyond = read(subject, run, host, u64::MAX, usize::MAX).await.unwrap();
    assert_eq!((beyond.bytes.len(), beyond.complete), (0, end));
}

/// Output of our workers, while it grows and when it is whole.
pub async fn slices_of_chunks(subject: &Subject) {
    let at = now();
    let mut run = run(&org());
    run.hosts = hosts(&["a"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    every_slice(subject, &run, None, b"", false).await;
    let hold = started(&subject.stores, &run, at).await;
    for (first, text) in [(1, "01"), (2, "2"), (3, ""), (4, "345\0"), (5, "789")] {
        append(&subject.stores, hold, &batch(first, &[text], at)).await;
    }
    every_slice(subject, &run, None, b"012345\x00789", false).await;
    super::fixtures::finished(&subject.stores, hold, 6, stats(&[]), at).await;
    every_slice(subject, &run, Some("a"), b"012345\x00789end\n", true).await;
    assert!(read(subject, &run, Some("b"), 0, 10).await.is_none());
}

/// Output of foreign hosts is the log of a host: the one asked for, or the first by name.
pub async fn slices_of_host_logs(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut run = foreign_run(&org);
    run.hosts = hosts(&["b"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    every_slice(subject, &run, None, b"", false).await;
    for (status, host, log) in
        [(RunStatus::Running, "b", "first h\u{f6}st"), (RunStatus::Success, "a", "\u{20ac} last")]
    {
        let uploaded = claimed_upload(&subject.stores, &upload(&org, at)).await;
        let update = update(&run, status, &[host], log);
        subject.stores.uploads.apply(&uploaded, &update.clone().into(), at).await.unwrap();
        let end = status.is_final();
        every_slice(subject, &run, Some(host), log.as_bytes(), end).await;
        every_slice(subject, &run, None, log.as_bytes(), end).await;
    }
    assert!(read(subject, &run, Some("c"), 0, 10).await.is_none());
}

/// Runs without hosts have an empty log; runs that are not there have none.
pub async fn without_hosts_and_without_runs(subject: &Subject) {
    let run = foreign_run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let slice = read(subject, &run, None, 0, 10).await.unwrap();
    assert_eq!((slice.bytes.len(), slice.complete), (0, false));
    assert!(read(subject, &run, Some("a"), 0, 10).await.is_none());
    let unknown = NewRun { id: Uuid::new_v4(), ..run };
    assert!(read(subject, &unknown, None, 0, 10).await.is_none());
}

/// Output of many chunks, read in pieces that fit none of them.
pub async fn a_long_output_in_pieces(subject: &Subject) {
    let at = now();
    let run = run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = started(&subject.stores, &run, at).await;
    let mut whole = Vec::new();
    for first in 1..=20_u64 {
        let text = format!("{first}:").repeat(5_000 * (first as usize % 3 + 1));
        whole.extend_from_slice(text.as_bytes());
        append(&subject.stores, hold, &batch(first, &[&text], at)).await;
    }
    let mut together = Vec::new();
    loop {
        let slice = read(subject, &run, None, together.len() as u64, 7_777).await.unwrap();
        if slice.bytes.is_empty() {
            break;
        }
        together.extend(slice.bytes);
    }
    assert!(together == whole, "{} of {} bytes", together.len(), whole.len());
}
