//! What quadletgen remembers of this host besides its files: what systemd and HAProxy have read,
//! which image is asked for, which was the last that worked. Each note is written right after what
//! it tells of, so what a kill loses is done once more, never left out.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{failure::Failure, image::Pin};
use crate::{
    entry::Entry,
    files::{
        self, Change, FilesError, Manifest,
        manifest::{Image, Program, Tag},
    },
    layout::Layout,
};

const SYSTEMD: &str = "systemd_has_read";
const HAPROXY: &str = "haproxy_has_read";
const HAPROXY_UNIT: &str = "haproxy_started_with";
const ASKED_IMAGE: &str = "asked_image";
const ROLLBACK: &str = "rolling_back_to";
const WORKER: &str = "worker";
const MADE: &str = "made";

/// What holds data, and only `uninstall --data` removes.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Made {
    /// Volumes, by Podman's names.
    pub volumes: BTreeSet<String>,
    /// Networks.
    pub networks: BTreeSet<String>,
    /// Secrets that were not there before we made them.
    #[serde(default)]
    pub secrets: BTreeSet<String>,
    /// Whether a worker was installed.
    pub has_worker: bool,
}

/// The manifest and where it lies.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was made and noted.
    pub manifest: Manifest,
    path: PathBuf,
}

impl Record {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn load(layout: &Layout) -> Result<Self, Failure> {
        let path = layout.manifest_file();
        Ok(Self { manifest: Manifest::load(&path)?, path })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings changes to the disk.
    ///
    /// # Errors
    /// When the system says no.
    pub fn carry_out<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<(), Failure> {
        let changes: Vec<Change> = changes.cloned().collect();
        Ok(files::carry_out(&changes, &mut self.manifest, &self.path)?)
    }

    /// Whether there is room and leave for changes.
    ///
    /// # Errors
    /// When there is not; nothing was changed.
    pub fn rehearse(&mut self, changes: &[Change]) -> Result<(), FilesError> {
        files::rehearse(changes, &mut self.manifest, &self.path)
    }

    /// Notes that something will wait beside this place, for whoever comes after a kill.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_waiting(&mut self, place: &Path) -> Result<(), Failure> {
        match self.manifest.waiting.insert(place.to_owned()) {
            true => Ok(self.manifest.save(&self.path)?),
            false => Ok(()),
        }
    }

    /// Removes what a killed command has left beside its place.
    ///
    /// # Errors
    /// When the system says no.
    pub fn sweep(&mut self) -> Result<(), Failure> {
        Ok(files::sweep(&mut self.manifest, &self.path)?)
    }

    /// Takes up entries that are on the disk as they are asked for; those that were not ours before.
    ///
    /// # Errors
    /// When the system says no.
    pub fn adopt(&mut self, entries: &[Entry]) -> Result<Vec<PathBuf>, Failure> {
        Ok(files::adopt(entries, &mut self.manifest, &self.path)?)
    }

    /// The digest over the units that systemd has read.
    #[must_use]
    pub fn systemd_has_read(&self) -> Option<String> {
        self.note(SYSTEMD)
    }

