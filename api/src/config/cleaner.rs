//! Settings of the cleaner: how often it looks, and how long events are kept.

use std::time::Duration;

use super::source::{Source, Spec};

const INTERVAL: Spec = Spec {
    names: &["CLEANER_INTERVAL"],
    about: "Seconds between two looks for runs whose time is over.",
    allowed: "1 to 86400",
    secret: false,
};
const EVENTS_KEEP: Spec = Spec {
    names: &["EVENTS_KEEP"],
    about: "Seconds for which events are kept. With a broker, those that it does not have yet are kept \
            longer.",
    allowed: "60 to 315360000",
    secret: false,
};

/// How often the cleaner looks, and how long events are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CleanerSettings {
    /// Between the end of one look and the next.
    pub interval: Duration,
    /// How long rows of the outbox are kept.
    pub events_keep: Duration,
}

impl Default for CleanerSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), events_keep: Duration::from_secs(7 * 24 * 3600) }
    }
}

impl CleanerSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let default = Self::default();
        let interval = source.within(&INTERVAL, default.interval.as_secs(), 1..=86_400);
        let keep = source.within(&EVENTS_KEEP, default.events_keep.as_secs(), 60..=315_360_000);
        Self { interval: Duration::from_secs(interval), events_keep: Duration::from_secs(keep) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_ranges() {
        let mut unset = Source::new([].into());
        assert_eq!(CleanerSettings::read(&mut unset), CleanerSettings::default());
        unset.finish().unwrap();
        let wrong = [("CLEANER_INTERVAL", "0"), ("EVENTS_KEEP", "1")];
        let own = wrong.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut source = Source::new(own.into());
        CleanerSettings::read(&mut source);
        assert_eq!(source.finish().unwrap_err().0.len(), 2);
    }
}
