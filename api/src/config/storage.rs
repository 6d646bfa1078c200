//! The object store: named in `serve`, a directory of its own in `standalone`.

use std::path::{Path, PathBuf};

use super::source::{Source, Spec};

const ENGINE: Spec = Spec {
    names: &["STORE_ENGINE"],
    about: "Where uploads and stored playbooks are kept.",
    allowed: "file",
    secret: false,
};
const FILE_PATH: Spec = Spec {
    names: &["STORE_FILE_PATH"],
    about: "The directory of the object store, the same for every instance.",
    allowed: "an absolute path",
    secret: false,
};

/// Where objects are kept.
#[derive(Clone, Debug)]
pub struct StorageSettings {
    /// The directory.
    pub directory: PathBuf,
}

impl StorageSettings {
    /// The directory inside a data directory; nothing is read.
    #[must_use]
    pub fn inside(data: &Path) -> Self {
        Self { directory: data.join("objects") }
    }

    /// Reads them; both have to be named.
    pub fn read(source: &mut Source) -> Self {
        match source.text(&ENGINE).as_deref() {
            Some("file") => {}
            Some(other) => source.reject(&ENGINE, other),
            None => source.error("STORE_ENGINE is required: file (with STORE_FILE_PATH)"),
        }
        let path = source.text(&FILE_PATH).unwrap_or_default();
        if !path.starts_with('/') {
            if path.is_empty() {
                source.error("STORE_FILE_PATH is required with STORE_ENGINE=file");
            } else {
                source.reject(&FILE_PATH, &path);
            }
        }
        Self { directory: path.into() }
    }
}
