//! What HAProxy thinks of its servers and of itself, read from its statistics socket.

mod table;

use std::{fmt, path::PathBuf, time::Duration};

use crate::socket::{Socket, SocketError};
use table::{Row, Table};

/// How long the socket may take.
const WITHIN: Duration = Duration::from_secs(5);
const SHOW_STAT: &str = "show stat";
const SHOW_INFO: &str = "show info";

/// The statistics socket.
#[derive(Clone, Debug)]
pub struct Stats(Socket);

/// Whether requests go to a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Status {
    /// It passes its checks.
    Up,
    /// It still takes requests, but has failed some checks.
    UpFailing,
    /// It fails its checks.
    Down,
    /// It takes no requests yet, but has passed some checks.
    DownRecovering,
    /// It only takes requests that belong to it.
    Drain,
    /// It was taken out by hand.
    Maintenance,
    /// It is never checked, and takes requests.
    Unchecked,
    /// Something that this version does not know.
    Other(String),
}

/// A server of a backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// The name of its backend.
    pub backend: String,
    /// Its own.
    pub name: String,
    /// Whether it takes requests.
    pub status: Status,
    /// How the last check ended, such as `L7OK`, `L7STS`, `SOCKERR`, `INI`.
    pub check_status: String,
    /// The status of the answer to the last check, where there was one.
    pub check_code: Option<u16>,
    /// What the last check found, in words.
    pub check_text: String,
    /// Requests that it works on.
    pub sessions: u64,
    /// Requests that wait for it.
    pub queued: u64,
    /// Its share of the requests.
    pub weight: u64,
    /// Requests that it has been given since the process began.
    pub requests: u64,
    /// How long it has had its status.
    pub since: Duration,
    /// Its address; HAProxy says only `unix` of a socket.
    pub address: String,
}

/// A process of HAProxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Info {
    /// Its version, as HAProxy writes it.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has run.
    pub uptime: Duration,
    /// Connections that it has.
    pub connections: u64,
    /// Connections that it may have.
    pub max_connections: u64,
    /// Whether it has been replaced and only ends what it began.
    pub is_stopping: bool,
}

impl Status {
    /// Whether requests go there.
    #[must_use]
    pub const fn takes_requests(&self) -> bool {
        matches!(self, Self::Up | Self::UpFailing | Self::Unchecked)
    }

    /// HAProxy writes `UP`, and `UP 1/3` on the way down.
    fn of(text: &str) -> Self {
        let first = text.split(' ').next().unwrap_or_default();
        match (first, text.contains('/')) {
            ("UP", false) => Self::Up,
            ("UP", true) => Self::UpFailing,
            ("DOWN", false) => Self::Down,
            ("DOWN", true) => Self::DownRecovering,
            ("DRAIN", _) => Self::Drain,
            ("MAINT", _) => Self::Maintenance,
            ("no", _) => Self::Unchecked,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::UpFailing => "up, failing",
            Self::Down => "down",
            Self::DownRecovering => "down, recovering",
            Self::Drain => "draining",
            Self::Maintenance => "in maintenance",
            Self::Unchecked => "unchecked",
            Self::Other(text) => text,
        })
    }
}

impl Stats {
    /// The socket at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Socket::new(path, WITHIN))
    }

    /// The servers of a backend, in the order of the file; none where there is no such backend.
    ///
    /// # Errors
    /// When the socket does not answer, or not with a table.
    pub async fn servers(&self, backend: &str) -> Result<Vec<Server>, SocketError> {
        let answer = self.0.ask(SHOW_STAT).await?;
        let servers = servers(&answer);
        let strange = || self.0.strange(SHOW_STAT, answer.as_bytes(), "a table of servers");
        let servers = servers.ok_or_else(strange)?;
        Ok(servers.into_iter().filter(|one| one.backend == backend).collect())
    }

    /// The process behind the socket.
    ///
    /// # Errors
    /// When the socket does not answer, or not as HAProxy does.
    pub async fn info(&self) -> Result<Info, SocketError> {
        let answer = self.0.ask(SHOW_INFO).await?;
        info(&answer).ok_or_else(|| self.0.strange(SHOW_INFO, answer.as_bytes(), "Name: value"))
    }
}

