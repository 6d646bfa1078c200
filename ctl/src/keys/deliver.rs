//! Where a new key goes: standard output alone, or a new private file, which is made before anybody
//! is asked for a key, so that none is lost for want of a place.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use dispatcher_wire::admin::{KeyView, MadeKey};

use super::unusable;
use crate::{
    cli::At,
    output::{self, Format, note, say},
    text,
    trouble::{Result, Trouble},
};

/// Where a new key goes.
pub(super) struct Place(Option<(PathBuf, File)>);

impl Place {
    /// The file, new; none: standard output.
    pub(super) fn new(path: Option<PathBuf>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| unusable(&path, &error))?;
        Ok(Self(Some((path, file))))
    }

    /// Hands the key over and says what it is; without one, nothing is left behind.
    pub(super) fn deliver(self, at: &At, made: Result<MadeKey>) -> Result<MadeKey> {
        let mut made = match (made, &self.0) {
            (Ok(made), _) => made,
            (Err(trouble), Some((path, _))) => {
                // A file that stays is empty, and its name is what the person chose.
                let _left = std::fs::remove_file(path);
                return Err(trouble);
            }
            (Err(trouble), None) => return Err(trouble),
        };
        let id = made.key.id.clone();
        let lost = |trouble: Trouble| {
            trouble.hint(format!("nobody knows the new key now: dispatchctl keys revoke {id}"))
        };
        note(&format!("made {}", line(&made.key)));
        if let Some(old) = &made.replaces {
            note(&format!("it replaces {}", line(old)));
        }
        if let Some((path, mut file)) = self.0 {
            let secret = std::mem::take(&mut made.secret);
            let written = writeln!(file, "{secret}").and_then(|()| file.sync_all());
            written.map_err(|error| lost(unusable(&path, &error)))?;
        }
        match (at.output, made.secret.as_str()) {
            (Format::Table, "") => {}
            (Format::Table, secret) => say(secret).map_err(lost)?,
            (format, _) => output::data(format, &made).map_err(lost)?,
        }
        Ok(made)
    }
}

/// A key in one line.
pub(super) fn line(key: &KeyView) -> String {
    let org = key
        .org_id
        .as_deref()
        .map_or("every organisation".to_owned(), |org| format!("organisation {org}"));
    let end = key.expires_at.as_deref().map(|end| format!(", ends {end}")).unwrap_or_default();
    let KeyView { id, service, role, .. } = key;
    text::clean(&format!("{id}: {service}, {role} of {org}{end}"))
}
