//! Settings of events: the broker they go to, and how they are handed over.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    source::{Source, Spec},
    values::{ByteSize, Seconds},
};

const fn spec(names: &'static [&'static str], about: &'static str, allowed: &'static str) -> Spec {
    Spec { names, about, allowed, secret: false }
}

const AMQP_URL: Spec = Spec {
    names: &["AMQP_URL", "AMQP_BROKER_URL"],
    about: "The RabbitMQ that events are published to; unset: events are kept and not published. Of \
            several servers one that answers is used.",
    allowed: "amqp://user:password@host:port[,host:port…]/vhost, or amqps://…",
    secret: true,
};
const MESSAGE_MAX: Spec = spec(
    &["AMQP_MESSAGE_MAX"],
    "The most that the body of a message may take. Output that is too long for it is cut in the \
     middle, with a marker.",
    "64KiB to 128MiB",
);
const CONFIRM_TIMEOUT: Spec = spec(
    &["AMQP_CONFIRM_TIMEOUT"],
    "Seconds within which the broker must confirm a message, or be connected to; otherwise the \
     connection is made anew.",
    "0.1 to 300",
);
const BATCH: Spec =
    spec(&["EVENTS_BATCH"], "The most events that are read and published at once.", "1 to 5000");
const IN_FLIGHT: Spec = spec(
    &["EVENTS_IN_FLIGHT"],
    "The most messages that wait for the broker's confirmation at once. There is never more than \
     one per run, so that those of a run stay in order.",
    "1 to 1000",
);

const STREAMS: Spec = spec(
    &["EVENTS_STREAMS"],
    "The most streams of events that an instance holds open at once.",
    "0 to 100000",
);
const HEARTBEAT: Spec = spec(
    &["EVENTS_HEARTBEAT"],
    "Seconds without an event after which a stream of events gives a sign of life. Proxies on the \
     way must wait longer than that.",
    "0.1 to 300",
);

/// The smallest message that may be asked for.
const SMALLEST_MESSAGE: u64 = 64 << 10;
/// The largest message that RabbitMQ may be made to take.
const LARGEST_MESSAGE: u64 = 128 << 20;

/// The broker, and how events are handed over.
#[derive(Clone, Debug)]
pub struct EventSettings {
    /// The broker's address; `None`: there is none.
    pub amqp_url: Option<SecretString>,
    /// The most that a body may take.
    pub message_max: usize,
    /// Within which the broker must answer.
    pub confirm_timeout: Duration,
    /// Events that are read at once.
    pub batch: u32,
    /// Messages that wait for confirmation at once.
    pub in_flight: usize,
    /// Streams that are open at once.
    pub streams: usize,
    /// Silence of a stream until a sign of life.
    pub heartbeat: Duration,
}

impl EventSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let amqp_url = source.text(&AMQP_URL);
        if let Some(url) = amqp_url.as_deref().filter(|url| !is_amqp(url)) {
            source.reject(&AMQP_URL, url);
        }
        let sizes = ByteSize(SMALLEST_MESSAGE)..=ByteSize(LARGEST_MESSAGE);
        let timeouts = Seconds(Duration::from_millis(100))..=Seconds::whole(300);
        let heartbeats = timeouts.clone();
        let message_max = source.within(&MESSAGE_MAX, ByteSize(1 << 20), sizes);
        Self {
            amqp_url: amqp_url.map(SecretString::from),
            message_max: usize::try_from(message_max.0).unwrap_or(usize::MAX),
            confirm_timeout: source.within(&CONFIRM_TIMEOUT, Seconds::whole(10), timeouts).0,
            batch: source.within(&BATCH, 200, 1..=5_000),
            in_flight: source.within(&IN_FLIGHT, 64, 1..=1_000),
            streams: source.within(&STREAMS, 200, 0..=100_000),
            heartbeat: source.within(&HEARTBEAT, Seconds::whole(15), heartbeats).0,
        }
    }

    /// Whether there is a broker that events wait for.
    #[must_use]
    pub fn has_broker(&self) -> bool {
        self.amqp_url.as_ref().is_some_and(|url| !url.expose_secret().is_empty())
    }
}

fn is_amqp(url: &str) -> bool {
    let rest = url.strip_prefix("amqp://").or_else(|| url.strip_prefix("amqps://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(variables: &[(&str, &str)]) -> Source {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Source::new(variables.iter().map(own).collect())
    }

    #[test]
    fn off_unless_named_and_the_older_name_counts() {
        let mut unset = source(&[]);
        assert!(!EventSettings::read(&mut unset).has_broker());
        unset.finish().unwrap();
        let mut older = source(&[("AMQP_BROKER_URL", "amqp://localhost")]);
        assert!(EventSettings::read(&mut older).has_broker());
        assert_eq!(older.effective()[0].value, "***", "it may carry a password");
    }

    #[test]
    fn wrong_values_are_named_without_the_password() {
        let mut wrong = source(&[
            ("AMQP_URL", "http://guest:hunter2@localhost"),
            ("AMQP_MESSAGE_MAX", "1KB"),
            ("AMQP_CONFIRM_TIMEOUT", "0"),
            ("EVENTS_BATCH", "0"),
            ("EVENTS_IN_FLIGHT", "x"),
            ("EVENTS_STREAMS", "-1"),
            ("EVENTS_HEARTBEAT", "301"),
        ]);
        EventSettings::read(&mut wrong);
        let error = wrong.finish().unwrap_err();
        assert_eq!(error.0.len(), 7, "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