    /// Notes that.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_systemd(&mut self, digest: &str) -> Result<(), Failure> {
        self.set(SYSTEMD, &digest)
    }

    /// Takes that back, before files are written.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn forget_systemd(&mut self) -> Result<(), Failure> {
        self.set(SYSTEMD, &Value::Null)
    }

    /// Takes back what HAProxy has read, before its files are written.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn forget_haproxy(&mut self) -> Result<(), Failure> {
        self.set(HAPROXY, &Value::Null)
    }

    /// The digest over the files that HAProxy has read.
    #[must_use]
    pub fn haproxy_has_read(&self) -> Option<String> {
        self.note(HAPROXY)
    }

    /// Notes that.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_haproxy(&mut self, digest: &str) -> Result<(), Failure> {
        self.set(HAPROXY, &digest)
    }

    /// The drop-in of HAProxy's unit with which it was started.
    #[must_use]
    pub fn haproxy_unit(&self) -> Option<String> {
        self.note(HAPROXY_UNIT)
    }

    /// Notes that.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_haproxy_unit(&mut self, digest: Option<&String>) -> Result<(), Failure> {
        self.set(HAPROXY_UNIT, &digest)
    }

    /// The image that is asked for, found once and kept.
    #[must_use]
    pub fn asked_image(&self) -> Option<Pin> {
        self.note(ASKED_IMAGE)
    }

    /// Notes that.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_asked_image(&mut self, pin: &Pin) -> Result<(), Failure> {
        self.set(ASKED_IMAGE, pin)
    }

    /// Notes a name for an image, before the image is given it.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_tag(&mut self, name: &str, tag: Tag) -> Result<(), Failure> {
        if self.manifest.tags.get(name) == Some(&tag) {
            return Ok(());
        }
        self.manifest.tags.insert(name.to_owned(), tag);
        Ok(self.manifest.save(&self.path)?)
    }

    /// Forgets it, when it is gone.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn forget_tag(&mut self, name: &str) -> Result<(), Failure> {
        match self.manifest.tags.remove(name) {
            Some(_) => Ok(self.manifest.save(&self.path)?),
            None => Ok(()),
        }
    }

    /// Notes a program, before it is put into its place and afterwards.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_program(&mut self, path: &Path, program: Program) -> Result<(), Failure> {
        if self.manifest.programs.get(path) == Some(&program) {
            return Ok(());
        }
        self.manifest.programs.insert(path.to_owned(), program);
        Ok(self.manifest.save(&self.path)?)
    }

    /// Forgets a program, when it is gone.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn forget_program(&mut self, path: &Path) -> Result<(), Failure> {
        match self.manifest.programs.remove(path) {
            Some(_) => Ok(self.manifest.save(&self.path)?),
            None => Ok(()),
        }
    }

    /// What holds data, as far as it was noted.
    #[must_use]
    pub fn made(&self) -> Made {
        self.note(MADE).unwrap_or_default()
    }

    /// Notes that.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_made(&mut self, made: &Made) -> Result<(), Failure> {
        self.set(MADE, made)
    }

    /// Notes a secret that is not there, before it is made.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_secret(&mut self, name: &str) -> Result<(), Failure> {
        let mut made = self.made();
        made.secrets.insert(name.to_owned());
        self.note_made(&made)
    }

    /// Forgets everything but that.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn keep_only_made(&mut self, made: &Made) -> Result<(), Failure> {
        self.manifest = Manifest::default();
        self.note_made(made)
    }

    /// What the worker was started from.
    #[must_use]
    pub fn worker(&self) -> Option<String> {
        self.note(WORKER)
    }

    /// Notes that.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_worker(&mut self, inputs: &str) -> Result<(), Failure> {
        self.set(WORKER, &inputs)
    }

    /// The last image with which every instance was healthy.
    #[must_use]
    pub fn good_image(&self) -> Option<Pin> {
        self.manifest.image().map(pin)
    }

    /// The images that were found for this name, the one that is asked for first.
    #[must_use]
    pub fn pins_of(&self, named: &str) -> Vec<Pin> {
        let known = [self.asked_image(), self.good_image()];
        known.into_iter().flatten().filter(|pin| pin.named == named).collect()
    }

    /// The one before the image that is asked for. Where that never worked, the last that did; where
    /// a rollback was killed on its way, the one that it was on its way to.
    #[must_use]
    pub fn previous_image(&self) -> Option<Pin> {
        let now = self.asked_image().or_else(|| self.good_image())?;
        if self.note(ROLLBACK).as_ref() == Some(&now.reference) {
            return Some(now);
        }
        self.manifest.images.iter().rev().find(|image| image.reference != now.reference).map(pin)
    }

    /// Notes that a rollback to this image has begun, or that none is under way.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_rollback(&mut self, to: Option<&Pin>) -> Result<(), Failure> {
        self.set(ROLLBACK, &to.map(|pin| &pin.reference))
    }

    /// Takes back what the worker was started from, before its files are written.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn forget_worker(&mut self) -> Result<(), Failure> {
        self.set(WORKER, &Value::Null)
    }

    /// Notes an image with which every instance is healthy.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn note_good_image(&mut self, image: &Pin) -> Result<(), Failure> {
        let before = self.manifest.images.len();
        let is_same = self.good_image().as_ref() == Some(image);
        let since = time::OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let since =
            since.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        let Pin { named, reference } = image.clone();
        self.manifest.use_image(Image { named, reference, since });
        if is_same && before == self.manifest.images.len() {
            return Ok(());
        }
        Ok(self.manifest.save(&self.path)?)
    }

    fn note<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.manifest.notes.get(name)?.clone()).ok()
    }

    fn set(&mut self, name: &str, value: &impl Serialize) -> Result<(), Failure> {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        if self.manifest.notes.get(name) == Some(&value) {
            return Ok(());
        }
        self.manifest.notes.insert(name.to_owned(), value);
        Ok(self.manifest.save(&self.path)?)
    }
}

