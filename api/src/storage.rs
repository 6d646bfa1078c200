//! The object store: uploads, stored playbooks. One interface over a directory (and, by setting,
//! other stores of the `object_store` crate).
//!
//! Keys are made by us (`uploads/<id>`, `playbooks/<org>/<sha256>`), never from a caller's text.

use std::{path::Path as FsPath, sync::Arc};

use object_store::{ObjectStore, local::LocalFileSystem};

/// The object store of this process.
pub type Objects = Arc<dyn ObjectStore>;

/// A directory as object store. Files are synced before a write is answered, since an accepted
/// upload must survive a power cut.
///
/// # Errors
/// When the directory cannot be made or entered.
pub fn directory(path: &FsPath) -> anyhow::Result<Objects> {
    std::fs::create_dir_all(path)?;
    Ok(Arc::new(LocalFileSystem::new_with_prefix(path)?.with_fsync(true)))
}
