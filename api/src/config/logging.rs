//! What is logged, and how it looks.

use std::{fmt, str::FromStr};

use super::{
    Form,
    gunicorn::Gunicorn,
    source::{Source, Spec},
};

const LEVEL: Spec = Spec {
    names: &["LOG_LEVEL"],
    about: "The least severe level that is logged.",
    allowed: "error (or critical, dpanic, panic, fatal), warn (or warning), info, debug or trace",
    secret: false,
};
const DEBUG: Spec = Spec {
    names: &["API_DEBUG"],
    about: "Whether LOG_LEVEL is debug where it is not set; answers stay as they are.",
    allowed: "True; anything else is false",
    secret: false,
};
const FORMAT: Spec = Spec {
    names: &["LOG_FORMAT"],
    about: "How a line of the log looks.",
    allowed: "json or text",
    secret: false,
};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Things to look at.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name that is shown stands first; the last three are what the original logs ends by.
    const NAMES: [(&str, Self); 10] = [
        ("error", Self::Error),
        ("critical", Self::Error),
        ("warn", Self::Warn),
        ("warning", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
        ("dpanic", Self::Error),
        ("panic", Self::Error),
        ("fatal", Self::Error),
    ];
}

impl FromStr for LogLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.to_ascii_lowercase();
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, level)| *level).ok_or(())
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, level)| level == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Json { "json" } else { "text" })
    }
}

/// What is logged, and how it looks.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// The least severe level.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

impl LogSettings {
    /// Reads them.
    pub fn read(source: &mut Source, form: Form) -> Self {
        Self::read_with(source, form, &Gunicorn::default())
    }

    /// The same, where gunicorn's arguments may have named a level.
    pub fn read_with(source: &mut Source, form: Form, gunicorn: &Gunicorn) -> Self {
        let debug = source.is_true(&DEBUG);
        let format = if form == Form::Standalone { LogFormat::Text } else { LogFormat::Json };
        Self {
            level: source.parsed(&LEVEL, default_level(debug, gunicorn)),
            format: source.parsed(&FORMAT, format),
        }
    }
}

fn default_level(debug: bool, gunicorn: &Gunicorn) -> LogLevel {
    if debug {
        return LogLevel::Debug;
    }
    let given = gunicorn.log_level.as_ref();
    given.and_then(|given| given.value.parse().ok()).unwrap_or(LogLevel::Info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_the_original_is_known_in_any_case() {
        for (name, level) in [
            ("debug", LogLevel::Debug),
            ("INFO", LogLevel::Info),
            ("warn", LogLevel::Warn),
            ("Error", LogLevel::Error),
            ("dpanic", LogLevel::Error),
            ("panic", LogLevel::Error),
            ("fatal", LogLevel::Error),
        ] {
            assert_eq!(name.parse(), Ok(level), "{name}");
        }
        assert_eq!(LogLevel::Error.to_string(), "error");
        assert!("loud".parse::<LogLevel>().is_err());
    }
}
