//! Who this worker is: its recipient and its key, in one file of the state directory that nobody
//! else can read.
//!
//! A key is on the disk before it is sent anywhere: a registration whose answer is lost is repeated
//! with the same one. Until the service has confirmed it, it lies beside the one in force.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::error::Unspecified;
use dispatcher_wire::registration::KEY_PREFIX;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::journal::{create_dir, sync_dir};

/// The file with the identity in force.
const FILE: &str = "identity.json";
/// The file with one that the service may or may not know.
const PENDING: &str = "identity.pending.json";
/// Random bytes in a key.
const KEY_BYTES: usize = 32;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The worker never registered.
    #[error(
        "this worker is not registered ({0} is missing): run `dispatcher-worker register --url URL` \
         with a token from `dispatchctl recipients token create`"
    )]
    Missing(PathBuf),
    /// Others could read the key, or change it.
    #[error(
        "{path} has the mode {mode:04o}, so that others can read this worker's key; run `chmod 600 \
         {path}`, and register again if anybody may have read it"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file cannot be used.
    #[error("{path} cannot be used: {source}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No key can be made.
    #[error("no key can be made: the machine has no randomness")]
    NoRandomness,
}

/// A recipient and its key.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Identity {
    /// The service.
    pub url: String,
    /// The recipient.
    pub recipient: Uuid,
    /// Its key.
    pub key: String,
    /// Its organisation, once the service has said it.
    #[serde(default)]
    pub org_id: String,
    /// What people call it, once the service has said it.
    #[serde(default)]
    pub name: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

/// Where identities lie.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    directory: PathBuf,
}

impl IdentityFiles {
    /// In this state directory.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The identity in force.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or others can read it.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        let path = self.directory.join(FILE);
        read(&path)?.ok_or(IdentityError::Missing(path))
    }

    /// The identity to register with: one whose registration was not confirmed, or a new key for
    /// the recipient that is asked for, else for the one in force, else for a new one. On the disk
    /// when this returns.
    ///
    /// # Errors
    /// When files cannot be used.
    pub fn prepare(&self, url: &str, asked: Option<Uuid>) -> Result<Identity, IdentityError> {
        let unusable = |source| IdentityError::Unusable { path: self.directory.clone(), source };
        create_dir(&self.directory).map_err(unusable)?;
        let (path, in_force) = (self.directory.join(PENDING), read(&self.directory.join(FILE))?);
        // A crash may leave the one in force as the pending one, too: its key is not a new one.
        let is_new = |known: &Identity| in_force.as_ref().is_none_or(|own| own.key != known.key);
        let fits = |known: &Identity| {
            known.url == url && asked.is_none_or(|id| id == known.recipient) && is_new(known)
        };
        if let Some(pending) = read(&path)?.filter(fits) {
            return Ok(pending);
        }
        let own = in_force.filter(|known| known.url == url).map(|known| known.recipient);
        let recipient = asked.or(own).unwrap_or_else(Uuid::new_v4);
        let key = new_key(recipient).map_err(|_| IdentityError::NoRandomness)?;
        let (url, org_id, name) = (url.to_owned(), String::new(), String::new());
        let identity = Identity { url, recipient, key, org_id, name };
        self.write(PENDING, &identity)?;
        Ok(identity)
    }

    /// Puts an identity in force that the service has confirmed.
    ///
    /// # Errors
    /// When files cannot be used.
    pub fn confirm(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.write(FILE, identity)?;
        let pending = self.directory.join(PENDING);
        fs::remove_file(&pending)
            .map_err(|source| IdentityError::Unusable { path: pending, source })
    }

    /// Replaces a file at once and durably.
    fn write(&self, name: &str, identity: &Identity) -> Result<(), IdentityError> {
        let path = self.directory.join(name);
        let written = || -> io::Result<()> {
            let new = self.directory.join(format!("{name}.new"));
            if let Err(error) = fs::remove_file(&new)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec_pretty(identity)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            sync_dir(&self.directory)
        };
        written().map_err(|source| IdentityError::Unusable { path: path.clone(), source })
    }
}

/// The identity in a file that nobody else can read or write.
fn read(path: &Path) -> Result<Option<Identity>, IdentityError> {
    let unusable = |source| IdentityError::Unusable { path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unusable)?,
    };
    let mode = file.metadata().map_err(unusable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let read = serde_json::from_reader(io::BufReader::new(file));
    // What serde says could quote the key.
    let broken = |_| unusable(io::Error::new(io::ErrorKind::InvalidData, "it holds no identity"));
    read.map(Some).map_err(broken)
}

/// `dwk_<recipient>_<secret>`.
fn new_key(recipient: Uuid) -> Result<String, Unspecified> {
    let mut secret = [0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut secret)?;
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{KEY_PREFIX}{}_{secret}", recipient.simple()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const URL: &str = "https://dispatcher.example";

    #[test]
    fn a_key_is_on_the_disk_before_it_is_used_and_stays_until_it_is_confirmed() {
        let state = tempfile::tempdir().unwrap();
        let files = IdentityFiles::of(&state.path().join("state"));
        assert!(matches!(files.load(), Err(IdentityError::Missing(_))));
        let first = files.prepare(URL, None).unwrap();
        assert_eq!(first.recipient.get_version_num(), 4);
        assert!(first.key.starts_with(&format!("dwk_{}_", first.recipient.simple())));
        assert!(!format!("{first:?}").contains(&first.key));
        assert_eq!(files.prepare(URL, None).unwrap(), first, "repeated with the same key");
        assert!(matches!(files.load(), Err(IdentityError::Missing(_))));
        files.confirm(&first).unwrap();
        assert_eq!(files.load().unwrap(), first);

        let again = files.prepare(URL, None).unwrap();
        assert_eq!(again.recipient, first.recipient);
        assert_ne!(again.key, first.key);
        assert_eq!(files.load().unwrap(), first, "the old one is in force until then");
        let other = files.prepare("https://other.example", None).unwrap();
        assert_ne!(other.recipient, first.recipient);
        let asked = Uuid::new_v4();
        assert_eq!(files.prepare(URL, Some(asked)).unwrap().recipient, asked);
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let state = tempfile::tempdir().unwrap();
        let files = IdentityFiles::of(state.path());
        let identity = files.prepare(URL, None).unwrap();
        files.confirm(&identity).unwrap();
        let path = state.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let told = files.load().unwrap_err().to_string();
            assert!(told.contains("chmod 600"), "{told}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{\"key\": 1").unwrap();
        assert!(files.load().unwrap_err().to_string().contains("holds no identity"));
    }
}
