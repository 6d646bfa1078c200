//! What may be typed: every command, its options and their help. Nothing is done here.
//!
//! There is no option for a key: other users of the machine can read every command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use dispatcher_wire::RunStatus;

use crate::{
    inputs,
    keys::args::{AuditArgs, KeysCommand},
    login::LoginArgs,
    output::{self, ColorChoice, Format},
    registry::RecipientsArgs,
    trouble::{Result, status},
};

const AFTER_HELP: &str = "\
Exit status:
  0    done; the followed run succeeded
  1    the followed run failed, or the request was refused
  2    the command line, a file it names or the configuration is wrong
  3    the followed run was canceled
  4    the followed run timed out
  5    the dispatcher could not be reached, or could not answer
  130  interrupted while following; the run goes on
  141  nobody reads the output any more

Environment:
  DISPATCHER_CONTEXT   the context to use (--context)
  DISPATCHER_URL       the dispatcher's address (--url)
  DISPATCHER_KEY       the key, instead of the context's
  DISPATCHER_ORG       the organisation (--org)
  DISPATCHER_DATA_DIR  data folder of a standalone dispatcher, instead of the current context
  NO_COLOR             when set, no colours
  XDG_CONFIG_HOME      contexts are in dispatcher/contexts.json there (~/.config)

Without a context and without --url, the standalone dispatcher in ./data is used.";

/// Run Ansible playbooks on connected hosts, follow them, look at what ran.
#[derive(Debug, Parser)]
#[command(name = "dispatchctl", version, after_long_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command: which dispatcher, and how answers look.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct At {
    /// The context to use (see `dispatchctl context`)
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The dispatcher's address
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The organisation
    #[arg(long, global = true, value_name = "ORG")]
    pub(crate) org: Option<String>,
    /// A file that holds the key
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// How answers look
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a playbook: a file, a folder (sent whole) or a URL
    Run(Box<RunArgs>),
    /// List runs, look at one, cancel some
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Print what a run printed
    Logs(LogsArgs),
    /// List the recipients (hosts and controllers that take runs), label and remove them, make
    /// tokens with which new ones register
    Recipients(RecipientsArgs),
    /// List the uploads that were received from hosts
    Uploads,
    /// List stored playbooks, store one, look at one
    #[command(subcommand)]
    Playbooks(PlaybooksCommand),
    /// Make, list, replace and revoke keys of services (for admins)
    #[command(subcommand)]
    Keys(KeysCommand),
    /// List what people and keys changed (for admins)
    Audit(AuditArgs),
    /// Show who the dispatcher takes you for
    Identity,
    /// Log in with any browser; the login is kept in the context and used instead of a key
    Login(LoginArgs),
    /// Log out of the context
    Logout,
    /// Name dispatchers, with their keys, and choose among them
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print a completion script, for example: source <(dispatchctl completion bash)
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// A playbook, a folder with one and all it needs, or an http(s) URL
    #[arg(value_name = "FILE|DIR|URL")]
    pub(crate) playbook: String,
    /// Who runs it, by name or id; not needed where only one recipient is connected
    #[arg(short, long, value_name = "RECIPIENT")]
    pub(crate) recipient: Option<String>,
    /// The playbook inside a folder
    #[arg(long, value_name = "PATH", default_value = "site.yml")]
    pub(crate) entry: String,
    /// An inventory file, or hosts separated by commas: 'web1,web2,'
    #[arg(short, long, value_name = "FILE|HOSTS")]
    pub(crate) inventory: Option<String>,
    /// Extra variables: k=v, @file (YAML or JSON) or a JSON object; repeatable, later ones win
    #[arg(short, long = "extra-vars", value_name = "VARS")]
    pub(crate) extra_vars: Vec<String>,
    /// Only these hosts of the inventory
    #[arg(short, long, value_name = "PATTERN")]
    pub(crate) limit: Option<String>,
    /// Only tasks with these tags
    #[arg(short, long, value_name = "TAG", value_delimiter = ',')]
    pub(crate) tags: Vec<String>,
    /// No tasks with these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(crate) skip_tags: Vec<String>,
    /// Change nothing, say what would change
    #[arg(short = 'C', long)]
    pub(crate) check: bool,
    /// Show what changes in files
    #[arg(short = 'D', long)]
    pub(crate) diff: bool,
    /// Let Ansible say more; up to five times
    #[arg(short, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Time for the run, waiting included: 90, 30s, 15m, 1h30m, 7d
    #[arg(long, value_name = "TIME", value_parser = inputs::timeout)]
    pub(crate) timeout: Option<i32>,
    /// A label; repeatable
    #[arg(long = "label", value_name = "K=V", value_parser = inputs::pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// What to call the run; the file's name when absent
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A variable that is kept sealed and never shown: k=@file, k=- (typed or from standard input),
    /// or k=v, which other users of this machine can read while this program runs
    #[arg(long = "secret", value_name = "K=V")]
    pub(crate) secrets: Vec<String>,
    /// The SHA-256 that the playbook must have on the recipient; that of a local one when absent
    #[arg(long, value_name = "HEX", value_parser = inputs::sha256)]
    pub(crate) sha256: Option<String>,
    /// A file with a detached Ed25519 signature over the playbook, for recipients that check it
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
    /// Makes repeated calls one run for 24 hours; by default every call is its own run
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Show the output live, and end with the outcome as exit status
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Cancel the run when interrupted while following, without asking (SIGINT and SIGTERM)
    #[arg(long, requires = "follow")]
    pub(crate) cancel_on_interrupt: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// How a cut stream is taken up again.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How often in a row to take up a cut connection while following
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) retries: u32,
}