/// All servers of a table; nothing where it is no table of servers.
fn servers(answer: &str) -> Option<Vec<Server>> {
    let table = Table::of(answer)?;
    // Of the kinds of rows, 2 is a server.
    let rows = table.rows().filter(|row| row.text("type") == "2");
    rows.map(|row| server(&row)).collect()
}

fn server(row: &Row<'_>) -> Option<Server> {
    let words = [row.text("check_desc"), row.text("last_chk")];
    let words: Vec<&str> = words.into_iter().filter(|text| !text.is_empty()).collect();
    Some(Server {
        backend: row.text("pxname").to_owned(),
        name: row.text("svname").to_owned(),
        status: Status::of(row.text("status")),
        // A star says that a check is going on just now.
        check_status: row.text("check_status").trim_start_matches("* ").to_owned(),
        check_code: row.text("check_code").parse().ok(),
        check_text: words.join(": "),
        sessions: row.number("scur")?,
        queued: row.number("qcur")?,
        weight: row.number("weight")?,
        requests: row.number("stot")?,
        since: Duration::from_secs(row.number("lastchg").unwrap_or_default()),
        address: row.text("addr").to_owned(),
    })
}

fn info(answer: &str) -> Option<Info> {
    let value = |name: &str| {
        let named = |line: &&str| line.split_once(": ").is_some_and(|(found, _)| found == name);
        answer.lines().find(named).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    };
    let number = |name| value(name).and_then(|text| text.parse::<u64>().ok());
    Some(Info {
        version: value("Version")?.to_owned(),
        pid: value("Pid")?.parse().ok()?,
        uptime: Duration::from_secs(number("Uptime_sec")?),
        connections: number("CurrConns")?,
        max_connections: number("Maxconn")?,
        is_stopping: number("Stopping")? != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: [&str; 2] =
        [include_str!("captured/stat-2.6.csv"), include_str!("captured/stat-3.0.csv")];

    #[test]
    fn servers_of_both_versions_are_read() {
        for text in STAT {
            let servers = servers(text).unwrap();
            let names: Vec<&str> = servers.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names.first(), Some(&"dispatcher-api-0"));
            assert!(servers.iter().all(|one| one.backend == "dispatcher_api"));
            let down = servers.last().unwrap();
            assert_eq!(down.status, Status::Down);
            assert_eq!(down.check_status, "SOCKERR");
            let words = "Socket error: General socket error (No such file or directory)";
            assert_eq!(down.check_text, words);
            assert_eq!((down.weight, down.sessions, down.check_code), (1, 0, None));
            assert_eq!(down.address, "unix");
        }
        let up = servers(STAT[0]).unwrap().remove(0);
        assert_eq!((up.status, up.check_code), (Status::Up, Some(200)));
        assert_eq!(up.check_text, "Layer7 check passed");
        assert_eq!(up.since, Duration::from_secs(2));
    }

    #[test]
    fn every_status_is_told_from_the_others() {
        let cases = [
            ("UP", Status::Up, true),
            ("UP 1/2", Status::UpFailing, true),
            ("DOWN", Status::Down, false),
            ("DOWN 1/2", Status::DownRecovering, false),
            ("DRAIN", Status::Drain, false),
            ("MAINT (via b/s)", Status::Maintenance, false),
            ("no check", Status::Unchecked, true),
            ("NOLB", Status::Other("NOLB".to_owned()), false),
        ];
        for (text, status, takes) in cases {
            assert_eq!(Status::of(text), status);
            assert_eq!(status.takes_requests(), takes, "{text}");
        }
    }

    #[test]
    fn the_process_of_both_versions_is_read() {
        let texts = [include_str!("captured/info-2.6.txt"), include_str!("captured/info-3.0.txt")];
        for (text, version) in texts.into_iter().zip(["2.6.", "3.0."]) {
            let info = info(text).unwrap();
            assert!(info.version.starts_with(version), "{}", info.version);
            assert!(info.pid > 1 && info.max_connections >= 500 && !info.is_stopping);
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["", "Unknown command: 'show stat'\n", "# a,b\n1,2\n", "Permission denied\n"] {
            assert!(servers(text).is_none(), "{text:?}");
            assert!(info(text).is_none(), "{text:?}");
        }
    }
}
