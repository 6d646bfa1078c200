//! `diff`: what applying would change on the disk.

use std::process::ExitCode;

use super::{in_colour, print};
use crate::{
    engine::{balancer, failure::Failure, inputs::LABELS, programs, record::Record},
    files::{self, diff},
    layout::Layout,
    render,
    variables::Variables,
};

/// The status that says that there are differences.
const DIFFERENCES: u8 = 2;

/// Compares with the disk, without changing anything. Status 2: there are differences.
///
/// # Errors
/// When foreign files are in the way, or something cannot be read.
pub(super) fn run(layout: &Layout, variables: &Variables) -> Result<ExitCode, Failure> {
    let record = Record::load(layout)?;
    let manifest = &record.manifest;
    let mut entries = render::render(variables, layout)?;
    if let Some(image) = record.pins_of(variables.image()).first() {
        entries.extend(render::image_pin(variables, layout, &image.reference));
    }
    let mut changes = files::changes(&entries, manifest)?;
    // These follow from the others, and from secrets, which only Podman knows.
    changes.retain(|change| !LABELS.iter().any(|name| change.path.ends_with(name)));
    let altered = programs::altered(manifest)?;
    let mut text: String =
        changes.iter().map(|change| diff::unified(change, in_colour())).collect();
    let (noted, asked) = (record.haproxy_unit(), balancer::started_with(&entries));
    if let Some(warning) = balancer::warning(noted.as_deref(), asked.as_deref()) {
        text += &format!("warning: {warning}\n");
    }
    altered.iter().for_each(|line| text += &format!("{line}\n"));
    print(&text)?;
    Ok(if changes.is_empty() && altered.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENCES)
    })
}