/// `runs …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    List(RunsListArgs),
    /// Show one run and its hosts
    Get {
        /// The run: its id, or the first characters of a recent one
        run: String,
    },
    /// Cancel runs; exit status 1 when one was refused
    Cancel {
        /// The runs: their ids, or the first characters of recent ones
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
    },
}

/// `runs list`.
#[derive(Args, Debug)]
pub(crate) struct RunsListArgs {
    /// Only runs of this status: running, success, failure, timeout, canceled
    #[arg(long, value_parser = inputs::run_status)]
    pub(crate) status: Option<RunStatus>,
    /// Only runs with this label; repeatable
    #[arg(long = "label", value_name = "K=V", value_parser = inputs::pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// Only runs of this recipient, by name or id
    #[arg(long)]
    pub(crate) recipient: Option<String>,
    /// Only runs that this service dispatched
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// How many to list
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
    /// How many to skip
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) offset: u32,
    /// List all of them, page after page
    #[arg(long, conflicts_with_all = ["limit", "offset"])]
    pub(crate) all: bool,
}

/// `logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Go on until the run ends, and end with its outcome as exit status
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The run: its id, or the first characters of a recent one
    pub(crate) run: String,
    /// Only what concerns this host
    pub(crate) host: Option<String>,
    /// Begin at this byte
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    pub(crate) from: u64,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// `playbooks …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PlaybooksCommand {
    /// List stored playbooks
    List,
    /// Store a playbook file, or a folder as a bundle
    Put {
        /// A playbook, or a folder with one and all it needs
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
        /// What to call it; the file's name when absent
        #[arg(long)]
        name: Option<String>,
        /// The playbook inside a folder
        #[arg(long, value_name = "PATH", default_value = "site.yml")]
        entry: String,
    },
    /// Show one stored playbook
    Get {
        /// Its name
        name: String,
    },
}

/// `context …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts; the current one is marked
    List,
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
    /// Add or change a context, from --url, --org and --key-file; the first becomes the current one
    Set(ContextSetArgs),
    /// Remove a context
    Remove {
        /// Its name
        name: String,
    },
    /// Show what a command would use now, and where each part comes from
    Show,
}

/// `context set`.
#[derive(Args, Debug)]
pub(crate) struct ContextSetArgs {
    /// Its name
    pub(crate) name: String,
    /// Read the key from standard input and keep it in the context (--key-file keeps the path only)
    #[arg(long, conflicts_with = "key_file")]
    pub(crate) key_stdin: bool,
    /// Allow the key to travel over plain http to another machine
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) insecure: Option<bool>,
    /// Make it the current one
    #[arg(long = "use")]
    pub(crate) make_current: bool,
}

/// Prints the completion script of a shell.
pub(crate) fn completion(shell: Shell) -> Result<u8> {
    // Into memory first: the generator panics where its writer fails, as on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dispatchctl", &mut script);
    output::print(&script)?;
    Ok(status::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn there_is_no_option_that_takes_a_key() {
        for name in ["--key", "--psk", "--token"] {
            let error = Cli::try_parse_from(["dispatchctl", name, "k", "recipients"]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn run_takes_ansibles_options_by_ansibles_names() {
        let cli = Cli::try_parse_from([
            "dispatchctl",
            "run",
            "site.yml",
            "-i",
            "web1,",
            "-e",
            "a=1",
            "-e",
            "@v.yml",
            "-l",
            "web*",
            "-t",
            "one,two",
            "-t",
            "three",
            "--skip-tags",
            "slow",
            "-CD",
            "-vvv",
            "--timeout",
            "1h",
            "--label",
            "a=b=c",
            "-f",
        ])
        .unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.tags, ["one", "two", "three"]);
        assert_eq!((run.verbose, run.check, run.diff, run.follow), (3, true, true, true));
        assert_eq!(run.timeout, Some(3600));
        assert_eq!(run.labels, [("a".to_owned(), "b=c".to_owned())]);
    }
}
