//! Uploads of foreign hosts through HTTP: taken or refused, applied in any order, rejected with the
//! reason; nothing acknowledged is lost when the process is killed.

use std::time::Duration;

use dispatcher_api::{
    keyring::Keyring,
    uploads::{
        applier::Applier,
        model::OUT_OF_DATE,
        token::{self, Bearer},
    },
};
use dispatcher_tests::{
    foreign::{self, JSONL, accepted, form, gzip, lines, send, stats, transcript, xz},
    home::Home,
    process::{BASE, PATIENCE, SECRET_KEYS},
    service::{InProcess, ORG},
};
use dispatcher_wire::{
    RunStatus,
    dispatch::RunCreated,
    view::{Page, Problem, RunView, UploadView},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{io::AsyncWriteExt as _, time::timeout};
use uuid::Uuid;

const MOCK: (&str, &str) = ("CLOUD_CONNECTOR_IMPL", "mock");

/// A service with a run of a foreign host.
struct Foreign {
    service: InProcess,
    run: Uuid,
    correlation_id: Uuid,
    return_url: String,
}

impl Foreign {
    /// Nothing is applied until [`Foreign::applies`].
    async fn new(variables: &[(&str, &str)]) -> Self {
        let variables = [&[MOCK], variables].concat();
        let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
        let (run, correlation_id) = dispatched(&service).await;
        let return_url = return_url(&service.url, &service.app.keyring, run, 3600);
        Self { service, run, correlation_id, return_url }
    }

    fn applies(&self) {
        let applier = Applier::of(&self.service.app);
        let shutdown = self.service.app.shutdown.clone();
        tokio::spawn(async move { applier.run(shutdown).await });
    }

    fn transcript(&self, hosts: &[&str]) -> Vec<Value> {
        transcript(self.correlation_id, hosts)
    }

    async fn uploads(&self) -> Vec<UploadView> {
        let request = self.service.request(Method::GET, &format!("{BASE}/uploads?limit=200"));
        let page: Page<UploadView> =
            request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
        assert_eq!(page.meta.total, page.data.len() as i64);
        page.data
    }

    /// Every upload, once none is pending.
    async fn settled(&self) -> Vec<UploadView> {
        let settled = async {
            loop {
                let uploads = self.uploads().await;
                if uploads.iter().all(|upload| upload.state != "pending") {
                    return uploads;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, settled).await.unwrap()
    }

    /// What became of one archive.
    async fn fate(&self, archive: &[u8]) -> (String, String) {
        let id = accepted(&self.return_url, archive).await.unwrap().to_string();
        let uploads = self.settled().await;
        let upload = uploads.into_iter().find(|upload| upload.id == id).unwrap();
        (upload.state, upload.reason.unwrap_or_default())
    }

    async fn run(&self) -> RunView {
        let request = self.service.request(Method::GET, &format!("{BASE}/runs/{}", self.run));
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// Name, state and output of every host, by name.
    async fn hosts(&self) -> Vec<(String, String, String)> {
        let query = "fields%5Bdata%5D=host,status,stdout&filter%5Brun%5D%5Bid%5D=";
        let path = format!("{BASE}/run_hosts?{query}{}", self.run);
        let page: Value =
            self.service.request(Method::GET, &path).send().await.unwrap().json().await.unwrap();
        let text = |host: &Value, name: &str| host[name].as_str().unwrap().to_owned();
        let host = |host: &Value| (text(host, "host"), text(host, "status"), text(host, "stdout"));
        let mut hosts: Vec<_> = page["data"].as_array().unwrap().iter().map(host).collect();
        hosts.sort();
        hosts
    }

    fn objects(&self) -> usize {
        self.service.objects("uploads").unwrap()
    }
}

/// A run of a foreign host, dispatched through the mock; and its correlation id.
async fn dispatched(service: &InProcess) -> (Uuid, Uuid) {
    let item = json!([{ "recipient": Uuid::new_v4(), "org_id": ORG, "principal": "test",
        "url": "https://example.com/site.yml", "name": "test" }]);
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(&item);
    let created: Vec<RunCreated> = request.send().await.unwrap().json().await.unwrap();
    let id = created[0].id.unwrap_or_else(|| panic!("{created:?}"));
    let run = service.app.stores.runs.get(ORG, id).await.unwrap().unwrap().run;
    (id, run.correlation_id)
}

fn return_url(url: &str, keyring: &Keyring, run_id: Uuid, seconds: i64) -> String {
    let bearer = Bearer { run_id, org_id: ORG.to_owned() };
    let expires = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    format!("{url}/api/ingress/v1/upload?token={}", token::issue(keyring, &bearer, expires))
}

#[tokio::test]
async fn three_encodings_bring_a_run_to_its_end() {
    for pack in [|content: &[u8]| Ok(content.to_vec()), gzip, xz] {
        let foreign = Foreign::new(&[]).await;
        let events = foreign.transcript(&["a", "b"]);
        let archive = pack(&lines(&events)).unwrap();
        accepted(&foreign.return_url, &archive).await.unwrap();
        assert_eq!(foreign.uploads().await[0].state, "pending");
        assert_eq!(foreign.objects(), 1);
        foreign.applies();
        let uploads = foreign.settled().await;
        assert_eq!((uploads.len(), uploads[0].state.as_str()), (1, "applied"));
        assert_eq!(uploads[0].size, archive.len() as i64);
        assert_eq!(foreign.run().await.status, RunStatus::Success);
        let log = "ok: [a]\nok: [b]\nPLAY RECAP\n".to_owned();
        let host = |name: &str| (name.to_owned(), "success".to_owned(), log.clone());
        assert_eq!(foreign.hosts().await, [host("a"), host("b")]);
        let emptied = async {
            while foreign.objects() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, emptied).await.expect("the archive of an applied upload is removed");
    }
}

#[tokio::test]
async fn counts_decide_and_unreachable_is_a_failure() {
    let foreign = Foreign::new(&[]).await;
    foreign.applies();
    let mut events = foreign.transcript(&["a", "b"]);
    *events.last_mut().unwrap() = stats(9, &[], &["b"]);
    foreign.fate(&lines(&events)).await;
    assert_eq!(foreign.run().await.status, RunStatus::Failure);
    let states: Vec<_> = foreign.hosts().await.into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(states, ["success", "failure"]);
}

#[tokio::test]
async fn an_executors_error_is_shown() {
    let foreign = Foreign::new(&[]).await;
    foreign.applies();
    let mut events = foreign.transcript(&[]);
    *events.last_mut().unwrap() = json!({
        "event": "executor_on_failed", "uuid": "u", "counter": -1, "start_line": 0, "end_line": 0,
        "event_data": { "crc_dispatcher_error_code": "ANSIBLE_PLAYBOOK_ALREADY_RUNNING",
            "crc_dispatcher_error_details": "another\u{0}one" },
    });
    foreign.fate(&lines(&events)).await;
    let run = foreign.run().await;
    assert_eq!(run.status, RunStatus::Failure);
    assert_eq!(run.error.unwrap().code, "ANSIBLE_PLAYBOOK_ALREADY_RUNNING");
    let host = ("localhost".to_owned(), "failure".to_owned(), "another\u{FFFD}one".to_owned());
    assert_eq!(foreign.hosts().await, [host]);
}

/// Every order of four cumulative uploads, with repetitions, ends in the state of the longest.
#[tokio::test]
async fn uploads_may_overtake_each_other_and_come_twice() {
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [2, 2, 1, 1]];
    for order in orders {
        let foreign = Foreign::new(&[]).await;
        foreign.applies();
        let events = foreign.transcript(&["a", "b", "c"]);
        let lengths = [2, 3, 4, 5];
        for index in order {
            let upload = lines(&events[..lengths[index]]);
            let (state, _) = foreign.fate(&upload).await;
            assert_eq!(state, "applied");
        }
        let longest = lengths[*order.iter().max().unwrap()];
        let ended = longest == events.len();
        let expected = if ended { RunStatus::Success } else { RunStatus::Running };
        assert_eq!(foreign.run().await.status, expected, "{order:?}");
        let hosts = foreign.hosts().await;
        assert_eq!(hosts.len(), (longest - 1).min(3), "{order:?}");
        for (_, state, log) in hosts {
            assert_eq!(state, expected.as_str(), "{order:?}");
            assert_eq!(log.lines().count(), longest - 1, "{order:?}: {log}");
        }
    }
}

#[tokio::test]
async fn an_overtaken_upload_says_so() {
    let foreign = Foreign::new(&[]).await;
    foreign.applies();
    let events = foreign.transcript(&["a", "b", "c"]);
    foreign.fate(&lines(&events[..4])).await;
    let before = foreign.run().await.updated_at;
    let (state, reason) = foreign.fate(&lines(&events[..2])).await;
    assert_eq!((state.as_str(), reason.as_str()), ("applied", OUT_OF_DATE));
    assert_eq!(foreign.run().await.updated_at, before);
}

#[tokio::test]
async fn hostile_archives_are_invalid_and_change_nothing() {
    let foreign = Foreign::new(&[("ARTIFACT_MAX_SIZE", "4194304")]).await;
    foreign.applies();
    let good = lines(&foreign.transcript(&["a"]));
    let start = lines(&foreign.transcript(&[])[..1]);
    let tiny = b"{\"event\":\"abc\",\"uuid\":\"\",\"counter\":1,\"start_line\":0,\"end_line\":0}\n";
    let tiny = gzip(&tiny.repeat(100_000)).unwrap().repeat(100);
    let bomb = gzip(&[vec![b' '; 1023], vec![b'\n']].concat().repeat(1024)).unwrap().repeat(1024);
    let cut = |packed: Vec<u8>| packed[..packed.len() - 10].to_vec();
    let hostile: [(&str, Vec<u8>, &str); 9] = [
        ("a bomb", bomb, "opens to"),
        ("ten million events", [gzip(&start).unwrap(), tiny].concat(), "more than 200000 events"),
        ("cut xz", cut(xz(&good).unwrap()), "damaged or cut"),
        ("cut gzip", cut(gzip(&good).unwrap()), "damaged or cut"),
        ("garbage", b"\x00\x01\x02garbage".to_vec(), "line 1: the event must be a JSON object"),
        ("blank", b" \n\n".to_vec(), "no events"),
        ("a cut line", good[..good.len() - 20].to_vec(), "not valid JSON"),
        ("no start", good[start.len()..].to_vec(), "every upload needs one"),
        (
            "a bad event",
            [start, b"{\"event\":\"abc\"}".to_vec()].concat(),
            "line 2: uuid is missing",
        ),
    ];
    for (what, archive, why) in hostile {
        let (state, reason) = foreign.fate(&archive).await;
        assert_eq!(state, "invalid", "{what}: {reason}");
        assert!(reason.contains(why), "{what}: {reason}");
    }
    assert_eq!(foreign.run().await.status, RunStatus::Running);
    assert!(foreign.hosts().await.is_empty());
    assert_eq!(foreign.objects(), 9, "invalid uploads are kept");
}

#[tokio::test]
async fn a_token_is_good_for_its_own_run_only() {
    let foreign = Foreign::new(&[]).await;
    foreign.applies();
    let (other, correlation_id) = dispatched(&foreign.service).await;
    let (state, reason) = foreign.fate(&lines(&transcript(correlation_id, &["a"]))).await;
    assert_eq!(state, "invalid");
    assert!(reason.contains("another run's"), "{reason}");
    let gone = Uuid::new_v4();
    let url = return_url(&foreign.service.url, &foreign.service.app.keyring, gone, 60);
    accepted(&url, &lines(&foreign.transcript(&["a"]))).await.unwrap();
    let reason = foreign
        .settled()
        .await
        .into_iter()
        .find_map(|upload| upload.reason.filter(|reason| reason.contains("is not there")));
    assert!(reason.unwrap().contains(&gone.to_string()));
    for run in [foreign.run, other] {
        let detail = foreign.service.app.stores.runs.get(ORG, run).await.unwrap().unwrap();
        assert_eq!(detail.run.status, RunStatus::Running);
    }
}

#[tokio::test]
async fn what_is_not_an_upload_is_refused_and_leaves_nothing() {
    let foreign = Foreign::new(&[]).await;
    let base = format!("{}/api/ingress/v1/upload", foreign.service.url);
    let own = foreign.return_url.as_str();
    let old = return_url(&foreign.service.url, &foreign.service.app.keyring, foreign.run, -1);
    let events = lines(&foreign.transcript(&["a"]));
    let archive = |size: usize| form("file", Some(JSONL), &vec![b' '; size]);
    let plain = || form("upload", None, &events);
    let old_satellite = form("file", Some("application/vnd.redhat.playbook-sat.v2+jsonl"), &events);
    let text = form("file", Some("text/html"), &events);
    let nothing = form("file", None, b"");
    let other_part = form("metadata", None, b"{}");
    let json = ("application/json".to_owned(), b"{}".to_vec());
    let half = (plain().0, plain().1[..200].to_vec());
    for (url, (kind, body), status, code) in [
        (base.as_str(), plain(), 401, "upload_unauthorized"),
        (&format!("{base}?token="), plain(), 401, "upload_unauthorized"),
        (&format!("{own}0"), plain(), 401, "upload_unauthorized"),
        (&old, plain(), 401, "upload_unauthorized"),
        (own, old_satellite, 415, "upload_type_unsupported"),
        (own, text, 415, "upload_type_unsupported"),
        (own, nothing, 400, "upload_unreadable"),
        (own, other_part, 400, "upload_part_missing"),
        (own, json, 400, "upload_unreadable"),
        (own, half, 400, "upload_unreadable"),
        (own, archive((1 << 20) + 1), 413, "upload_too_large"),
        (own, archive(3 << 20), 413, "upload_too_large"),
    ] {
        let request = Client::new().post(url).header("content-type", kind).body(body);
        let answer = request.send().await.unwrap();
        let answered = answer.status();
        let problem: Problem = answer.json().await.unwrap();
        assert_eq!((answered.as_u16(), problem.error_code.as_str()), (status, code));
    }
    assert!(foreign.uploads().await.is_empty());
    assert_eq!(foreign.objects(), 0);
    let (kind, body) = plain();
    let request = Client::new().post(own).header("content-type", kind).body(body);
    assert_eq!(request.send().await.unwrap().status(), 202, "no type, and the older part name");
    let largest = foreign::send(own, &vec![b' '; 1 << 20]).await.unwrap();
    assert_eq!(largest.status(), 202);
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_nothing() {
    let foreign = Foreign::new(&[]).await;
    let (kind, body) = form("file", Some(JSONL), &lines(&foreign.transcript(&["a"])));
    let address = foreign.service.url.strip_prefix("http://").unwrap();
    let path = foreign.return_url.strip_prefix(&foreign.service.url).unwrap();
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&body[..300]).await.unwrap();
    connection.flush().await.unwrap();
    drop(connection);
    // A whole one, sent afterwards, is the only one.
    accepted(&foreign.return_url, &lines(&foreign.transcript(&["a"]))).await.unwrap();
    let alone = async {
        while foreign.objects() != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, alone).await.unwrap();
    assert_eq!(foreign.uploads().await.len(), 1);
}

#[tokio::test]
async fn leftovers_are_swept_and_what_is_needed_stays() {
    let foreign = Foreign::new(&[]).await;
    accepted(&foreign.return_url, b"pending").await.unwrap();
    let piece = futures_util::stream::iter([Ok::<_, String>(bytes::Bytes::from_static(b"x"))]);
    let key = format!("uploads/{}", Uuid::new_v4());
    foreign.service.app.objects.write(&key, piece, 10).await.unwrap();
    let applier = Applier::of(&foreign.service.app);
    let now = OffsetDateTime::now_utc();
    assert_eq!(applier.sweep_once(now - time::Duration::hours(1)).await.unwrap(), 0);
    assert_eq!(applier.sweep_once(now + time::Duration::hours(1)).await.unwrap(), 1);
    assert_eq!(foreign.objects(), 1);
    assert!(!foreign.service.app.objects.exists(&key).await.unwrap());
}

/// The process is killed between every two steps; whatever was acknowledged is applied afterwards,
/// and a repetition of what was not changes nothing more.
#[tokio::test]
async fn acknowledged_uploads_survive_a_kill_anywhere() {
    for point in [
        "upload.object.stored",
        "upload.row.committed",
        "upload.claimed",
        "upload.before_apply",
        "store.apply.commit",
        "store.apply.committed",
        "upload.applied",
    ] {
        survives(&Home::standalone().unwrap(), point).await;
    }
}

/// Lets the service die at this point of an upload, starts it again and looks at what is left.
pub(crate) async fn survives(home: &Home, point: &str) {
    let variables = [MOCK, ("DISPATCHER_SECRET_KEYS", SECRET_KEYS), ("UPLOAD_LEASE", "10")];
    let crashing = [&variables[..], &[("DISPATCHER_CRASH_AT", point)]].concat();
    let mut service = home.start_with(&crashing).await.unwrap();
    let item = service.item("https://example.com/site.yml", &json!({"recipient": Uuid::new_v4()}));
    let run = service.dispatch(&item, None).await.unwrap();
    let correlation_id = service.run(run).await.unwrap().correlation_id;
    let keyring = Keyring::parse(SECRET_KEYS).unwrap();
    let bearer = Bearer { run_id: run, org_id: service.org_id.clone() };
    let expires = OffsetDateTime::now_utc() + time::Duration::hours(1);
    let token = token::issue(&keyring, &bearer, expires);
    // Its address is the same after a restart.
    let url = format!("{}/api/ingress/v1/upload?token={token}", service.url);
    let archive = lines(&transcript(correlation_id, &["a"]));
    let acknowledged = send(&url, &archive).await.is_ok_and(|sent| sent.status() == 202);
    service.died().await.unwrap();

    let service = home.start_with(&variables).await.unwrap();
    if !acknowledged {
        accepted(&url, &archive).await.unwrap();
    }
    let ended = async {
        while !service.run(run).await.unwrap().status.is_final() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("{point}: never applied"));
    assert_eq!(service.run(run).await.unwrap().status, RunStatus::Success, "{point}");
    let path = format!("{BASE}/run_hosts?filter%5Brun%5D%5Bid%5D={run}");
    let hosts: Value = service.get(&path).await.unwrap();
    assert_eq!(hosts["meta"]["total"], 1, "{point}");
}

#[tokio::test]
async fn an_identity_of_a_trusted_gateway_may_upload_too() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    for (trust, status) in [("loopback", 202), ("", 401)] {
        let foreign = Foreign::new(&[("IDENTITY_HEADER_FROM", trust)]).await;
        foreign.applies();
        let identity = json!({"identity": {"type": "System", "org_id": ORG}});
        let (kind, body) = form("file", None, &lines(&foreign.transcript(&["a"])));
        let request = Client::new()
            .post(format!("{}/api/ingress/v1/upload", foreign.service.url))
            .header("content-type", kind)
            .header("x-rh-identity", BASE64_STANDARD.encode(identity.to_string()))
            .body(body);
        assert_eq!(request.send().await.unwrap().status(), status, "{trust:?}");
        foreign.settled().await;
        let expected = if status == 202 { RunStatus::Success } else { RunStatus::Running };
        assert_eq!(foreign.run().await.status, expected);
    }
}
