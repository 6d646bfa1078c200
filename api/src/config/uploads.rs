//! Settings of uploads: how much is taken, how far it may open, how it is applied. The names of
//! Playbook Dispatcher are kept where it had them.

use std::time::Duration;

use super::source::{Source, Spec};

const fn spec(names: &'static [&'static str], about: &'static str, allowed: &'static str) -> Spec {
    Spec { names, about, allowed, secret: false }
}

const MAX_SIZE: Spec = spec(
    &["ARTIFACT_MAX_SIZE"],
    "The most that an upload may take as sent, in bytes.",
    "1024 to 67108864",
);
const MAX_OPENED: Spec = spec(
    &["UPLOAD_MAX_OPENED"],
    "The most that an upload may open to, in bytes.",
    "1024 to 1073741824",
);
const MAX_RATIO: Spec = spec(
    &["UPLOAD_MAX_RATIO"],
    "How many times its own size an upload may open to, once it has opened to 8 MiB.",
    "1 to 100000",
);
const MAX_LINE: Spec = spec(
    &["UPLOAD_MAX_LINE"],
    "The most that one event of an upload may take, in bytes.",
    "1024 to 134217728",
);
const MAX_EVENTS: Spec = spec(
    &["UPLOAD_MAX_EVENTS"],
    "The most events that one upload may hold. Each takes about half a KiB of memory at least \
     while the upload is applied.",
    "1 to 1000000",
);
const MAX_HOSTS: Spec =
    spec(&["UPLOAD_MAX_HOSTS"], "The most hosts that one upload may name.", "1 to 100000");
const LOG_MAX: Spec = spec(
    &["UPLOAD_LOG_MAX"],
    "The most output that is kept for each host of a foreign run, in bytes: head, marker, tail.",
    "1024 to 67108864",
);
const LOG_TOTAL: Spec = spec(
    &["UPLOAD_LOG_TOTAL"],
    "The most output that is kept for all hosts of a foreign run together, in bytes. Every host \
     gets the whole output of the run, so that many hosts get less of it each.",
    "1048576 to 1073741824",
);
const TRUNCATE_FROM: Spec = spec(
    &["ARTIFACT_MAX_KAFKA_MESSAGE_SIZE"],
    "From this opened size on, in bytes, the events of an upload are stored with shortened texts.",
    "0 to 1073741824",
);
const FIELD_SIZE: Spec = spec(
    &["ARTIFACT_MAX_STDOUT_FIELD_SIZE"],
    "What is left of the texts of a large upload's events, in bytes.",
    "0 to 1048576",
);
const AFTER_LINES: Spec = spec(
    &["ARTIFACT_TRUNCATE_STDOUT_FIELD_AFTER_LINES"],
    "Events of a large upload behind this line are stored without output.",
    "0 to 1000000",
);
const CONCURRENCY: Spec =
    spec(&["STORAGE_MAX_CONCURRENCY"], "How many uploads one instance applies at once.", "1 to 64");
const LEASE: Spec = spec(
    &["UPLOAD_LEASE"],
    "How long an instance may take to apply an upload before another takes it over, in seconds.",
    "10 to 3600",
);
const RETURN_URL: Spec = spec(
    &["RETURN_URL"],
    "Where foreign hosts send their events; the upload route below PUBLIC_URL when unset.",
    "an http:// or https:// address",
);

/// The upload route.
pub const UPLOAD_PATH: &str = "/api/ingress/v1/upload";

/// Settings of uploads.
#[derive(Clone, Debug)]
pub struct UploadSettings {
    /// The most that one may take as sent, in bytes.
    pub max_size: u64,
    /// How many are applied at once.
    pub concurrency: usize,
    /// How long one may take to be applied.
    pub lease: Duration,
    /// Where foreign hosts send their events, without a token.
    pub return_url: String,
    /// How far an upload may open.
    pub opening: Opening,
    /// What is kept of it.
    pub keeping: Keeping,
}

/// How far an upload may open.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Bytes in all.
    pub max_bytes: u64,
    /// Times its own size.
    pub max_ratio: u64,
    /// Bytes of a line.
    pub max_line: usize,
    /// Events.
    pub max_events: usize,
    /// Distinct hosts.
    pub max_hosts: usize,
}

/// What is kept of an upload.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// Bytes of output per host.
    pub log_max: usize,
    /// Bytes of output for all hosts together.
    pub log_total: usize,
    /// The opened size from which texts of events are shortened.
    pub truncate_from: u64,
    /// What is left of such a text, in bytes.
    pub field_size: usize,
    /// The line behind which events lose their output.
    pub after_lines: usize,
}

impl UploadSettings {
    /// Reads them; `public_url` is the address of the service.
    pub fn read(source: &mut Source, public_url: &str) -> Self {
        Self {
            max_size: source.within(&MAX_SIZE, 1 << 20, 1024..=64 << 20),
            concurrency: source.within(&CONCURRENCY, 5, 1..=64),
            lease: Duration::from_secs(source.within(&LEASE, 120, 10..=3600)),
            return_url: return_url(source, public_url),
            opening: Opening {
                max_bytes: source.within(&MAX_OPENED, 128 << 20, 1024..=1 << 30),
                max_ratio: source.within(&MAX_RATIO, 500, 1..=100_000),
                max_line: source.within(&MAX_LINE, 16 << 20, 1024..=128 << 20),
                max_events: source.within(&MAX_EVENTS, 200_000, 1..=1_000_000),
                max_hosts: source.within(&MAX_HOSTS, 10_000, 1..=100_000),
            },
            keeping: Keeping {
                log_max: source.within(&LOG_MAX, 4 << 20, 1024..=64 << 20),
                log_total: source.within(&LOG_TOTAL, 64 << 20, 1 << 20..=1 << 30),
                truncate_from: source.within(&TRUNCATE_FROM, 1 << 20, 0..=1 << 30),
                field_size: source.within(&FIELD_SIZE, 1024, 0..=1 << 20),
                after_lines: source.within(&AFTER_LINES, 500, 0..=1_000_000),
            },
        }
    }
}

fn return_url(source: &mut Source, public_url: &str) -> String {
    let Some(url) = source.text(&RETURN_URL) else {
        return format!("{}{UPLOAD_PATH}", public_url.trim_end_matches('/'));
    };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        source.reject(&RETURN_URL, &url);
    }
    url
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn source(variables: &[(&str, &str)]) -> Source {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Source::new(variables.iter().map(own).collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn the_defaults_are_acceptable_and_the_return_address_follows_the_public_one() {
        let mut source = source(&[]);
        let settings = UploadSettings::read(&mut source, "https://d.example/");
        assert_eq!(settings.return_url, "https://d.example/api/ingress/v1/upload");
        assert_eq!((settings.max_size, settings.concurrency), (1_048_576, 5));
        let Keeping { truncate_from, field_size, after_lines, .. } = settings.keeping;
        assert_eq!((truncate_from, field_size, after_lines), (1_048_576, 1024, 500));
        source.finish().unwrap();
    }

    #[test]
    fn a_return_address_must_be_one() {
        let mut source = source(&[("RETURN_URL", "ftp://x"), ("UPLOAD_MAX_RATIO", "0")]);
        UploadSettings::read(&mut source, "https://d.example");
        let error = source.finish().unwrap_err().to_string();
        assert!(error.contains("RETURN_URL=ftp://x"), "{error}");
        assert!(error.contains("UPLOAD_MAX_RATIO=0"), "{error}");
    }
}
