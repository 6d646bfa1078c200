//! Why a command did not do what was asked, and the exit status that says so. Texts here are for
//! people: the thing, the value, what to do next. No key is ever part of one.

use std::process::ExitCode;

use crate::{
    output::{self, ColorChoice},
    text,
};

/// The result of everything in this program.
pub(crate) type Result<T> = std::result::Result<T, Trouble>;

/// Exit statuses; the long help lists them, scripts depend on them.
pub(crate) mod status {
    /// Done; a followed run succeeded.
    pub(crate) const SUCCESS: u8 = 0;
    /// A followed run failed, or the request was refused.
    pub(crate) const FAILURE: u8 = 1;
    /// The command line, a file named in it or the configuration is wrong.
    pub(crate) const USAGE: u8 = 2;
    /// A followed run was canceled.
    pub(crate) const CANCELED: u8 = 3;
    /// A followed run timed out.
    pub(crate) const TIMEOUT: u8 = 4;
    /// The dispatcher could not be reached, or could not answer.
    pub(crate) const CONNECTION: u8 = 5;
    /// Interrupted while following; the run goes on.
    pub(crate) const INTERRUPTED: u8 = 130;
    /// Nobody reads the output any more, as if killed by SIGPIPE.
    pub(crate) const PIPE: u8 = 141;
}

/// A failure, on its way to the person.
#[derive(Debug)]
pub(crate) struct Trouble {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Usage,
    Failed,
    Missing,
    Refused,
    Connection,
    Pipe,
}

impl Trouble {
    /// What was typed, or a file it names, is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), hint: None }
    }

    /// The dispatcher refused, or something here failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), hint: None }
    }

    /// The dispatcher has no such thing.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self { kind: Kind::Missing, message: message.into(), hint: None }
    }

    /// The dispatcher does not let this caller in, or not there.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, message: message.into(), hint: None }
    }

    /// The dispatcher cannot be reached or cannot answer now: trying again may help.
    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Self { kind: Kind::Connection, message: message.into(), hint: None }
    }

    /// Output could not be written; a closed pipe is the reader's choice and is not reported.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self { kind: Kind::Pipe, message: String::new(), hint: None };
        }
        Self::failed(format!("cannot write the output: {error}"))
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether trying again may help.
    pub(crate) fn is_connection(&self) -> bool {
        self.kind == Kind::Connection
    }

    /// Whether the caller was not let in.
    pub(crate) fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// Whether what was asked for is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    /// The text without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self.kind {
            Kind::Usage => status::USAGE,
            Kind::Failed | Kind::Missing | Kind::Refused => status::FAILURE,
            Kind::Connection => status::CONNECTION,
            Kind::Pipe => status::PIPE,
        }
    }

    /// Tells the person.
    pub(crate) fn report(&self) -> ExitCode {
        if self.kind != Kind::Pipe {
            let error = if ColorChoice::Auto.paints(&std::io::stderr()) {
                "\x1b[1;31merror:\x1b[0m"
            } else {
                "error:"
            };
            output::note(&format!("{error} {}", text::clean(&self.message)));
            for line in self.hint.iter().flat_map(|hint| hint.lines()) {
                output::note(&format!("  {}", text::clean(line)));
            }
        }
        ExitCode::from(self.status())
    }
}
