//! The commands that change what runs, or show it: which part of the engine does which.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::{
    engine::{
        apply::{self, Request},
        failure::{Exit, Failure},
        init, logs,
        restart::{self, Part},
        secret,
        session::{Options, Session},
        status, uninstall,
    },
    layout::Layout,
};

/// What statuses mean.
pub(super) const AFTER: &str = "Exit status: 0 done · 1 failed · 2 wrong input, or differences (diff) · 3 another quadletgen is at work · 4 foreign files in the way · \
5 refused by Podman, systemd or HAProxy · 6 not healthy · 7 the host lacks something · 8 drift (status) · 130 interrupted";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Checks the host, writes deploy.yml with every default where there is none, makes secrets.
    Init(Showing),
    /// Brings the host to what deploy.yml says.
    Apply(Changing),
    /// So many instances: changes the one line of deploy.yml, then applies it.
    Scale {
        /// How many; 0 stops all.
        #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(0..=256))]
        count: u32,
        #[command(flatten)]
        changing: Changing,
    },
    /// Restarts the instances one by one with another image, or the newest of the same name.
    Roll {
        /// The image; without it the one of deploy.yml, fetched anew.
        #[arg(long, value_name = "REF")]
        image: Option<String>,
        /// Leave an image that fails where it is, to look at it, instead of going back.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        changing: Changing,
    },
    /// Goes back to the image before this one, one instance after the other.
    Rollback(Changing),
    /// Begins anew what changed in a way that quadletgen cannot see, such as a certificate.
    Restart {
        /// What.
        #[arg(value_enum, default_value_t = Part::Instances)]
        part: Part,
        #[command(flatten)]
        changing: Changing,
    },
    /// Shows what runs, how it is, and what differs from what is asked.
    Status {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Shows the journal of an instance, or of all.
    Logs {
        /// The number of an instance, or tracker, worker, haproxy, postgresql, redis, rabbitmq.
        #[arg(value_name = "INSTANCE")]
        of: Option<String>,
        /// Go on showing what comes.
        #[arg(short, long)]
        follow: bool,
        /// How many lines.
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: u32,
    },
    /// Removes what quadletgen made on this host; deploy.yml stays.
    Uninstall {
        /// Volumes and secrets, too.
        #[arg(long)]
        data: bool,
        #[command(flatten)]
        changing: Changing,
    },
    /// Podman secrets.
    #[command(subcommand)]
    Secret(SecretCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Stores the value that stands on standard input, in place of the one before.
    Set {
        /// Its name, such as dispatcher-db-password.
        name: String,
        #[command(flatten)]
        showing: Showing,
    },
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Showing {
    /// Show what would be made, and change nothing. No secret is shown.
    #[arg(long)]
    dry_run: bool,
}

impl Showing {
    fn options(self) -> Options {
        Options { is_dry_run: self.dry_run, ..AT_ONCE }
    }
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Changing {
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long one instance may take to become healthy.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Changing {
    fn options(self) -> Options {
        Options {
            is_dry_run: self.dry_run,
            is_keeping: false,
            within: Duration::from_secs(self.timeout),
        }
    }
}

impl Command {
    /// Does what was asked for.
    pub(super) async fn run(self, layout: Layout) -> Result<(), Failure> {
        may(&layout)?;
        match self {
            Self::Init(showing) => init::init(&mut begin(layout, showing.options()).await?).await,
            Self::Apply(changing) => change(layout, changing.options(), &Request::Apply).await,
            Self::Scale { count, changing } => {
                change(layout, changing.options(), &Request::Scale(count)).await
            }
            Self::Roll { image, keep, changing } => {
                let options = Options { is_keeping: keep, ..changing.options() };
                change(layout, options, &Request::Roll(image)).await
            }
            Self::Rollback(changing) => {
                change(layout, changing.options(), &Request::Rollback).await
            }
            Self::Restart { part, changing } => {
                restart::restart(&mut begin(layout, changing.options()).await?, part).await
            }
            Self::Status { json } => {
                let options = Options { is_dry_run: true, ..AT_ONCE };
                status::show(&begin(layout, options).await?, json).await
            }
            Self::Logs { of, follow, lines } => {
                logs::show(&layout, of.as_deref(), lines, follow).await
            }
            Self::Uninstall { data, changing } => {
                uninstall::uninstall(&mut begin(layout, changing.options()).await?, data).await
            }
            Self::Secret(SecretCommand::Set { name, showing }) => {
                secret::set(&mut begin(layout, showing.options()).await?, &name).await
            }
        }
    }
}

/// For commands that wait for no instance.
const AT_ONCE: Options =
    Options { is_dry_run: false, is_keeping: false, within: Duration::from_secs(60) };

async fn begin(layout: Layout, options: Options) -> Result<Session, Failure> {
    let command: Vec<String> = std::env::args().take(6).collect();
    Session::begin(layout, &command.join(" "), options).await
}

async fn change(layout: Layout, options: Options, request: &Request) -> Result<(), Failure> {
    apply::change(&mut begin(layout, options).await?, request).await
}

/// The system's deployment is root's, a user's own is that user's.
fn may(layout: &Layout) -> Result<(), Failure> {
    match (layout.is_user, rustix::process::geteuid().is_root()) {
        (false, false) => Err(Failure::new(
            Exit::Lacking,
            "the system's deployment is root's: run it as root (sudo quadletgen …), or use --user for a deployment of your own",
        )),
        (true, true) => Err(Failure::new(
            Exit::Wrong,
            "--user is for a user's own deployment, and this is root: leave it out",
        )),
        _ => Ok(()),
    }
}
