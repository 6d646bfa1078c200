//! The programs that are taken out of the image onto the host. What lies at their places and is not
//! ours, or was ours and is another now, is neither replaced nor removed.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    desired::Desired,
    failure::{Exit, Failure},
    record::Record,
    session::Session,
};
use crate::files::{Manifest, manifest::Program};

/// The worker.
pub const WORKER: &str = "/usr/local/libexec/dispatcher/dispatcher-worker";
/// The command line for people.
pub const CONTROL: &str = "/usr/local/bin/dispatchctl";
/// Where they are in the image, and where they go.
const ALL: [(&str, &str); 2] =
    [("/usr/bin/dispatcher-worker", WORKER), ("/usr/bin/dispatchctl", CONTROL)];
/// The containers through which they are copied: by who changes the host, of whom there is one, and
/// by who only looks. What a kill leaves is replaced by the next, and removed by `uninstall`.
pub const COPIERS: [&str; 2] = ["quadletgen-copy", "quadletgen-look"];

/// What lies where a program goes.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Standing {
    /// Nothing.
    Absent,
    /// What we have put there.
    Ours,
    /// Something else where we have put something.
    Altered,
    /// Something where we have put nothing.
    Foreign,
}

impl Standing {
    const fn is_theirs(&self) -> bool {
        matches!(self, Self::Altered | Self::Foreign)
    }
}

/// What lies at a path, and its SHA-256 where it is a file.
fn look(manifest: &Manifest, path: &Path) -> Result<(Standing, Option<String>), Failure> {
    let digest = digest(path)?;
    let standing = match (manifest.programs.get(path), &digest) {
        (_, None) if is_free(path)? => Standing::Absent,
        (Some(ours), Some(digest)) if ours.is(digest) => Standing::Ours,
        (Some(_), _) => Standing::Altered,
        (None, _) => Standing::Foreign,
    };
    Ok((standing, digest))
}

fn is_free(path: &Path) -> Result<bool, Failure> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed(path)(error)),
        Ok(_) => Ok(false),
    }
}

/// SHA-256 of a file; nothing where there is none, or a link, or anything else.
fn digest(path: &Path) -> Result<Option<String>, Failure> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    }
    let mut digest = Sha256::new();
    let mut file = File::open(path).map_err(failed(path))?;
    let mut part = vec![0; 1 << 16];
    loop {
        match file.read(&mut part).map_err(failed(path))? {
            0 => break,
            length => digest.update(part.get(..length).unwrap_or_default()),
        }
    }
    Ok(Some(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Those that do not lie at their places, whole, and out of this image.
///
/// # Errors
/// When one cannot be read.
pub fn lacking(manifest: &Manifest, image: &str) -> Result<Vec<&'static str>, Failure> {
    let mut found = Vec::new();
    for (_, to) in ALL {
        let of = manifest.programs.get(Path::new(to));
        if of.is_none_or(|program| program.image != image || program.replaces.is_some())
            || look(manifest, Path::new(to))?.0 != Standing::Ours
        {
            found.push(to);
        }
    }
    Ok(found)
}

/// Those of ours that somebody has altered or replaced since, in words.
///
/// # Errors
/// When one cannot be read.
pub fn altered(manifest: &Manifest) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for path in manifest.programs.keys() {
        if look(manifest, path)?.0 == Standing::Altered {
            found.push(format!("the program {} was changed by somebody else", path.display()));
        }
    }
    Ok(found)
}

/// Those that are ours: `uninstall` removes them.
///
/// # Errors
/// When one cannot be read.
pub fn ours(manifest: &Manifest) -> Result<Vec<&Path>, Failure> {
    let mut found = Vec::new();
    for path in manifest.programs.keys() {
        if look(manifest, path)?.0 == Standing::Ours {
            found.push(path.as_path());
        }
    }
    Ok(found)
}

/// Refuses what is in the way of the programs of this image, unless it is as the image has it.
/// Nothing of the host is changed.
///
/// # Errors
/// With everything that is in the way.
pub async fn check(session: &Session, desired: &Desired) -> Result<(), Failure> {
    let mut in_the_way = Vec::new();
    for (from, to) in ALL.iter().filter(|_| desired.variables.has_worker()) {
        let (standing, digest) = look(&session.record.manifest, Path::new(to))?;
        if standing.is_theirs() && !is_as_in(session, desired, from, digest).await? {
            in_the_way.push((PathBuf::from(to), standing));
        }
    }
    if in_the_way.is_empty() { Ok(()) } else { Err(foreign(&in_the_way)) }
}

