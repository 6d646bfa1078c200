//! What is done to the disk: whole or not at all, and never to what is somebody else's.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use quadletgen::{
    entry::{Concerns, Entry, What},
    files::{self, Change, FilesError, Manifest, diff},
};
use tempfile::TempDir;

struct Disk {
    directory: TempDir,
}

impl Disk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> Entry {
        let what = What::File { content: content.to_owned(), mode: 0o640 };
        let is_secret = name.ends_with(".env");
        Entry { path: self.path(name), what, concerns: Concerns::Instances, is_secret }
    }

    fn link(&self, name: &str, target: &str) -> Entry {
        let what = What::Link { target: target.into() };
        Entry { path: self.path(name), what, concerns: Concerns::Systemd, is_secret: false }
    }

    fn manifest(&self) -> Manifest {
        Manifest::load(&self.path("state/manifest.json")).unwrap()
    }

    fn apply(&self, entries: &[Entry]) -> Result<Vec<Change>, FilesError> {
        let mut manifest = self.manifest();
        let changes = files::changes(entries, &manifest)?;
        files::carry_out(&changes, &mut manifest, &self.path("state/manifest.json"))?;
        Ok(changes)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Every name on the disk but the manifest.
    fn names(&self) -> Vec<String> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
            for item in fs::read_dir(directory).unwrap() {
                let path = item.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    walk(&path, found)
                } else {
                    found.push(path)
                }
            }
        }
        let mut found = Vec::new();
        walk(self.directory.path(), &mut found);
        let name =
            |path: PathBuf| path.strip_prefix(self.directory.path()).unwrap().display().to_string();
        let mut names: Vec<String> = found.into_iter().map(name).collect();
        names.retain(|name| name != "state/manifest.json");
        names.sort();
        names
    }
}

