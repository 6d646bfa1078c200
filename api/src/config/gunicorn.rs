//! What operators of DCI's role say to gunicorn, understood as what they want of this process.
//!
//! Every value here is only a default for a setting of our own, which wins where it is set; of two
//! of gunicorn's, the one in GUNICORN_CMD_ARGS wins, as it does there. What cannot be followed is
//! said at the start and stops nothing.

use std::str::FromStr;

use super::{
    listening,
    peers::TrustedPeers,
    source::{Source, Spec},
    values::ListenList,
};

const WORKERS: Spec = Spec {
    names: &["DCI_NB_WORKERS"],
    about: "For WORKER_THREADS; also multiplies the two settings of gunicorn that count per worker.",
    allowed: "1 to 1024",
    secret: false,
};
const CONNECTIONS: Spec = Spec {
    names: &["DCI_GUNICORN_WORKER_CONNECTIONS"],
    about: "For HTTP_MAX_CONNECTIONS, times the workers. Workers that wait for work count, too.",
    allowed: "1 to 1000000",
    secret: false,
};
const MAX_REQUESTS: Spec = Spec {
    names: &["DCI_GUNICORN_MAX_REQUESTS"],
    about: "For MAX_REQUESTS, times the workers.",
    allowed: "0 to 1000000000",
    secret: false,
};
const JITTER: Spec = Spec {
    names: &["DCI_GUNICORN_MAX_REQUESTS_JITTER"],
    about: "For MAX_REQUESTS_JITTER, times the workers.",
    allowed: "0 to 1000000000",
    secret: false,
};
const TIMEOUT: Spec = Spec {
    names: &["DCI_GUNICORN_TIMEOUT"],
    about: "For WATCHDOG_TIMEOUT and, unless it is 0, for HTTP_REQUEST_TIMEOUT.",
    allowed: "0 to 3600",
    secret: false,
};
const GRACEFUL: Spec = Spec {
    names: &["DCI_GUNICORN_GRACEFUL_TIMEOUT"],
    about: "For GRACEFUL_TIMEOUT.",
    allowed: "0 to 3600",
    secret: false,
};
const ARGUMENTS: Spec = Spec {
    names: &["GUNICORN_CMD_ARGS"],
    about: "Arguments of gunicorn: those with a meaning here are followed, others are named at the \
            start.",
    allowed: "--workers, --worker-connections, --max-requests, --max-requests-jitter, --timeout, \
              --graceful-timeout, --log-level, --bind, --forwarded-allow-ips; any other is named \
              and left alone",
    secret: false,
};

/// Short forms of arguments.
const SHORT: [(&str, &str); 5] = [
    ("-w", "--workers"),
    ("-t", "--timeout"),
    ("-b", "--bind"),
    ("-k", "--worker-class"),
    ("-c", "--config"),
];
/// Arguments that are followed.
const FOLLOWED: [&str; 9] = [
    "--workers",
    "--worker-connections",
    "--max-requests",
    "--max-requests-jitter",
    "--timeout",
    "--graceful-timeout",
    "--log-level",
    "--bind",
    "--forwarded-allow-ips",
];
/// Arguments about gunicorn's own parts, which are not here: not worth a word.
const ITS_OWN: [&str; 5] =
    ["--worker-class", "--threads", "--preload", "--worker-tmp-dir", "--name"];
/// Those of them, and others, that have no value.
const SWITCHES: [&str; 3] = ["--preload", "--reload", "--capture-output"];
/// Arguments that have a setting of our own to say the same with.
const INSTEAD: [(&str, &str); 5] = [
    ("--keep-alive", "HTTP_HEADER_TIMEOUT"),
    ("--limit-request-line", "HTTP_MAX_HEADER_SIZE"),
    ("--limit-request-fields", "HTTP_MAX_HEADER_SIZE"),
    ("--limit-request-field_size", "HTTP_MAX_HEADER_SIZE"),
    ("--access-logfile", "LOG_FORMAT, since requests are always logged to standard error"),
];

/// A value, and where it was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// The variable, and the argument in it.
    pub origin: String,
}

/// What gunicorn was told.
#[derive(Clone, Debug, Default)]
pub struct Gunicorn {
    /// How many threads.
    pub workers: Option<Given<u64>>,
    /// How many connections, of all workers.
    pub connections: Option<Given<u64>>,
    /// After how many requests to begin anew, of all workers.
    pub max_requests: Option<Given<u64>>,
    /// And how many more at random.
    pub jitter: Option<Given<u64>>,
    /// Seconds of silence, and for a request.
    pub timeout: Option<Given<u64>>,
    /// Seconds for requests under way at the end.
    pub graceful: Option<Given<u64>>,
    /// A level in its words.
    pub log_level: Option<Given<String>>,
    /// Where to listen, for LISTEN.
    pub bind: Option<Given<ListenList>>,
    /// Proxies in front, for FORWARDED_FROM.
    pub forwarded: Option<Given<TrustedPeers>>,
}

