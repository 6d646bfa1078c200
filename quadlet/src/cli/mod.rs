//! The command line: what people type, what they read. The work is the library's.

mod check;
mod diff;
mod engine;
mod render;
mod variables;

use std::{
    env,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    engine::failure::{Exit, Failure},
    layout::Layout,
    variables::{Facts, Variables, deploy},
};

/// Renders, applies, scales and rolls Dispatcher's units on this host.
#[derive(Debug, Parser)]
#[command(name = "quadletgen", version, about, arg_required_else_help = true, after_help = engine::AFTER)]
pub struct Cli {
    /// The user's own deployment (rootless) instead of the system's.
    #[arg(long, global = true)]
    user: bool,
    /// Another file than the deployment's deploy.yml, for render, diff and check.
    #[arg(long, global = true, value_name = "FILE")]
    deploy: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What changes what runs, or shows it.
    #[command(flatten)]
    Engine(engine::Command),
    /// Shows the files that the variables lead to, or writes them below a directory.
    Render(render::Arguments),
    /// Shows what applying would change on the disk; status 2 where it would change something.
    Diff,
    /// Checks variables and rendered files with everything that can: Podman's generator, systemd, HAProxy.
    Check,
    /// Lists every variable with type, default and meaning.
    Variables,
}

impl Cli {
    /// Does what was asked for; prints why not. The status is one of those in `docs/quadletgen.md`.
    pub async fn run(self) -> ExitCode {
        self.obey().await.unwrap_or_else(|failure| {
            eprintln!("quadletgen: {}", failure.text);
            failure.exit.into()
        })
    }

    async fn obey(self) -> Result<ExitCode, Failure> {
        let layout = layout(self.user)?;
        let deploy = self.deploy.as_deref();
        match self.command {
            Command::Engine(_) if deploy.is_some() => Err(Failure::new(
                Exit::Wrong,
                format!(
                    "--deploy is for render, diff and check: what runs follows {}",
                    layout.deploy_file().display()
                ),
            )),
            Command::Engine(command) => command.run(layout).await.map(|()| ExitCode::SUCCESS),
            Command::Render(arguments) => render::run(&arguments, &layout, &load(&layout, deploy)?),
            Command::Diff => diff::run(&layout, &load(&layout, deploy)?),
            Command::Check => check::run(&layout, &load(&layout, deploy)?).await,
            Command::Variables => variables::run(),
        }
    }
}

/// The directories, the system's or the user's.
fn layout(is_user: bool) -> Result<Layout, Failure> {
    if !is_user {
        return Ok(Layout::system());
    }
    let directory = |name: &str| {
        env::var_os(name).map(PathBuf::from).ok_or_else(|| {
            let text = "is not set: log in as that user (machinectl shell USER@), not by su";
            Failure::new(Exit::Lacking, format!("{name} {text}"))
        })
    };
    Ok(Layout::user(&directory("HOME")?, &directory("XDG_RUNTIME_DIR")?))
}

/// The variables; what is likely not meant is said on standard error.
fn load(layout: &Layout, deploy: Option<&Path>) -> Result<Variables, Failure> {
    let set = match deploy {
        Some(path) => deploy::read_named(path)?,
        None => deploy::read(&layout.deploy_file())?,
    };
    let variables = Variables::new(set, &Facts::of_host(layout))?;
    for notice in variables.notices() {
        eprintln!("note: {notice}");
    }
    Ok(variables)
}

/// Writes to standard output; whoever reads it may stop reading.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether standard output shows colours.
fn in_colour() -> bool {
    std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
