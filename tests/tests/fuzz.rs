//! Every parser that reads what strangers send, fuzzed: nothing panics, takes long or needs much
//! memory. A few seconds each among the tests; `.ci/run` gives each a minute (`FUZZ_SECONDS=60`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should panic"
)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dispatcher_api::{
    auth::identity::Identity,
    config::{source::Source, uploads::UploadSettings},
    http::{
        links,
        parameters::{FilterSpec, Filters},
        query::{ListSpec, RawQuery},
    },
    uploads::{
        model::Update,
        token::{self, Bearer},
        update,
    },
};
use dispatcher_tests::{
    foreign::{form, gzip, lines, stats, transcript, xz},
    fuzz::{Target, peak_memory},
    satellite::{broken, completed, finished, printed},
    service::{InProcess, ORG},
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

/// What all targets together may need: the programs around them, the largest archives they open (in
/// three encodings), and a decoder's window each.
const MEMORY: u64 = 768 << 20;

fn run(target: &Target<'_>, check: impl Fn(&[u8]) -> String) {
    target.run(check).unwrap();
    let memory = peak_memory().unwrap();
    assert!(memory < MEMORY, "{} needed {memory} bytes", target.name);
}

#[test]
fn identity_headers() {
    let seeds = [
        json!({"identity": {"type": "User", "org_id": "5", "user": {"user_id": "u"}}}),
        json!({"identity": {"type": "System", "internal": {"org_id": "5"}, "account_number": "1"}}),
        json!({"identity": {"type": "X509"}, "entitlements": {"a": {"is_entitled": true}}}),
    ];
    let words = ["identity", "type", "org_id", "internal", "ServiceAccount", "Associate", ":", ","];
    let target = Target {
        name: "identity headers",
        seeds: seeds.iter().map(|seed| seed.to_string().into_bytes()).collect(),
        words: &words,
    };
    run(&target, |input| {
        // As it is, and as JSON that was encoded properly.
        let raw = Identity::decode(Some(input)).map(drop);
        let encoded = Identity::decode(Some(STANDARD.encode(input).as_bytes()));
        let principal = encoded.clone().and_then(Identity::into_principal);
        if let Ok(identity) = &encoded {
            assert!(!identity.org_id.contains('\0'));
        }
        format!("{raw:?} {:?} {:?}", encoded.err(), principal.map(|principal| principal.kind))
    });
}

#[test]
fn queries_of_lists() {
    const OF_RUN: Filters = Filters { members: &[], labels: true, run: None };
    const FILTERS: Filters = Filters {
        members: &[FilterSpec::STATUS, FilterSpec::SERVICE],
        labels: true,
        run: Some(&OF_RUN),
    };
    const QUERY: ListSpec = ListSpec { filters: FILTERS, is_sorted: true };
    let seeds = [
        "limit=10&offset=20&sort_by=created_at:asc&fields[data]=id,status",
        "filter[status]=running&filter[labels][a]=b&filter%5Brun%5D%5Bid%5D=1&fields[data]=id",
        "filter[service]=&filter[run][labels][x]=y&limit=0",
    ];
    let words = ["filter", "[", "]", "%5B", "%00", "%", "labels", "&", "=", "limit", "fields", ";"];
    let target = Target {
        name: "queries of lists",
        seeds: seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect(),
        words: &words,
    };
    run(&target, |input| {
        let query = RawQuery::parse(&String::from_utf8_lossy(input));
        let checked = query.checked(&QUERY);
        let labels = query.nested("filter[labels]").len().min(3);
        let deeper = query.nested("filter[run][labels]").len().min(3);
        let fields = query.fields(&["id", "status"], &["id"]);
        let page = query.page();
        if let Ok(page) = &page {
            assert!((1..=200).contains(&page.limit) && page.offset >= 0);
            let links = links::page("/runs", &query, *page, Vec::<Value>::new(), 1000);
            assert!(serde_json::to_value(links).unwrap()["links"]["first"].is_string());
        }
        let found = checked.map(|checked| (checked.members.len(), checked.ascending));
        let answers = (found, query.bound(&QUERY), fields.map(|fields| fields.len()));
        format!("{answers:?} {labels} {deeper} {:?}", page.map(drop))
    });
}

/// Lines as they are, and packed in both ways; packed seeds are mutated as bytes too.
fn archives(name: &str, events: Vec<Vec<Value>>, words: &[&str]) {
    let mut source = Source::default();
    let mut settings = UploadSettings::read(&mut source, "https://d.example");
    // Small limits are reached more often.
    settings.opening.max_bytes = 4 << 20;
    settings.opening.max_events = 200;
    settings.opening.max_hosts = 20;
    settings.keeping.truncate_from = 2048;
    settings.keeping.after_lines = 3;
    settings.keeping.field_size = 20;
    let plain = events.iter().map(|events| lines(events));
    let seeds = plain.flat_map(|plain| {
        let packed = [gzip(&plain).unwrap(), xz(&plain).unwrap()];
        std::iter::once(plain).chain(packed)
    });
    let target = Target { name, seeds: seeds.collect(), words };
    run(&target, |input| {
        let of =
            |archive: &[u8]| update::from_archive(archive, &settings.opening, &settings.keeping);
        let said = of(input);
        if input.first() != Some(&0x1f) && input.first() != Some(&0xfd) && input.len() % 4 == 0 {
            for packed in [gzip(input).unwrap(), xz(input).unwrap()] {
                assert_eq!(of(&packed), said, "encodings differ");
            }
        }
        match said {
            Ok(Update::Runner(update)) => {
                assert!(!update.hosts.is_empty() && !update.log.contains('\0'));
                assert!(update.events.len() <= settings.opening.max_events);
                format!("{} {:?}", update.status, update.error.map(|error| error.0))
            }
            Ok(Update::Satellite(update)) => {
                assert!(update.events.len() <= settings.opening.max_events);
                let place = |sequence: Option<i64>| sequence.unwrap_or(i64::MAX).min(i64::MAX - 1);
                assert!(update.events.is_sorted_by_key(|event| place(event.sequence)));
                format!("{:?} {:?} {}", update.completed, update.error, update.hosts.len())
            }
            Err(invalid) => invalid.0,
        }
    });
}

#[test]
fn runner_events_in_three_encodings() {
    let id = Uuid::from_u128(1);
    let mut failed = transcript(id, &["a", "b"]);
    *failed.last_mut().unwrap() = stats(3, &["a"], &["b"]);
    let words = [
        "event",
        "uuid",
        "counter",
        "stdout",
        "start_line",
        "end_line",
        "event_data",
        "host",
        "executor_on_start",
        "playbook_on_stats",
        "crc_dispatcher_correlation_id",
        "failures",
        "dark",
        "processed",
        "ignore_errors",
        ":",
        ",",
        "\n{",
    ];
    archives("runner events", vec![transcript(id, &["a"]), failed, transcript(id, &[])], &words);
}

#[test]
fn satellite_events_in_three_encodings() {
    let (id, a, b) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    let whole = vec![
        printed(id, a, 1, "one"),
        printed(id, b, 0, "a long line of output\n"),
        finished(id, a, "success"),
        completed(id, "success"),
    ];
    let words = [
        "type",
        "version",
        "correlation_id",
        "sequence",
        "host",
        "console",
        "status",
        "canceled",
        "playbook_run_finished",
        "satellite_connection_code",
        "satellite_infrastructure_code",
        "satellite_connection_error",
        "connection_code",
        ":",
        ",",
        "\n{",
    ];
    archives("satellite events", vec![whole, vec![broken(id, "why")]], &words);
}

/// Whole requests through the route: whatever is sent, the answer is one that the route knows.
#[test]
fn multipart_uploads() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let variables = [("CLOUD_CONNECTOR_IMPL", "mock"), ("ARTIFACT_MAX_SIZE", "1024")];
    let service = runtime.block_on(InProcess::start_with(&variables, |stores| stores)).unwrap();
    let bearer = Bearer { run_id: Uuid::from_u128(1), org_id: ORG.to_owned() };
    let expires = OffsetDateTime::now_utc() + time::Duration::hours(1);
    let token = token::issue(&service.app.keyring, &bearer, expires);
    let url = format!("{}/api/ingress/v1/upload?token={token}", service.url);
    let client = reqwest::Client::new();
    let (_, plain) = form("upload", None, b"{}");
    let (kind, typed) =
        form("file", Some("application/vnd.redhat.playbook-sat.v3+jsonl"), b"{}\n{}");
    let two = [&form("metadata", None, b"x").1[..], &plain].concat();
    let words = [
        "Content-Disposition: form-data",
        "; name=\"file\"",
        "; filename=\"x\"",
        "--",
        "\r\n\r\n",
        "Content-Type: application/octet-stream",
        "a-boundary-that-no-archive-contains",
        "; name=",
    ];
    let target =
        Target { name: "multipart uploads", seeds: vec![plain, typed, two], words: &words };
    run(&target, |input| {
        let request = client.post(&url).header("content-type", &kind).body(input.to_vec());
        let answer = runtime.block_on(async {
            let answer = request.send().await.ok()?;
            Some((answer.status().as_u16(), answer.json::<Value>().await.ok()?))
        });
        // Too much is answered before it has arrived, which may cut the connection off.
        let Some((status, body)) = answer else { return "cut off".to_owned() };
        assert!([202, 400, 413, 415].contains(&status), "{status}: {body}");
        format!("{status} {} {}", body["error_code"], body["message"])
            .replace(body["request_id"].as_str().unwrap_or("-"), "")
    });
}