fn pin(image: &Image) -> Pin {
    Pin { named: image.named.clone(), reference: image.reference.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_by_another_name_is_not_taken_for_the_one_that_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::load(&Layout::user(directory.path(), directory.path())).unwrap();
        let pin = |named: &str| Pin { named: named.to_owned(), reference: format!("{named}@1") };
        record.note_good_image(&pin("old")).unwrap();
        // Killed after this note and before deploy.yml was written.
        record.note_asked_image(&pin("new")).unwrap();
        assert_eq!(record.pins_of("old"), [pin("old")]);
        assert_eq!(record.pins_of("new"), [pin("new")]);
        assert_eq!(record.pins_of("other"), []);
    }

    #[test]
    fn a_rollback_that_was_killed_goes_on_to_where_it_was_going() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::load(&Layout::user(directory.path(), directory.path())).unwrap();
        let pin = |named: &str| Pin { named: named.to_owned(), reference: format!("{named}@1") };
        record.note_good_image(&pin("a")).unwrap();
        record.note_good_image(&pin("b")).unwrap();
        record.note_asked_image(&pin("b")).unwrap();
        assert_eq!(record.previous_image(), Some(pin("a")));
        record.note_rollback(Some(&pin("a"))).unwrap();
        assert_eq!(record.previous_image(), Some(pin("a")), "killed between the notes");
        record.note_asked_image(&pin("a")).unwrap();
        assert_eq!(record.previous_image(), Some(pin("a")), "killed on its way");
        record.note_good_image(&pin("a")).unwrap();
        record.note_rollback(None).unwrap();
        assert_eq!(record.previous_image(), Some(pin("b")));
        // What is tried and never works is left for the last that did.
        record.note_asked_image(&pin("c")).unwrap();
        assert_eq!(record.previous_image(), Some(pin("a")));
    }

    #[test]
    fn an_uninstallation_without_data_still_knows_which_secrets_were_made() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::user(directory.path(), directory.path());
        let mut record = Record::load(&layout).unwrap();
        record.note_secret("dispatcher-db-password").unwrap();
        let made = record.made();
        record.keep_only_made(&made).unwrap();
        let secrets = Record::load(&layout).unwrap().made().secrets;
        assert_eq!(secrets, BTreeSet::from(["dispatcher-db-password".to_owned()]));
    }

    #[test]
    fn the_same_image_by_another_name_is_remembered_by_that_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::load(&Layout::user(directory.path(), directory.path())).unwrap();
        let pin = |named: &str| Pin { named: named.to_owned(), reference: "r@1".to_owned() };
        record.note_good_image(&pin("r:1")).unwrap();
        record.note_good_image(&pin("r:2")).unwrap();
        assert_eq!(record.good_image(), Some(pin("r:2")));
        assert_eq!(record.previous_image(), None);
    }
}