#[test]
fn entries_are_made_changed_and_removed_and_nothing_else_is_left() {
    let disk = Disk::new();
    let first = [
        disk.file("units/a.container", "1\n"),
        disk.file("units/a@1.container.d/20-instance.conf", "x\n"),
        disk.link("units/a@1.container", "a.container"),
    ];
    assert_eq!(disk.apply(&first).unwrap().len(), 3);
    assert_eq!(disk.apply(&first).unwrap(), []);
    let mode = fs::metadata(disk.path("units/a.container")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    let second = [disk.file("units/a.container", "2\n")];
    let changes = disk.apply(&second).unwrap();
    assert_eq!(changes.len(), 3);
    assert!(changes.iter().all(|change| !change.is_drift));
    assert_eq!(disk.read("units/a.container"), "2\n");
    assert_eq!(disk.names(), ["units/a.container"]);
    assert!(!disk.path("units/a@1.container.d").exists());
    disk.apply(&[]).unwrap();
    assert!(disk.names().is_empty());
    assert!(disk.manifest().files.is_empty());
}

#[test]
fn foreign_files_are_all_named_and_nothing_is_changed() {
    let disk = Disk::new();
    fs::write(disk.path("b"), "theirs").unwrap();
    symlink("/elsewhere", disk.path("c")).unwrap();
    fs::create_dir(disk.path("d")).unwrap();
    let entries = [disk.file("a", "1"), disk.file("b", "2"), disk.link("c", "a")];
    let error = disk.apply(&entries).unwrap_err();
    assert!(
        matches!(&error, FilesError::Foreign(paths) if *paths == [disk.path("b"), disk.path("c")])
    );
    assert!(error.to_string().contains("move them away"), "{error}");
    assert_eq!(disk.names(), ["b", "c"]);
    assert_eq!(disk.read("b"), "theirs");
    let error = disk.apply(&[disk.file("d", "1")]).unwrap_err();
    assert!(matches!(error, FilesError::Foreign(_)), "a directory in the way");
}

#[test]
fn a_file_that_is_there_as_asked_for_is_no_change_and_becomes_ours() {
    let disk = Disk::new();
    let (wanted, at) =
        ([disk.file("a", "1"), disk.file("b", "1")], disk.path("state/manifest.json"));
    fs::write(disk.path("a"), "1").unwrap();
    fs::set_permissions(disk.path("a"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(disk.apply(&wanted[..1]).unwrap(), []);
    let mut manifest = disk.manifest();
    assert_eq!(files::adopt(&wanted, &mut manifest, &at).unwrap(), [disk.path("a")]);
    assert_eq!(files::adopt(&wanted, &mut manifest, &at).unwrap(), [] as [PathBuf; 0]);
    // What is not there is not ours.
    assert_eq!(disk.manifest().files.keys().collect::<Vec<_>>(), [&disk.path("a")]);
    disk.apply(&[disk.file("a", "2")]).unwrap();
    assert_eq!(disk.read("a"), "2");
    disk.apply(&[]).unwrap();
    assert!(disk.names().is_empty());
}

#[test]
fn other_permissions_do_not_make_a_file_foreign() {
    let disk = Disk::new();
    fs::write(disk.path("a"), "1").unwrap();
    fs::set_permissions(disk.path("a"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(disk.apply(&[disk.file("a", "1")]).unwrap().len(), 1);
    let mode = fs::metadata(disk.path("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn after_a_kill_between_manifest_and_file_the_file_is_still_ours() {
    let disk = Disk::new();
    let entries = [disk.file("a", "1")];
    let mut manifest = disk.manifest();
    manifest.note(&entries[0].path, &entries[0].what, entries[0].concerns);
    manifest.save(&disk.path("state/manifest.json")).unwrap();
    // What a kill in the middle of writing leaves.
    fs::write(disk.path(".a.new"), "hal").unwrap();
    disk.apply(&[disk.file("a", "2")]).unwrap();
    assert_eq!(disk.read("a"), "2");
    assert_eq!(disk.names(), ["a"]);
}

/// What a kill leaves when the manifest has been written and the disk has not.
fn killed(disk: &Disk, entries: &[Entry]) {
    let (mut manifest, at) = (disk.manifest(), disk.path("state/manifest.json"));
    let changes = files::changes(entries, &manifest).unwrap();
    // Where the second one would wait stands a directory: the first is not put into its place either.
    fs::create_dir_all(disk.path(".last.new/x")).unwrap();
    files::carry_out(&changes, &mut manifest, &at).unwrap_err();
    fs::remove_dir_all(disk.path(".last.new")).unwrap();
    fs::write(disk.path(".a.new"), "hal").unwrap();
}

#[test]
fn what_a_kill_leaves_is_nobody_elses_change() {
    let disk = Disk::new();
    disk.apply(&[disk.file("a", "1")]).unwrap();
    let wanted = [disk.file("a", "2"), disk.file("last", "2")];
    killed(&disk, &wanted);
    assert_eq!(disk.read("a"), "1");
    let changes = files::changes(&wanted, &disk.manifest()).unwrap();
    assert!(changes.len() == 2 && changes.iter().all(|change| !change.is_drift), "{changes:?}");
    fs::write(disk.path("a"), "mine").unwrap();
    assert!(files::changes(&wanted, &disk.manifest()).unwrap()[0].is_drift);
}

#[test]
fn what_somebody_puts_where_a_kill_has_left_nothing_is_theirs() {
    let disk = Disk::new();
    let wanted = [disk.file("a", "1"), disk.file("last", "1")];
    killed(&disk, &wanted);
    fs::write(disk.path("a"), "theirs").unwrap();
    assert!(
        matches!(disk.apply(&wanted), Err(FilesError::Foreign(paths)) if paths == [disk.path("a")])
    );
    disk.apply(&[]).unwrap();
    assert_eq!(disk.read("a"), "theirs");
}

#[test]
fn what_waits_after_a_kill_is_swept_whatever_is_asked_next() {
    let disk = Disk::new();
    killed(&disk, &[disk.file("a", "1"), disk.file("last", "1")]);
    assert_eq!(disk.names(), [".a.new"]);
    let mut manifest = disk.manifest();
    files::sweep(&mut manifest, &disk.path("state/manifest.json")).unwrap();
    assert!(disk.names().is_empty() && disk.manifest().waiting.is_empty());
}

#[test]
fn a_manifest_of_a_newer_quadletgen_is_left_alone() {
    let disk = Disk::new();
    disk.apply(&[disk.file("a", "1")]).unwrap();
    let path = disk.path("state/manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"form\": 1", "\"form\": 2, \"new\": 1");
    fs::write(&path, text).unwrap();
    let error = Manifest::load(&path).unwrap_err();
    assert!(matches!(error, FilesError::Newer { form: 2, .. }), "{error}");
    assert!(error.to_string().contains("/usr/bin/quadletgen"), "{error}");
}

#[test]
fn somebodys_file_keeps_its_permissions_behind_a_link_too() {
    let disk = Disk::new();
    fs::write(disk.path("real"), "1").unwrap();
    fs::set_permissions(disk.path("real"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink(disk.path("real"), disk.path("link")).unwrap();
    files::replace(&disk.path("link"), "2").unwrap();
    assert_eq!(disk.read("real"), "2");
    assert!(disk.path("link").is_symlink());
    let mode = fs::metadata(disk.path("real")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(files::replace(&disk.path("none"), "2").is_err());
}

#[test]
fn a_manifest_without_end_is_not_read() {
    let error = Manifest::load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}

#[test]
fn what_somebody_else_changed_is_told_apart() {
    let disk = Disk::new();
    disk.apply(&[disk.file("a", "1\n")]).unwrap();
    fs::write(disk.path("a"), "1\nmine\n").unwrap();
    let changes = disk.apply(&[disk.file("a", "1\n")]).unwrap();
    assert!(changes[0].is_drift);
    let text = diff::unified(&changes[0], false);
    assert!(text.contains("changed by somebody else") && text.contains("\n-mine\n"), "{text}");
    assert_eq!(disk.read("a"), "1\n");
}

#[test]
fn a_full_disk_changes_nothing() {
    let disk = Disk::new();
    disk.apply(&[disk.file("a", "1")]).unwrap();
    // A directory where the second file's new content would wait stops it, as a full disk does.
    fs::create_dir_all(disk.path("x/.b.new/y")).unwrap();
    let error = disk.apply(&[disk.file("a", "2"), disk.file("x/b", "2")]).unwrap_err();
    assert!(error.to_string().contains("x/b"), "{error}");
    assert_eq!(disk.read("a"), "1");
    assert_eq!(disk.names(), ["a"]);
    fs::remove_dir_all(disk.path("x")).unwrap();
    disk.apply(&[disk.file("a", "2"), disk.file("x/b", "2")]).unwrap();
    assert_eq!(disk.names(), ["a", "x/b"]);
}

#[test]
fn a_rehearsal_finds_what_would_not_fit_and_leaves_nothing() {
    let disk = Disk::new();
    let wanted = [disk.file("a", "2"), disk.file("x/b", "2")];
    let (mut manifest, at) = (Manifest::default(), disk.path("state/manifest.json"));
    let changes = files::changes(&wanted, &manifest).unwrap();
    files::rehearse(&changes, &mut manifest, &at).unwrap();
    assert!(disk.names().is_empty() && manifest.waiting.is_empty(), "{:?}", disk.names());
    fs::create_dir_all(disk.path("x/.b.new/y")).unwrap();
    let error = files::rehearse(&changes, &mut manifest, &at).unwrap_err();
    assert!(error.to_string().contains("x/b"), "{error}");
    assert!(!disk.path("a").exists() && !disk.path(".a.new").exists());
}

#[test]
fn a_difference_shows_lines_and_hides_what_may_be_secret() {
    let disk = Disk::new();
    let path = disk.path("d.env");
    let old = "# c\nAMQP_URL=amqp://u:topsecret1@h/\nDB_PASSWORD=topsecret2\nDRAIN_DELAY=5\nODD=topsecret3\n";
    let new = "# c\nAMQP_URL=amqp://u:topsecret4@h/\nDRAIN_DELAY=6\n";
    fs::write(&path, old).unwrap();
    let mut manifest = Manifest::default();
    let what = |text: &str| What::File { content: text.to_owned(), mode: 0o600 };
    manifest.note(&path, &what(old), Concerns::Instances);
    let changes = files::changes(&[disk.file("d.env", new)], &manifest).unwrap();
    let text = diff::unified(&changes[0], true);
    assert!(!text.contains("topsecret"), "{text}");
    assert!(text.contains("\x1b[31m-DRAIN_DELAY=5\x1b[0m"), "{text}");
    assert!(text.contains("\x1b[32m+DRAIN_DELAY=6\x1b[0m"), "{text}");
    assert!(text.contains("-DB_PASSWORD=***"), "{text}");
    assert!(text.contains("mode"), "{text}");
    assert!(!diff::unified(&changes[0], false).contains('\x1b'));
    // Removed as a whole, it is hidden as well.
    let changes = files::changes(&[], &manifest).unwrap();
    assert!(!diff::unified(&changes[0], false).contains("topsecret"));
}

#[test]
fn a_broken_manifest_is_named() {
    let disk = Disk::new();
    let path = disk.path("manifest.json");
    fs::write(&path, "{").unwrap();
    let error = Manifest::load(&path).unwrap_err().to_string();
    assert!(error.contains("manifest.json") && error.contains("broken"), "{error}");
}

#[test]
fn images_are_remembered_once_each_time() {
    let mut manifest = Manifest::default();
    let image = |reference: &str| files::manifest::Image {
        named: "d:1".to_owned(),
        reference: reference.to_owned(),
        since: "2026-01-01T00:00:00Z".to_owned(),
    };
    for reference in ["a", "a", "b", "a"] {
        manifest.use_image(image(reference));
    }
    let found: Vec<&str> = manifest.images.iter().map(|image| image.reference.as_str()).collect();
    assert_eq!(found, ["a", "b", "a"]);
    (0..50).for_each(|number| manifest.use_image(image(&number.to_string())));
    assert_eq!(manifest.images.len(), 20);
    assert_eq!(manifest.image().unwrap().reference, "49");
}
