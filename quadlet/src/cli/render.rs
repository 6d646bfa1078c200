//! `render`: the files that variables lead to, on standard output or below a directory.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::print;
use crate::{
    engine::failure::Failure,
    entry::{Entry, What},
    files,
    layout::Layout,
    render,
    variables::Variables,
};

/// Where to.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// A directory below which the files are written as they would lie below /; nothing else is touched.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Renders.
///
/// # Errors
/// When a template cannot be rendered or a file not be written.
pub(super) fn run(
    arguments: &Arguments,
    layout: &Layout,
    variables: &Variables,
) -> Result<ExitCode, Failure> {
    let entries = render::render(variables, layout)?;
    let Some(out) = &arguments.out else {
        print(&entries.iter().map(shown).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut written = String::new();
    for entry in &entries {
        let path = out.join(entry.path.strip_prefix("/").unwrap_or(&entry.path));
        files::write(&path, &entry.what)
            .map_err(|error| Failure::from(error).and("nothing of the host was changed"))?;
        written += &format!("{}\n", path.display());
    }
    print(&written)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(entry: &Entry) -> String {
    let path = entry.path.display();
    match &entry.what {
        What::File { content, mode } => format!("### {path} {mode:04o}\n{content}\n"),
        What::Link { target } => format!("### {path} -> {}\n\n", target.display()),
    }
}
