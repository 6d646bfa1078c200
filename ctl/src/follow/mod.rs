//! Following a run: its output as a stream that is taken up again where it was cut, until the run
//! has ended and all of it was shown.
//!
//! Output, cuts and silence are one future (`to_the_end`). An interruption stops polling it while
//! the person is asked: the dispatcher waits, too, and nothing is lost.

pub(crate) mod ending;
pub(crate) mod interrupt;
mod paint;
mod screen;

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use dispatcher_wire::view::RunView;
use futures_util::StreamExt;
use uuid::Uuid;

use self::{
    interrupt::{Decision, Interrupts, OnInterrupt},
    screen::Screen,
};
use crate::{
    cli::At,
    client::Client,
    output::note,
    runs::cancel,
    text,
    trouble::{Result, Trouble, status},
};

/// A stream that lasted this long was a good one, even if it was silent.
const STEADY: Duration = Duration::from_secs(10);
/// How often a silent stream is doubted: the other end may be gone without a word.
const DOUBT: Duration = Duration::from_secs(20);
/// How often the reason for waiting is asked for while somebody watches.
const WATCHED: Duration = Duration::from_secs(1);
/// The first pause before a cut stream is taken up again; every further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is followed.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The run.
    pub(crate) run: Uuid,
    /// Only this host of it.
    pub(crate) host: Option<String>,
    /// From this byte.
    pub(crate) from: u64,
    /// How often in a row a cut stream is taken up again.
    pub(crate) retries: u32,
}

/// How a stream ended.
enum End {
    /// The dispatcher ended it.
    Whole,
    /// Something cut it.
    Cut(Trouble),
}

/// Follows a run to its end; answers with the outcome as exit status.
pub(crate) async fn follow(
    at: &At,
    client: &Client,
    target: &Target,
    meaning: OnInterrupt,
) -> Result<u8> {
    let mut interrupts = Interrupts::catch(meaning)?;
    let work = async {
        let run = to_the_end(client, target, Screen::new(at)).await?;
        ending::tell(at, client, &run).await
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            ended = &mut work => return ended,
            () = interrupts.next() => {}
        }
        match interrupts.decide().await {
            Decision::GoOn => {}
            Decision::Detach => return Ok(detached(target)),
            Decision::Cancel => request_cancel(client, target).await,
        }
    }
}

/// Prints what is stored of a run's output.
pub(crate) async fn print_stored(at: &At, client: &Client, target: &Target) -> Result<u8> {
    let mut reader = Reader::new(client, target, Screen::new(at), false);
    loop {
        let before = reader.offset;
        match reader.pump().await? {
            End::Whole => break,
            End::Cut(trouble) => reader.pause(&trouble, before).await?,
        }
    }
    reader.screen.end()?;
    Ok(status::SUCCESS)
}

fn detached(target: &Target) -> u8 {
    if std::io::stderr().is_terminal() {
        // Below the `^C` that the terminal showed.
        note("");
    }
    note(&format!("the run goes on; follow it again: dispatchctl logs -f {}", target.run));
    status::INTERRUPTED
}

/// A refusal is no reason to stop following: the run may just have ended.
async fn request_cancel(client: &Client, target: &Target) {
    match cancel::cancel_one(client, target.run).await {
        Ok(()) => note("cancel requested; following to the end (Ctrl-C leaves)"),
        Err(trouble) => note(&format!("not canceled: {}", text::clean(trouble.message()))),
    }
}

async fn to_the_end(client: &Client, target: &Target, screen: Screen) -> Result<RunView> {
    let mut reader = Reader::new(client, target, screen, true);
    loop {
        let (before, opened) = (reader.offset, Instant::now());
        let end = reader.pump().await?;
        if opened.elapsed() >= STEADY {
            reader.cuts = 0;
        }
        let is_whole = matches!(end, End::Whole);
        let trouble = match reader.run().await {
            Ok(run) if run.status.is_final() && reader.has_all_of(&run, is_whole, before) => {
                reader.screen.end()?;
                return Ok(run);
            }
            Err(trouble) if is_whole || !trouble.is_connection() => trouble,
            _ => match end {
                End::Cut(trouble) => trouble,
                End::Whole => Trouble::connection("the output ended early"),
            },
        };
        if !trouble.is_connection() {
            return Err(trouble);
        }
        // Proxies and instances that stop end streams as a matter of course.
        if is_whole && reader.cuts == 0 {
            reader.cuts = 1;
            continue;
        }
        reader.pause(&trouble, before).await?;
    }
}