impl Gunicorn {
    /// Reads all of it.
    pub fn read(source: &mut Source) -> Self {
        let text = source.text(&ARGUMENTS).unwrap_or_default();
        let mut arguments = Arguments::parse(&text);
        let mut number =
            |source: &mut Source, spec: &Spec, flag, range: std::ops::RangeInclusive<u64>| {
                let named = variable(source, spec, &range);
                arguments.take(flag, |value: &u64| range.contains(value)).or(named)
            };
        let workers = number(source, &WORKERS, "--workers", 1..=1024);
        let connections = number(source, &CONNECTIONS, "--worker-connections", 1..=1_000_000);
        let max_requests = number(source, &MAX_REQUESTS, "--max-requests", 0..=1_000_000_000);
        let jitter = number(source, &JITTER, "--max-requests-jitter", 0..=1_000_000_000);
        let timeout = number(source, &TIMEOUT, "--timeout", 0..=3600);
        let graceful = number(source, &GRACEFUL, "--graceful-timeout", 0..=3600);
        let log_level = arguments.take("--log-level", |_: &String| true);
        let (bind, substitutes) = arguments.bind();
        let forwarded = arguments.take("--forwarded-allow-ips", |_: &TrustedPeers| true);
        substitutes.into_iter().for_each(|notice| source.notice(notice));
        arguments.notices().into_iter().for_each(|notice| source.notice(notice));
        let each = workers.as_ref().map_or(1, |workers| workers.value);
        let of_all = |given: Option<Given<u64>>| {
            given.map(|given| Given { value: given.value.saturating_mul(each), ..given })
        };
        Self {
            connections: of_all(connections),
            max_requests: of_all(max_requests),
            jitter: of_all(jitter),
            workers,
            timeout,
            graceful,
            log_level,
            bind,
            forwarded,
        }
    }
}

fn variable(
    source: &mut Source,
    spec: &Spec,
    range: &std::ops::RangeInclusive<u64>,
) -> Option<Given<u64>> {
    let text = source.text(spec)?;
    let value = text.trim().parse().ok().filter(|value| range.contains(value));
    if value.is_none() {
        source.reject(spec, &text);
    }
    let origin = spec.names.first().copied().unwrap_or_default().to_owned();
    value.map(|value| Given { value, origin })
}

/// Arguments that nobody has taken yet.
#[derive(Debug, Default)]
struct Arguments {
    left: Vec<(String, String)>,
    unusable: Vec<String>,
}

