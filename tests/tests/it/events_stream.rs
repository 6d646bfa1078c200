//! Events as server-sent events over the real router: what happens arrives, a reader that was cut off
//! goes on where it was, gaps are said, and streams end as they should.

use std::collections::VecDeque;

use dispatcher_tests::{
    process::{BASE, PATIENCE},
    rows,
    service::{InProcess, KEY, new_run},
    worker::{self, ScriptedWorker},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use uuid::Uuid;

/// A client of a stream, which cuts it into blocks as browsers do.
struct Stream {
    answer: Response,
    text: String,
    blocks: VecDeque<Block>,
    /// What a browser would send when it comes again.
    last_id: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Block {
    id: Option<String>,
    event: Option<String>,
    data: Option<Value>,
}

impl Stream {
    fn over(answer: Response) -> Self {
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Self { answer, text: String::new(), blocks: VecDeque::new(), last_id: String::new() }
    }

    /// The next block that has anything; `None` at the end.
    async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                if let Some(id) = &block.id {
                    self.last_id.clone_from(id);
                }
                return Some(block);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            let chunk = chunk.expect("nothing came").expect("it is not cut")?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                self.blocks.push_back(parse(block));
                self.text = rest.to_owned();
            }
        }
    }

    /// The next event: its name and data.
    async fn event(&mut self) -> Option<(String, Value)> {
        loop {
            let Block { event, data, .. } = self.block().await?;
            if let (Some(event), Some(data)) = (event, data) {
                return Some((event, data));
            }
        }
    }

    /// So many events as `<name> <status>`.
    async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told.len() < count {
            let (name, data) = self.event().await.expect("the stream goes on");
            told.push(format!("{name} {}", data["payload"]["status"].as_str().unwrap_or("-")));
        }
        told
    }
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => block.id = Some(id.to_owned()),
            Some(("event", name)) => block.event = Some(name.to_owned()),
            Some(("data", data)) => block.data = Some(serde_json::from_str(data).unwrap()),
            Some(("retry" | "", _)) => {}
            _ => panic!("a line that is none: {line:?}"),
        }
    }
    block
}

async fn ask(service: &InProcess, path: &str, last_id: Option<&str>) -> Response {
    let request = service.request(Method::GET, &format!("{BASE}/{path}"));
    let request = match last_id {
        Some(id) => request.header("last-event-id", id),
        None => request,
    };
    request.send().await.unwrap()
}

async fn stream(service: &InProcess, path: &str, last_id: Option<&str>) -> Stream {
    Stream::over(ask(service, path, last_id).await)
}

/// A run of two hosts from its dispatch to its end, which makes these events.
async fn whole_run(service: &InProcess, worker: &ScriptedWorker) -> Uuid {
    worker.wait(0).await.unwrap();
    let id = service.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    let host = worker::printed("a", "hello");
    worker.append(&run, 0, &[worker::start(&run), host]).await.unwrap();
    worker.append(&run, 2, &[worker::stats(&["a"], &[])]).await.unwrap();
    worker.finish(&run, 3).await.unwrap();
    id
}

