//! What this build is.

use super::source::{Source, Spec};

const BUILD_COMMIT: Spec = Spec {
    names: &["BUILD_COMMIT"],
    about: "What /internal/version answers.",
    allowed: "any text",
    secret: false,
};

/// What this build is.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// The commit it was built from.
    pub commit: String,
}

impl BuildSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        Self { commit: source.parsed(&BUILD_COMMIT, "unknown".to_owned()) }
    }
}
