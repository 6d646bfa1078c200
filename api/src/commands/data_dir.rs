//! The data directory of the standalone form: keys that are made once, and the announcement of
//! where the service is. Everything in it is private to its owner.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::{keyring::Keyring, keys::format};

/// The data directory.
#[derive(Clone, Debug)]
pub(super) struct DataDir(PathBuf);

impl DataDir {
    /// The directory at an absolute path, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let absolute = made.and_then(|()| path.canonicalize());
        let failed = || format!("{} cannot be used as data directory", path.display());
        absolute.map(Self).with_context(failed)
    }

    /// Its path.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the key of the API is.
    #[must_use]
    pub(super) fn key_file(&self) -> PathBuf {
        self.0.join("api-key")
    }

    /// The secret keys, made at the first start.
    ///
    /// # Errors
    /// When they cannot be read or made.
    pub(super) fn secret_keys(&self) -> anyhow::Result<SecretString> {
        let make = || Keyring::generate().context("the machine has no randomness");
        self.kept(&self.0.join("secret-keys"), make)
    }

    /// The key of the API, made at the first start.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub(super) fn api_key(&self) -> anyhow::Result<SecretString> {
        self.kept(&self.key_file(), generate_key)
    }

    /// Says where the service is, for programs on this machine.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn announce(&self, url: &str, org_id: &str, recipient: Uuid) -> anyhow::Result<()> {
        let key_file = self.key_file();
        let announcement = json!({
            "url": url, "org_id": org_id, "recipient": recipient, "key_file": key_file,
        });
        self.write(&self.0.join("standalone.json"), &format!("{announcement:#}\n"))
    }

    fn kept(
        &self,
        path: &Path,
        make: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<SecretString> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let path = path.display();
                ensure!(!text.trim().is_empty(), "{path} is empty; remove it to get a new key");
                Ok(text.trim().into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = SecretString::from(make()?);
                self.write(path, &format!("{}\n", made.expose_secret()))?;
                Ok(made)
            }
            Err(error) => Err(error).with_context(|| format!("{} is unreadable", path.display())),
        }
    }

    /// Writes a file whole or not at all, and durably, since keys must outlive a power cut.
    fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let new = path.with_extension("new");
        let written = (|| {
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            fs::File::open(&self.0)?.sync_all()
        })();
        written.with_context(|| format!("{} cannot be written", path.display()))
    }
}

fn generate_key() -> anyhow::Result<String> {
    let key = format::fresh_id().and_then(|id| format::fresh_key(&id));
    Ok(key.context("the machine has no randomness")?.expose_secret().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_are_private() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::at(&directory.path().join("new")).unwrap();
        let key = data.api_key().unwrap();
        assert!(dispatcher_wire::service_key::id_of(key.expose_secret()).is_some());
        assert_eq!(data.api_key().unwrap().expose_secret(), key.expose_secret());
        Keyring::parse(data.secret_keys().unwrap().expose_secret()).unwrap();
        data.announce("http://127.0.0.1:1", "local", Uuid::nil()).unwrap();
        for entry in fs::read_dir(data.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let mode = fs::metadata(data.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(data.key_file(), "\n").unwrap();
        let error = data.api_key().unwrap_err().to_string();
        assert!(error.contains("api-key is empty; remove it"), "{error}");
    }
}
