//! A dispatcher that does as its script says, over real HTTP: what was asked is kept, output is
//! streamed, cut or held back.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use serde_json::{Value, json};

pub(crate) const RUN: &str = "1a2b3c4d-0000-4000-8000-000000000001";
pub(crate) const RECIPIENT: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One answer to a request for output.
pub(crate) enum Stream {
    /// All of this, properly ended.
    Whole(Vec<u8>),
    /// This, then the connection is cut.
    Cut(Vec<u8>),
    /// This, then nothing until the run is canceled.
    UntilCanceled(Vec<u8>),
}

/// What the dispatcher will say.
pub(crate) struct Script {
    /// How the run reads once its output was streamed as a whole.
    pub(crate) outcome: &'static str,
    /// The answers to requests for output, in turn; the last one's end ends the run.
    pub(crate) streams: VecDeque<Stream>,
    /// Answers that come instead, once each: method and beginning of the path, status, body.
    pub(crate) instead: Vec<(&'static str, String, u16, String)>,
    /// Requests whose connection is cut without an answer, once each.
    pub(crate) dropped: Vec<(&'static str, String)>,
    pub(crate) recipients: Value,
    pub(crate) pending_reason: Option<&'static str>,
}

#[derive(Default)]
struct Progress {
    asked: Vec<Asked>,
    status: String,
    shown: u64,
    canceled: bool,
}

/// A running dispatcher.
pub(crate) struct Fake {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Script {
    /// A run that prints this and ends so.
    pub(crate) fn new(outcome: &'static str, streams: impl IntoIterator<Item = Stream>) -> Self {
        let only = json!({"id": RECIPIENT, "org_id": "1", "name": "here", "connected": true, "active_runs": 0});
        Self {
            outcome,
            streams: streams.into_iter().collect(),
            instead: Vec::new(),
            dropped: Vec::new(),
            recipients: json!([only]),
            pending_reason: None,
        }
    }

    /// This answer comes instead, once; `{url}` in it is the address of this server.
    pub(crate) fn instead(
        mut self,
        method: &'static str,
        path: &str,
        code: u16,
        body: &str,
    ) -> Self {
        self.instead.push((method, path.to_owned(), code, body.to_owned()));
        self
    }

    /// A request whose answer is cut off, once.
    pub(crate) fn drops(mut self, method: &'static str, path: &str) -> Self {
        self.dropped.push((method, path.to_owned()));
        self
    }

    pub(crate) fn start(self) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let progress = Progress { status: "running".to_owned(), ..Progress::default() };
        let shared = Arc::new(Shared {
            script: Mutex::new(self),
            progress: Mutex::new(progress),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                // A client that goes away in the middle is part of the tests.
                thread::spawn(move || shared.serve(client));
            }
        });
        Fake { url, shared }
    }
}

impl Fake {
    /// What was asked with this method below this path.
    #[track_caller]
    pub(crate) fn asked(&self, method: &str, path: &str) -> Vec<Asked> {
        let progress = self.shared.progress.lock().unwrap();
        let fits = |asked: &&Asked| asked.method == method && asked.target.starts_with(path);
        progress.asked.iter().filter(fits).cloned().collect()
    }

    /// Whether somebody canceled the run.
    pub(crate) fn is_canceled(&self) -> bool {
        self.shared.progress.lock().unwrap().canceled
    }
}

const P: &str = "/api/playbook-dispatcher/v1";

impl Shared {
    fn serve(&self, client: TcpStream) -> Option<()> {
        let mut client = client;
        let asked = read_request(&client)?;
        self.progress.lock().unwrap().asked.push(asked.clone());
        let begins =
            |method: &str, path: &str| asked.method == method && asked.target.starts_with(path);
        let mut script = self.script.lock().unwrap();
        if let Some(at) = script.dropped.iter().position(|(m, path)| begins(m, path)) {
            script.dropped.remove(at);
            return None;
        }
        if let Some(at) = script.instead.iter().position(|(m, path, ..)| begins(m, path)) {
            let (_, _, code, body) = script.instead.remove(at);
            let own = format!("http://{}", asked.header("host").unwrap_or_default());
            return answer(&mut client, code, &body.replace("{url}", &own));
        }
        if begins("GET", &format!("{P}/runs/{RUN}/")) {
            let stream = script.streams.pop_front().unwrap_or(Stream::Whole(Vec::new()));
            let is_last = script.streams.is_empty();
            drop(script);
            return self.stream(&mut client, stream, is_last);
        }
        let (code, body) = self.reply(&script, &asked);
        drop(script);
        answer(&mut client, code, &body.to_string())
    }