/// Reads the output of one run, in as many streams as it takes.
struct Reader<'a> {
    client: &'a Client,
    target: &'a Target,
    screen: Screen,
    follow: bool,
    /// The next byte to read.
    offset: u64,
    /// Streams in a row that brought nothing.
    cuts: u32,
}

impl<'a> Reader<'a> {
    fn new(client: &'a Client, target: &'a Target, screen: Screen, follow: bool) -> Self {
        Self { client, target, screen, follow, offset: target.from, cuts: 0 }
    }

    /// Shows one stream, from the next byte on. Errors are those that another stream cannot mend.
    async fn pump(&mut self) -> Result<End> {
        let answer = match self.client.open(&self.path(), &self.query()).await {
            Ok(answer) => answer,
            Err(trouble) if trouble.is_connection() => return Ok(End::Cut(trouble)),
            Err(trouble) => return Err(trouble),
        };
        let mut pieces = answer.bytes_stream();
        loop {
            let watched = self.follow && self.screen.wants_reason();
            let patience = if watched { WATCHED } else { DOUBT };
            match tokio::time::timeout(patience, pieces.next()).await {
                Ok(Some(Ok(piece))) => {
                    self.offset += piece.len() as u64;
                    self.screen.show(&piece)?;
                }
                Ok(Some(Err(error))) => return Ok(End::Cut(self.client.cut(&error))),
                Ok(None) => return Ok(End::Whole),
                Err(_silence) => {
                    if let Some(end) = self.doubt(watched).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Looks at the run while its stream is silent: has it ended, why does it wait, does the
    /// dispatcher still answer?
    async fn doubt(&mut self, watched: bool) -> Result<Option<End>> {
        let silent = || End::Cut(Trouble::connection("the output stopped coming"));
        if !self.follow {
            return Ok(Some(silent()));
        }
        match self.run().await {
            Ok(run) if !run.status.is_final() => {
                self.screen.waits(run.pending_reason.as_deref());
                Ok(None)
            }
            // Its end is on the way; where it stays away for long, another stream brings it.
            Ok(_) => Ok((!watched).then(silent)),
            Err(trouble) if trouble.is_connection() => Ok(Some(End::Cut(trouble))),
            Err(trouble) => Err(trouble),
        }
    }

    /// Waits before another stream, as long as there may be one.
    async fn pause(&mut self, trouble: &Trouble, before: u64) -> Result<()> {
        if self.offset > before {
            self.cuts = 0;
        }
        self.cuts += 1;
        if self.cuts > self.target.retries {
            self.screen.end()?;
            let host = self.target.host.as_ref().map(|host| format!(" {host}")).unwrap_or_default();
            return Err(Trouble::connection(trouble.message()).hint(format!(
                "the run is not affected; go on with: dispatchctl logs -f --from {} {}{host}",
                self.offset, self.target.run
            )));
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.cuts - 1).min(8)).min(LONGEST_PAUSE);
        self.screen.interrupt();
        note(&format!(
            "{}; going on from byte {} ({} of {})",
            text::clean(trouble.message()),
            self.offset,
            self.cuts,
            self.target.retries
        ));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn run(&self) -> Result<RunView> {
        self.client.get(&["runs", &self.target.run.to_string()], &[]).await
    }

    /// Whether nothing is left to read of a run that has ended: the count says so, or a whole
    /// stream that brought nothing. A host's own log has no count.
    fn has_all_of(&self, run: &RunView, is_whole: bool, before: u64) -> bool {
        match self.target.host {
            Some(_) => is_whole,
            None => self.offset >= run.output_bytes || (is_whole && self.offset == before),
        }
    }

    fn path(&self) -> Vec<String> {
        let run = self.target.run.to_string();
        match &self.target.host {
            Some(host) => vec!["runs".into(), run, "hosts".into(), host.clone(), "log".into()],
            None => vec!["runs".into(), run, "log".into()],
        }
    }

    fn query(&self) -> Vec<(String, String)> {
        let mut query = vec![("from".to_owned(), self.offset.to_string())];
        if self.follow {
            query.push(("follow".to_owned(), "true".to_owned()));
        }
        query
    }
}
