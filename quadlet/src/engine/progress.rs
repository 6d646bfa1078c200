//! What a command says while it works: one line per step, with the time it took; and the wish of
//! whoever watches to end it.

use std::{
    io::{IsTerminal, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::failure::{Exit, Failure};

/// Where lines go, and whether somebody wants it to end.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Whether colours are used.
    pub has_colours: bool,
    is_interrupted: Arc<AtomicBool>,
}

impl Progress {
    /// For this terminal, or whatever standard output is; Ctrl-C and SIGTERM are kept for the next
    /// safe point from now on.
    #[must_use]
    pub fn of_process() -> Self {
        let has_colours = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { has_colours, is_interrupted: Arc::default() }
    }

    /// Keeps signals for the next safe point, instead of ending at once.
    pub fn keep_signals(&self) {
        use tokio::signal::unix::{SignalKind, signal};
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (Ok(mut signals), progress) = (signal(kind), self.clone()) else { continue };
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    progress.is_interrupted.store(true, Ordering::Relaxed);
                    eprintln!("ending after this step; killing it (kill -9) is safe, too");
                }
            });
        }
    }

    /// A safe point.
    ///
    /// # Errors
    /// When somebody wants it to end.
    pub fn safe_point(&self) -> Result<(), Failure> {
        if !self.is_interrupted.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Interrupted,
            "interrupted: what was done so far stays, `quadletgen apply` does the rest",
        ))
    }

    /// Says that something is done, and how long it took.
    pub fn done(&self, since: Instant, what: &str) {
        let (green, plain) = if self.has_colours { ("\x1b[32m", "\x1b[0m") } else { ("", "") };
        self.say(&format!("{green}✓{plain} {:>6.2} s  {what}", since.elapsed().as_secs_f64()));
    }

    /// Says a line.
    pub fn say(&self, line: &str) {
        // Nobody reads it any more: no reason to leave work half done.
        let _unread = writeln!(std::io::stdout(), "{line}");
    }
}
