//! This process among the others of the service.

use super::source::{Source, Spec};

const NAME: Spec = Spec {
    names: &["INSTANCE_NAME"],
    about: "What this instance is called where instances are listed; unset: the host's name and the \
            number of the process.",
    allowed: "1 to 100 characters",
    secret: false,
};

/// This process among the others.
#[derive(Clone, Debug, Default)]
pub struct InstanceSettings {
    /// What it is called.
    pub name: Option<String>,
}

impl InstanceSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let name = source.text(&NAME);
        if let Some(long) = name.as_ref().filter(|name| name.chars().count() > 100) {
            source.reject(&NAME, long);
        }
        Self { name }
    }
}
