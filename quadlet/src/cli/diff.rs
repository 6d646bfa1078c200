//! `diff`: what applying would change on the disk.

use std::process::ExitCode;

use super::{in_colour, print};
use crate::{
    files::{self, Manifest, diff},
    layout::Layout,
    render,
    variables::Variables,
};

/// Compares with the disk, without changing anything. Status 2: there are differences.
///
/// # Errors
/// When foreign files are in the way, or something cannot be read.
pub(super) fn run(layout: &Layout, variables: &Variables) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::load(&layout.manifest_file())?;
    let mut entries = render::render(variables, layout)?;
    if let Some(image) = manifest.image() {
        entries.extend(render::image_pin(variables, layout, &image.reference));
    }
    let changes = files::changes(&entries, &manifest)?;
    let text: String = changes.iter().map(|change| diff::unified(change, in_colour())).collect();
    print(&text)?;
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