async fn is_as_in(
    session: &Session,
    desired: &Desired,
    from: &str,
    found: Option<String>,
) -> Result<bool, Failure> {
    let (podman, image) = (&session.host.podman, &desired.pin.reference);
    // Before a dry run has fetched the image there is nothing to compare with.
    if found.is_none() || podman.image(image).await?.is_none() {
        return Ok(false);
    }
    let directory = tempfile::tempdir().map_err(failed(&std::env::temp_dir()))?;
    let copy = directory.path().join("program");
    let [changing, looking] = COPIERS;
    let name = if session.options.is_dry_run { looking } else { changing };
    podman.copy_out(name, image, from, &copy).await?;
    Ok(digest(&copy)? == found)
}

fn foreign(in_the_way: &[(PathBuf, Standing)]) -> Failure {
    let line = |(path, standing): &(PathBuf, Standing)| {
        let since = match standing {
            Standing::Altered => " (was quadletgen's, and somebody has changed it since)",
            _ => "",
        };
        format!("\n  {}{since}", path.display())
    };
    let lines: String = in_the_way.iter().map(line).collect();
    Failure::new(
        Exit::Foreign,
        format!(
            "these are not quadletgen's and stand where programs out of the image belong:{lines}\n\
             move them away, or remove them, and run this again; with dispatcher_worker_enabled: false \
             nothing is put there"
        ),
    )
}

/// Puts these into their places. Whatever is killed here is done again.
///
/// # Errors
/// When the image does not have them, something is in the way, or the system says no.
pub async fn take_out(session: &mut Session, image: &str, wanted: &[&str]) -> Result<(), Failure> {
    let [copier, _] = COPIERS;
    for (from, to) in ALL.into_iter().filter(|(_, to)| wanted.contains(to)) {
        let to = Path::new(to);
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        let beside = beside(to);
        session.record.note_waiting(to)?;
        session.host.podman.copy_out(copier, image, from, &beside).await?;
        put(&mut session.record, &beside, to, image)?;
    }
    // Nothing waits any more.
    session.record.sweep()
}

/// Beside its place first, so that a program that runs is replaced and not overwritten; by the name
/// that files wait by.
fn beside(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.new"))
}

/// The manifest knows both, what was there and what comes, before the one takes the other's place.
fn put(record: &mut Record, beside: &Path, to: &Path, image: &str) -> Result<(), Failure> {
    fs::set_permissions(beside, Permissions::from_mode(0o755)).map_err(failed(beside))?;
    File::open(beside).and_then(|file| file.sync_all()).map_err(failed(beside))?;
    let (standing, there) = look(&record.manifest, to)?;
    let Some(sha256) = digest(beside)? else {
        let text = format!("{image} has no file to put to {}", to.display());
        return Err(Failure::new(Exit::Failed, text));
    };
    if standing.is_theirs() && there.as_ref() != Some(&sha256) {
        fs::remove_file(beside).map_err(failed(beside))?;
        return Err(foreign(&[(to.to_owned(), standing)]));
    }
    let mut program =
        Program { sha256, image: image.to_owned(), replaces: Some(there.unwrap_or_default()) };
    record.note_program(to, program.clone())?;
    fs::rename(beside, to).map_err(failed(to))?;
    settle(to)?;
    program.replaces = None;
    record.note_program(to, program)
}

/// Removes those that are ours; says which are left, since they are not any more.
///
/// # Errors
/// When the system says no.
pub fn remove(record: &mut Record) -> Result<Vec<String>, Failure> {
    let paths: Vec<PathBuf> = record.manifest.programs.keys().cloned().collect();
    let mut left = Vec::new();
    for path in paths {
        match look(&record.manifest, &path)?.0 {
            Standing::Ours => gone(&path)?,
            Standing::Absent => {}
            _ => left.push(format!("{} was left: somebody has changed it", path.display())),
        }
        record.forget_program(&path)?;
        // Made for the worker alone, and gone with it unless others have put something there.
        if let Some(directory) = path.parent().filter(|directory| directory.ends_with("dispatcher"))
        {
            let _others = fs::remove_dir(directory);
        }
    }
    Ok(left)
}

fn gone(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path)(error)),
        Ok(()) => settle(path),
    }
}

