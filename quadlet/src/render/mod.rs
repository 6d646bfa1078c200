//! From variables to everything that lies on the disk. Pure: nothing is read or written.
//!
//! A file is in no way different from the one that Ansible makes of the same variables.

mod entries;
pub mod templates;

use crate::{entry::Entry, jinja::Context, layout::Layout, variables::Variables};

/// A template that cannot be rendered with these variables.
#[derive(Debug, thiserror::Error)]
#[error("the template {name} cannot be rendered: {reason}")]
pub struct RenderError {
    /// Its name below `templates/`.
    pub name: String,
    /// Why not, with the line.
    pub reason: String,
}

/// Everything that a deployment with these variables has on the disk, sorted by path.
///
/// Not among it, since only the host knows them: the drop-ins that pin the image to a digest
/// (`image_pin`).
///
/// # Errors
/// When a template is broken, which the tests of this crate rule out for variables that were
/// checked.
pub fn render(variables: &Variables, layout: &Layout) -> Result<Vec<Entry>, RenderError> {
    entries::all(variables, layout)
}

/// What every template of a deployment sees: the variables, what follows, and where things lie.
#[must_use]
pub fn context(variables: &Variables, layout: &Layout) -> Context {
    entries::with_directories(variables.context().clone(), layout)
}

/// The drop-ins that give the instances and the tracker this very image: a digest reference, an id.
#[must_use]
pub fn image_pin(variables: &Variables, layout: &Layout, reference: &str) -> Vec<Entry> {
    entries::pins(variables, layout, reference)
}