    fn reply(&self, script: &Script, asked: &Asked) -> (u16, Value) {
        let path = asked.target.split('?').next().unwrap();
        match (asked.method.as_str(), path.strip_prefix(P).unwrap_or(path)) {
            ("GET", "/recipients") => (200, page(script.recipients.clone())),
            ("GET", "/runs") => (200, page(json!([self.run(script)]))),
            ("GET", "/run_hosts") => {
                let status = self.progress.lock().unwrap().status.clone();
                (200, page(json!([{"host": "localhost", "status": status}])))
            }
            ("GET", path) if path == format!("/runs/{RUN}") => (200, self.run(script)),
            ("PUT", _) => (
                200,
                json!({"name": "p", "sha256": "00", "size": 1, "updated_at": "-",
                "url": "http://stored.example/p"}),
            ),
            ("POST", "/internal/v2/dispatch") => (207, json!([{"code": 201, "id": RUN}])),
            ("POST", "/internal/v2/cancel") => {
                self.cancel();
                (207, json!([{"code": 202, "run_id": RUN}]))
            }
            _ => (404, json!({"message": "Not Found"})),
        }
    }

    fn run(&self, script: &Script) -> Value {
        let progress = self.progress.lock().unwrap();
        let mut run = json!({"id": RUN, "org_id": "1", "recipient": RECIPIENT, "correlation_id": RUN,
            "url": "http://stored.example/p", "labels": {"team": "a"}, "timeout": 3600,
            "status": progress.status, "service": "test", "name": "hello.yml", "web_console_url": "",
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:02.5Z",
            "output_bytes": progress.shown});
        if let Some(reason) = script.pending_reason {
            run["pending_reason"] = json!(reason);
        }
        run
    }

    fn cancel(&self) {
        let mut progress = self.progress.lock().unwrap();
        progress.canceled = true;
        progress.status = "canceled".to_owned();
        self.changed.notify_all();
    }

    fn stream(&self, client: &mut TcpStream, stream: Stream, is_last: bool) -> Option<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\
                    connection: close\r\n\r\n";
        client.write_all(head.as_bytes()).ok()?;
        let (Stream::Whole(bytes) | Stream::Cut(bytes) | Stream::UntilCanceled(bytes)) = &stream;
        for piece in bytes.chunks(4096) {
            client.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).ok()?;
            client.write_all(piece).and_then(|()| client.write_all(b"\r\n")).ok()?;
        }
        self.progress.lock().unwrap().shown += bytes.len() as u64;
        match stream {
            Stream::Cut(_) => return None,
            Stream::UntilCanceled(_) => {
                let progress = self.progress.lock().unwrap();
                drop(self.changed.wait_while(progress, |progress| !progress.canceled).unwrap());
            }
            Stream::Whole(_) if is_last => self.end(),
            Stream::Whole(_) => {}
        }
        client.write_all(b"0\r\n\r\n").ok()
    }

    fn end(&self) {
        let outcome = self.script.lock().unwrap().outcome.to_owned();
        self.progress.lock().unwrap().status = outcome;
    }
}

fn page(data: Value) -> Value {
    let count = data.as_array().map_or(0, Vec::len);
    json!({"data": data, "links": {"first": "", "last": ""}, "meta": {"count": count, "total": count}})
}

fn read_request(client: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((key, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((key.to_owned(), value.to_owned()));
    }
    let mut asked = Asked { method, target, headers, body: Vec::new() };
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    asked.body.resize(length, 0);
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

fn answer(client: &mut TcpStream, code: u16, body: &str) -> Option<()> {
    let text = format!(
        "HTTP/1.1 {code} -\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         x-rh-insights-request-id: host/req-1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(text.as_bytes()).ok()
}
