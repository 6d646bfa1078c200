//! Ctrl-C while a run is followed: the person decides, and where there is none, the options did.

use std::{
    io::{BufRead, IsTerminal, Write},
    thread,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::{
    output::note,
    trouble::{Result, Trouble},
};

/// What an interruption means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnInterrupt {
    /// Stop looking; the run goes on.
    Detach,
    /// Ask the person whether to cancel the run.
    Ask,
    /// Cancel the run.
    Cancel,
}

impl OnInterrupt {
    /// For a run that this very call started.
    pub(crate) fn of_own_run(cancel: bool) -> Self {
        let person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        match (cancel, person) {
            (true, _) => Self::Cancel,
            (false, true) => Self::Ask,
            (false, false) => Self::Detach,
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// Follow on, as if nothing had happened.
    GoOn,
    /// Cancel the run, and follow on.
    Cancel,
    /// Leave; the run goes on.
    Detach,
}

/// The interruptions of this process, from here on no longer its end.
pub(crate) struct Interrupts {
    meaning: OnInterrupt,
    canceled: bool,
    interrupt: Signal,
    terminate: Option<Signal>,
}

impl Interrupts {
    /// Catches SIGINT, and SIGTERM where an interruption is to cancel the run: whoever stops a job
    /// of many commands sends that.
    pub(crate) fn catch(meaning: OnInterrupt) -> Result<Self> {
        let failed = |error| Trouble::failed(format!("cannot catch signals: {error}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = match meaning {
            OnInterrupt::Cancel => Some(signal(SignalKind::terminate()).map_err(failed)?),
            _ => None,
        };
        Ok(Self { meaning, canceled: false, interrupt, terminate })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        match &mut self.terminate {
            None => self.interrupt.recv().await,
            Some(terminate) => tokio::select! {
                got = self.interrupt.recv() => got,
                got = terminate.recv() => got,
            },
        };
    }

    /// What the one that just came means. Once a cancellation is asked for, another one leaves.
    pub(crate) async fn decide(&mut self) -> Decision {
        let decision = match self.meaning {
            _ if self.canceled => Decision::Detach,
            OnInterrupt::Detach => Decision::Detach,
            OnInterrupt::Cancel => Decision::Cancel,
            OnInterrupt::Ask => self.ask().await,
        };
        self.canceled |= decision == Decision::Cancel;
        decision
    }

    async fn ask(&mut self) -> Decision {
        let mut stderr = std::io::stderr();
        // Without a terminal left to ask in, no answer comes, which is no.
        let _gone = write!(stderr, "\ncancel the run? [y/N] (Ctrl-C leaves it running) ")
            .and_then(|()| stderr.flush());
        tokio::select! {
            answer = typed_line() => match answer.trim() {
                "y" | "Y" | "yes" => Decision::Cancel,
                _ => {
                    note("following on");
                    Decision::GoOn
                }
            },
            () = self.next() => Decision::Detach,
        }
    }
}

/// A line from the terminal, read by a thread of its own: reading cannot be given up, and the
/// process may end meanwhile.
async fn typed_line() -> String {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let answer = std::io::stdin().lock().read_line(&mut line).map(|_| line);
        // Nobody waits for it any more where the process is about to end.
        let _ended = tell.send(answer.unwrap_or_default());
    });
    told.await.unwrap_or_default()
}