const WHOLE: [&str; 4] = [
    "run.create running",
    "run_host.create running",
    "run.update success",
    "run_host.update success",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_arrives_and_a_reader_goes_on_where_it_was() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let mut first = stream(&service, "events", None).await;
    let id = whole_run(&service, &worker).await;
    let mut told = first.told(2).await;
    let half = first.last_id.clone();
    told.extend(first.told(2).await);
    let mut sorted = told.clone();
    sorted.sort();
    let mut whole = WHOLE.map(str::to_owned).to_vec();
    whole.sort();
    assert_eq!(sorted, whole);
    assert_eq!(told[0], "run.create running");
    let mut again = stream(&service, "events", Some(&half)).await;
    assert_eq!(again.told(2).await, told[2..]);
    let mut oldest = stream(&service, "events?last_event_id=0-0", None).await;
    let (name, data) = oldest.event().await.unwrap();
    assert_eq!((name.as_str(), data["event_type"].as_str()), ("run.create", Some("create")));
    assert_eq!(data["payload"]["id"], id.to_string());
    let mut hosts = stream(&service, "events?filter[entity]=run_host", Some("0-0")).await;
    let mut last = hosts.event().await.unwrap();
    while last.1["payload"]["status"] != "success" {
        last = hosts.event().await.unwrap();
    }
    assert_eq!(last.1["payload"]["stdout"], "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_wanted_and_only_ones_own() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    whole_run(&service, &worker).await;
    let mut ended =
        stream(&service, "events?filter[status]=success&filter[service]=test", Some("0-0")).await;
    let told = ended.told(2).await;
    assert!(told.iter().all(|line| line.ends_with(" success")), "{told:?}");
    let other = reqwest::Client::new()
        .get(format!("{}{BASE}/events", service.url))
        .header("authorization", format!("PSK {KEY}"))
        .header("x-dispatcher-org", "other")
        .header("last-event-id", "0-0");
    let mut other = Stream::over(other.send().await.unwrap());
    let begun = other.block().await.unwrap();
    assert_eq!(begun, Block::default(), "the pause of reconnections");
    service.app.shutdown.cancel();
    assert_eq!(other.event().await, None, "nothing of somebody else's, and a clean end");
    assert_eq!(ended.event().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_has_signs_of_life_that_bring_a_reader_forward() {
    let service =
        InProcess::start_with(&[("EVENTS_HEARTBEAT", "0.2")], |stores| stores).await.unwrap();
    let mut quiet = stream(&service, "events?filter[status]=canceled", None).await;
    quiet.block().await.unwrap();
    let first = quiet.block().await.unwrap();
    assert!(first.id.is_some() && first.data.is_none(), "{first:?}");
    let worker = service.worker().await.unwrap();
    whole_run(&service, &worker).await;
    let before = quiet.last_id.clone();
    while quiet.last_id == before {
        quiet.block().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runs_stream_begins_with_it_and_ends_with_it() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    let id = service.create(new_run(worker.recipient)).await.unwrap();
    let path = format!("runs/{id}/events");
    let mut live = stream(&service, &path, None).await;
    assert_eq!(live.told(1).await, WHOLE[..1]);
    assert_eq!(live.last_id, "1");
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run), worker::printed("a", "x")]).await.unwrap();
    worker.append(&run, 2, &[worker::stats(&["a"], &[])]).await.unwrap();
    worker.finish(&run, 3).await.unwrap();
    let mut told = live.told(3).await;
    told.sort();
    let mut rest = WHOLE[1..].iter().map(ToString::to_string).collect::<Vec<_>>();
    rest.sort();
    assert_eq!(told, rest);
    assert_eq!(live.event().await.unwrap().0, "end");
    assert_eq!(live.event().await, None);
    // Whoever comes again has all of it; browsers stop at this.
    let last = live.last_id.clone();
    assert_eq!(ask(&service, &path, Some(&last)).await.status(), StatusCode::NO_CONTENT);
    let mut some = stream(&service, &path, Some("2")).await;
    assert_eq!(some.told(2).await.len(), 2);
    assert_eq!(some.event().await.unwrap().0, "end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_no_more_is_said() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let id = whole_run(&service, &worker).await;
    for forget in [
        "UPDATE outbox_horizon SET id = (SELECT max(id) - 1 FROM outbox)",
        "DELETE FROM outbox WHERE id < (SELECT max(id) FROM outbox)",
    ] {
        rows::change(&service.database(), forget).unwrap();
    }
    let mut all = stream(&service, "events", Some("0-0")).await;
    let (name, data) = all.event().await.unwrap();
    assert_eq!((name.as_str(), data["reason"].as_str()), ("gap", Some("not_kept")));
    assert_eq!(all.told(1).await.len(), 1);
    let mut own = stream(&service, &format!("runs/{id}/events"), None).await;
    let (name, data) = own.event().await.unwrap();
    assert_eq!((name.as_str(), &data["first"], &data["last"]), ("gap", &1.into(), &3.into()));
    assert_eq!(own.told(1).await.len(), 1);
    assert_eq!(own.event().await.unwrap().0, "end");
    let mut ahead = stream(&service, "events", Some("7-7")).await;
    assert_eq!(ahead.event().await.unwrap().0, "gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused() {
    let service = InProcess::start_with(&[("EVENTS_STREAMS", "1")], |stores| stores).await.unwrap();
    let worker = service.worker().await.unwrap();
    let id = service.create(new_run(worker.recipient)).await.unwrap();
    let unknown = Uuid::new_v4();
    for (path, last_id, status, code) in [
        ("events".to_owned(), Some("x"), 400, "invalid_last_event_id"),
        ("events".to_owned(), Some("1-"), 400, "invalid_last_event_id"),
        ("events".to_owned(), Some("-1-1"), 400, "invalid_last_event_id"),
        (
            "events?last_event_id=1-1&last_event_id=2-2".to_owned(),
            None,
            400,
            "invalid_last_event_id",
        ),
        ("events?filter[status]=done".to_owned(), None, 400, "invalid_filter"),
        ("events?filter[color]=red".to_owned(), None, 400, "invalid_filter"),
        (format!("runs/{id}/events"), Some("-1"), 400, "invalid_last_event_id"),
        (format!("runs/{id}/events"), Some("99999999999999999999"), 400, "invalid_last_event_id"),
        (format!("runs/{unknown}/events"), None, 404, "run_not_found"),
        ("runs/none/events".to_owned(), None, 404, "run_not_found"),
    ] {
        let answer = ask(&service, &path, last_id).await;
        assert_eq!(answer.status().as_u16(), status, "{path} {last_id:?}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["error_code"], code, "{path}");
    }
    let open = stream(&service, "events", None).await;
    let full = ask(&service, "events", None).await;
    assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(full.headers().contains_key("retry-after"));
    assert!(full.text().await.unwrap().contains("EVENTS_STREAMS"));
    drop(open);
    let begun = tokio::time::Instant::now();
    while !ask(&service, "events", None).await.status().is_success() {
        assert!(begun.elapsed() < PATIENCE, "a closed stream keeps its room");
        tokio::task::yield_now().await;
    }
}
