//! Whether what would be applied can work: every program that can tell is asked, and own rules see to
//! what they let pass. Nothing of the host is changed.

mod balancer;
mod generated;
mod rules;

use crate::{
    layout::Layout,
    render::{self, RenderError},
    variables::Variables,
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Checked, nothing found.
    Fine,
    /// Could not be checked on this machine.
    Unchecked,
    /// Works, and is likely not meant.
    Doubtful,
    /// Does not work.
    Wrong,
}

/// Something that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a file, a program.
    pub about: String,
    /// What it is, and what to do.
    pub text: String,
}

impl Finding {
    fn new(severity: Severity, about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity, about: about.into(), text: text.into() }
    }
}

/// Everything that can be found out.
///
/// # Errors
/// When a template cannot be rendered.
pub async fn all(variables: &Variables, layout: &Layout) -> Result<Vec<Finding>, RenderError> {
    let entries = render::render(variables, layout)?;
    let mut findings = rules::of(&entries);
    if findings.is_empty() {
        findings.push(Finding::new(Severity::Fine, "units", "sections, switches, ports"));
    }
    findings.extend(generated::ask(&entries, layout).await);
    // A user's own deployment has no HAProxy; the system's is no business of that user's.
    if !layout.is_user {
        findings.extend(balancer::ask(&entries, variables).await);
    }
    Ok(findings)
}