impl Arguments {
    fn parse(text: &str) -> Self {
        let mut arguments = Self::default();
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let long =
                SHORT.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
            let follows = attached.is_none() && !SWITCHES.contains(&long);
            let value = attached.or_else(|| {
                if follows { words.next_if(|next| !next.starts_with('-')) } else { None }
            });
            let value = value.unwrap_or_default().trim_matches(['"', '\'']);
            arguments.left.push((long.to_owned(), value.to_owned()));
        }
        arguments
    }

    /// Every value of an argument.
    fn all(&mut self, flag: &str) -> Vec<String> {
        let (own, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.left).into_iter().partition(|(name, _)| name == flag);
        self.left = left;
        own.into_iter().map(|(_, text)| text).collect()
    }

    /// Every address of `--bind`, which may be there several times, and what is to be said of those
    /// that are no addresses of this host.
    fn bind(&mut self) -> (Option<Given<ListenList>>, Vec<String>) {
        let (mut addresses, mut substitutes) = (Vec::new(), Vec::new());
        for text in self.all("--bind").iter().flat_map(|text| text.split(',')) {
            let Some((address, substitute)) = listening::bound(text) else {
                self.unusable.push(format!("--bind {text}"));
                continue;
            };
            addresses.push(address);
            substitutes.extend(substitute.map(|why| format!("GUNICORN_CMD_ARGS --bind: {why}")));
        }
        let origin = "GUNICORN_CMD_ARGS --bind".to_owned();
        let given = Given { value: ListenList(addresses), origin };
        (Some(given).filter(|given| !given.value.0.is_empty()), substitutes)
    }

    /// The last value of an argument, if it is acceptable.
    fn take<T: FromStr>(&mut self, flag: &str, fits: impl Fn(&T) -> bool) -> Option<Given<T>> {
        let all = self.all(flag);
        let text = all.last()?;
        let value = text.parse().ok().filter(|value| fits(value));
        if value.is_none() {
            self.unusable.push(format!("{flag} {text}"));
        }
        value.map(|value| Given { value, origin: format!("GUNICORN_CMD_ARGS {flag}") })
    }

    /// What is to be said of those that nobody took.
    fn notices(self) -> Vec<String> {
        let unusable = self.unusable.into_iter();
        let unusable = unusable
            .map(|text| format!("GUNICORN_CMD_ARGS: {text} is not acceptable and is not followed"));
        let left = self.left.into_iter().filter(|(name, _)| {
            !ITS_OWN.contains(&name.as_str()) && !FOLLOWED.contains(&name.as_str())
        });
        let left = left.map(|(name, _)| match INSTEAD.iter().find(|(flag, _)| *flag == name) {
            Some((_, instead)) => {
                format!("GUNICORN_CMD_ARGS: {name} is not followed; use {instead}")
            }
            None => format!("GUNICORN_CMD_ARGS: {name} is not known here"),
        });
        unusable.chain(left).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(variables: &[(&str, &str)]) -> (Gunicorn, Vec<String>, Result<(), String>) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut source = Source::new(variables.iter().map(own).collect());
        let gunicorn = Gunicorn::read(&mut source);
        let notices = source.notices().to_vec();
        (gunicorn, notices, source.finish().map(drop).map_err(|error| error.to_string()))
    }

    #[test]
    fn what_counts_per_worker_is_multiplied() {
        let (gunicorn, notices, told) = reading(&[
            ("DCI_NB_WORKERS", "3"),
            ("DCI_GUNICORN_WORKER_CONNECTIONS", "100"),
            ("DCI_GUNICORN_MAX_REQUESTS", "1000"),
            ("DCI_GUNICORN_TIMEOUT", "30"),
        ]);
        assert_eq!(gunicorn.connections.unwrap().value, 300);
        let max = gunicorn.max_requests.unwrap();
        assert_eq!((max.value, max.origin.as_str()), (3000, "DCI_GUNICORN_MAX_REQUESTS"));
        assert_eq!(gunicorn.timeout.unwrap().value, 30);
        assert!(gunicorn.jitter.is_none() && notices.is_empty() && told.is_ok());
    }

    #[test]
    fn arguments_win_and_what_is_not_known_is_named() {
        let arguments = "-w 2 --timeout=45 --max-requests 'x' --keep-alive 5 --preload \
                         --threads 4 --statsd-host a:1 --log-level \"warning\"";
        let variables = [("DCI_NB_WORKERS", "8"), ("GUNICORN_CMD_ARGS", arguments)];
        let (gunicorn, notices, told) = reading(&variables);
        let workers = gunicorn.workers.unwrap();
        assert_eq!((workers.value, workers.origin.as_str()), (2, "GUNICORN_CMD_ARGS --workers"));
        assert_eq!(gunicorn.timeout.unwrap().value, 45);
        assert_eq!(gunicorn.log_level.unwrap().value, "warning");
        assert!(told.is_ok());
        let [unusable, kept, statsd] = notices.as_slice() else { panic!("{notices:?}") };
        assert!(unusable.contains("--max-requests x"), "{unusable}");
        assert!(
            kept.contains("HTTP_HEADER_TIMEOUT") && statsd.contains("--statsd-host"),
            "{notices:?}"
        );
    }

    #[test]
    fn addresses_and_proxies_are_followed() {
        let arguments = "-b 127.0.0.1:5000 --bind=unix:/run/x.sock --bind api.example.com:80 \
                         --bind fd://3 --forwarded-allow-ips=10.0.0.1,10.0.0.2";
        let (gunicorn, notices, _) = reading(&[("GUNICORN_CMD_ARGS", arguments)]);
        let bind = gunicorn.bind.unwrap();
        assert_eq!(bind.value.to_string(), "tcp:127.0.0.1:5000,unix:/run/x.sock,tcp:0.0.0.0:80");
        assert_eq!(bind.origin, "GUNICORN_CMD_ARGS --bind");
        assert_eq!(gunicorn.forwarded.unwrap().value.to_string(), "10.0.0.1/32,10.0.0.2/32");
        let [name, descriptor] = notices.as_slice() else { panic!("{notices:?}") };
        assert!(name.contains("api.example.com") && descriptor.contains("--bind fd://3"));
        // Whoever may connect could say that it is somebody else.
        let everybody = [("GUNICORN_CMD_ARGS", "--forwarded-allow-ips *")];
        let (gunicorn, notices, _) = reading(&everybody);
        assert!(gunicorn.forwarded.is_none());
        assert!(notices[0].contains("--forwarded-allow-ips *"), "{notices:?}");
    }

    #[test]
    fn a_variable_that_is_no_number_stops_the_start() {
        for (name, value) in [("DCI_NB_WORKERS", "0"), ("DCI_GUNICORN_TIMEOUT", "long")] {
            let (_, _, told) = reading(&[(name, value)]);
            assert!(told.unwrap_err().contains(name));
        }
    }
}