/// Makes the directory remember.
fn settle(path: &Path) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed(directory))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure + '_ {
    move |error| Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    struct Host {
        directory: tempfile::TempDir,
        record: Record,
    }

    impl Host {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let layout = Layout::user(directory.path(), directory.path());
            Self { record: Record::load(&layout).unwrap(), directory }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("dispatchctl")
        }

        fn standing(&self) -> Standing {
            look(&self.record.manifest, &self.path()).unwrap().0
        }

        fn put(&mut self, content: &str, image: &str) -> Result<(), Failure> {
            let to = self.path();
            fs::write(beside(&to), content).unwrap();
            put(&mut self.record, &beside(&to), &to, image)
        }

        fn holds(&self, content: &str) -> bool {
            fs::read_to_string(self.path()).unwrap() == content
        }
    }

    #[test]
    fn a_foreign_program_is_neither_replaced_nor_removed() {
        let mut host = Host::new();
        fs::write(host.path(), "theirs").unwrap();
        let failure = host.put("ours", "a").unwrap_err();
        assert_eq!(failure.exit, Exit::Foreign);
        assert!(failure.text.contains("dispatchctl\nmove them away"), "{}", failure.text);
        assert!(host.holds("theirs") && !beside(&host.path()).exists());
        assert!(host.record.manifest.programs.is_empty());
        assert!(remove(&mut host.record).unwrap().is_empty());
        assert!(host.holds("theirs"));
    }

    #[test]
    fn an_equal_one_becomes_ours() {
        let mut host = Host::new();
        fs::write(host.path(), "same").unwrap();
        host.put("same", "a").unwrap();
        assert_eq!(host.standing(), Standing::Ours);
        assert!(remove(&mut host.record).unwrap().is_empty());
        assert!(!host.path().exists());
    }

    #[test]
    fn ours_is_replaced_and_one_that_somebody_altered_is_told_and_left() {
        let mut host = Host::new();
        host.put("1", "a").unwrap();
        host.put("2", "b").unwrap();
        assert!(host.holds("2") && altered(&host.record.manifest).unwrap().is_empty());
        fs::write(host.path(), "mine").unwrap();
        let told = altered(&host.record.manifest).unwrap();
        assert!(told.len() == 1 && told[0].contains("was changed by somebody else"), "{told:?}");
        let failure = host.put("3", "c").unwrap_err();
        assert!(failure.exit == Exit::Foreign && failure.text.contains("changed it since"));
        let left = remove(&mut host.record).unwrap();
        assert!(left.len() == 1 && left[0].contains("was left"), "{left:?}");
        assert!(host.holds("mine"));
    }

    #[test]
    fn a_link_or_a_directory_is_somebody_elses() {
        let mut host = Host::new();
        std::os::unix::fs::symlink("/bin/true", host.path()).unwrap();
        assert_eq!(host.put("1", "a").unwrap_err().exit, Exit::Foreign);
        fs::remove_file(host.path()).unwrap();
        fs::create_dir(host.path()).unwrap();
        assert_eq!(host.put("1", "a").unwrap_err().exit, Exit::Foreign);
    }

    #[test]
    fn what_a_kill_leaves_beside_its_place_is_swept() {
        let mut host = Host::new();
        let path = host.path();
        host.record.note_waiting(&path).unwrap();
        fs::write(beside(&path), "half").unwrap();
        let layout = Layout::user(host.directory.path(), host.directory.path());
        let mut after = Record::load(&layout).unwrap();
        after.sweep().unwrap();
        assert!(!beside(&path).exists() && after.manifest.waiting.is_empty());
    }

    #[test]
    fn killed_between_note_and_program_either_is_ours_and_nothing_else_is() {
        let mut host = Host::new();
        host.put("1", "a").unwrap();
        let old = host.record.manifest.programs[&host.path()].sha256.clone();
        let path = host.path();
        fs::write(beside(&path), "2").unwrap();
        let sha256 = digest(&beside(&path)).unwrap().unwrap();
        let noted = Program { sha256, image: "b".to_owned(), replaces: Some(old) };
        host.record.note_program(&path, noted).unwrap();
        assert_eq!(host.standing(), Standing::Ours, "the old one");
        fs::rename(beside(&path), &path).unwrap();
        assert_eq!(host.standing(), Standing::Ours, "the new one");
        fs::write(&path, "3").unwrap();
        assert_eq!(host.standing(), Standing::Altered);
    }
}
