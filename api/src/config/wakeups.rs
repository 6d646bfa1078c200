//! Whether instances over one database wake each other.

use std::{fmt, str::FromStr};

use super::source::{Source, Spec};

const WAKEUPS: Spec = Spec {
    names: &["WAKEUPS"],
    about: "How instances over one PostgreSQL database tell each other at once of new work and \
            output: by LISTEN, which needs one connection that no pooler shares between \
            transactions. Off, or where nothing arrives, they find it by asking once a second. A \
            process on SQLite is alone and needs neither.",
    allowed: "postgres or off",
    secret: false,
};

/// The way between instances.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WakeupsBy {
    /// LISTEN and NOTIFY.
    Postgres,
    /// Nothing: everybody polls.
    Off,
}

impl FromStr for WakeupsBy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "postgres" => Ok(Self::Postgres),
            "off" => Ok(Self::Off),
            _ => Err(()),
        }
    }
}

impl fmt::Display for WakeupsBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Postgres { "postgres" } else { "off" })
    }
}

/// Whether instances over one database wake each other.
#[derive(Clone, Copy, Debug)]
pub struct WakeupSettings {
    /// By what.
    pub by: WakeupsBy,
}

impl WakeupSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        Self { by: source.parsed(&WAKEUPS, WakeupsBy::Postgres) }
    }
}
