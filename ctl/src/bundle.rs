//! A folder as one tar: the same files give the same bytes, whenever and wherever they are packed,
//! so that storing them again changes nothing. Regular files only; what is left out is said.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    text,
    trouble::{Result, Trouble},
};

/// The most files that a bundle may have.
const MAX_FILES: usize = 10_000;
/// The most that a playbook or a bundle's files may take together, in bytes.
pub(crate) const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The deepest folder that is looked into.
const MAX_DEPTH: usize = 64;

/// A packed folder.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The tar.
    pub(crate) bytes: Vec<u8>,
    /// What was left out, and why.
    pub(crate) skipped: Vec<String>,
}

#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    skipped: Vec<String>,
}

/// Packs a folder that must hold the entry.
pub(crate) fn pack(folder: &Path, entry: &str) -> Result<Bundle> {
    let mut found = Found::default();
    gather(folder, Path::new(""), 0, &mut found)?;
    check_entry(folder, entry, &found.files)?;
    // Byte order of whole paths: no locale, no order of the file system.
    found.files.sort();
    found.skipped.sort();
    Ok(Bundle { bytes: write(folder, &found.files)?, skipped: found.skipped })
}

fn gather(folder: &Path, inside: &Path, depth: usize, found: &mut Found) -> Result<()> {
    let here = folder.join(inside);
    let failed = |error| Trouble::usage(format!("cannot read `{}`: {error}", here.display()));
    if depth > MAX_DEPTH {
        return Err(Trouble::usage(format!("`{}` is nested too deeply", here.display())));
    }
    for item in fs::read_dir(&here).map_err(failed)? {
        let item = item.map_err(failed)?;
        let (path, kind) = (inside.join(item.file_name()), item.file_type().map_err(failed)?);
        if item.file_name() == ".git" {
            found.skipped.push(format!("{} (git's own)", path.display()));
        } else if kind.is_dir() {
            gather(folder, &path, depth + 1, found)?;
        } else if kind.is_file() {
            found.add(path)?;
        } else {
            let what = if kind.is_symlink() { "a link" } else { "not a regular file" };
            found.skipped.push(format!("{} ({what})", path.display()));
        }
    }
    Ok(())
}

impl Found {
    fn add(&mut self, path: PathBuf) -> Result<()> {
        let Some(name) = path.to_str() else {
            let shown = path.display();
            return Err(Trouble::usage(format!("the name of `{shown}` is not UTF-8; rename it")));
        };
        if name.contains('\\') || name.chars().any(text::is_control) {
            return Err(Trouble::usage(format!(
                "the name of `{}` has a backslash or a control character; rename it",
                text::clean(name)
            )));
        }
        if self.files.len() == MAX_FILES {
            return Err(Trouble::usage(format!("the folder has more than {MAX_FILES} files"))
                .hint("run a folder that holds the playbook and what it needs, and nothing else"));
        }
        self.files.push(path);
        Ok(())
    }
}

fn check_entry(folder: &Path, entry: &str, files: &[PathBuf]) -> Result<()> {
    if files.iter().any(|file| file == Path::new(entry)) {
        return Ok(());
    }
    let is_yaml = |path: &&PathBuf| {
        let yaml = path.extension().is_some_and(|end| end == "yml" || end == "yaml");
        yaml && path.components().count() == 1
    };
    let mut candidates: Vec<_> =
        files.iter().filter(is_yaml).map(|path| path.display().to_string()).collect();
    candidates.sort();
    let trouble = Trouble::usage(format!("`{}` has no file `{entry}` to run", folder.display()));
    Err(trouble.hint(if candidates.is_empty() {
        "name the playbook with --entry PATH".to_owned()
    } else {
        format!("name the playbook with --entry; there is {}", candidates.join(", "))
    }))
}

fn write(folder: &Path, files: &[PathBuf]) -> Result<Vec<u8>> {
    let mut total = 0;
    let mut tar = tar::Builder::new(Vec::new());
    for path in files {
        let full = folder.join(path);
        let content = read(&full, MAX_BYTES - total)?;
        total += content.len() as u64;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode_of(&full));
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, path, content.as_slice()).map_err(|error| {
            Trouble::usage(format!("cannot pack `{}`: {error}", full.display()))
        })?;
    }
    tar.into_inner().map_err(|error| Trouble::failed(format!("cannot pack the folder: {error}")))
}

/// Whether somebody may execute it is all that is kept of a file's mode.
fn mode_of(path: &Path) -> u32 {
    let executable = fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    if executable { 0o755 } else { 0o644 }
}

/// Reads a file that may take at most this many bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |error| Trouble::usage(format!("cannot read `{}`: {error}", path.display()));
    let mut content = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut content))
        .map_err(failed)?;
    if content.len() as u64 > most {
        return Err(Trouble::usage(format!(
            "`{}` goes beyond {}, the most that a playbook and its files may take",
            path.display(),
            text::bytes(MAX_BYTES)
        )));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{FileTimes, Permissions},
        os::unix::fs::symlink,
        time::{Duration, SystemTime},
    };

    use super::*;

    fn folder(order: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in order {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
        }
        dir
    }

    const FILES: [&str; 3] = ["site.yml", "roles/web/tasks/main.yml", "roles/web.yml"];

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let one = folder(&FILES);
        let mut reversed = FILES;
        reversed.reverse();
        let two = folder(&reversed);
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let file = fs::File::open(two.path().join("site.yml")).unwrap();
        file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
        fs::set_permissions(two.path().join("site.yml"), Permissions::from_mode(0o600)).unwrap();
        let pack = |dir: &tempfile::TempDir| pack(dir.path(), "site.yml").unwrap().bytes;
        assert_eq!(pack(&one), pack(&two));
        fs::write(two.path().join("site.yml"), "other").unwrap();
        assert_ne!(pack(&one), pack(&two));
    }

    #[test]
    fn only_regular_files_are_taken_and_the_rest_is_said() {
        let dir = folder(&["site.yml", ".git/config", ".hidden", "sub/.git/config"]);
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        fs::set_permissions(dir.path().join(".hidden"), Permissions::from_mode(0o700)).unwrap();
        let bundle = pack(dir.path(), "site.yml").unwrap();
        assert_eq!(bundle.skipped, [".git (git's own)", "link (a link)", "sub/.git (git's own)"]);
        let mut tar = tar::Archive::new(bundle.bytes.as_slice());
        let entries = tar.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
        });
        let want = [(".hidden".to_owned(), 0o755), ("site.yml".to_owned(), 0o644)];
        assert_eq!(entries.collect::<Vec<_>>(), want);
    }

    #[test]
    fn long_paths_survive() {
        let long = format!("{}/{}/site.yml", "a".repeat(120), "b".repeat(120));
        let dir = folder(&[&long]);
        let bundle = pack(dir.path(), &long).unwrap();
        let mut tar = tar::Archive::new(bundle.bytes.as_slice());
        let paths: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, [long]);
    }

    #[test]
    fn a_missing_entry_is_said_with_what_there_is() {
        let dir = folder(&["b.yml", "a.yaml", "x.txt", "d/c.yml"]);
        let trouble = pack(dir.path(), "site.yml").unwrap_err();
        assert!(trouble.message().contains("`site.yml`"));
        assert!(format!("{trouble:?}").contains("a.yaml, b.yml\""), "{trouble:?}");
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let dir = folder(&["site.yml"]);
        assert!(read(&dir.path().join("site.yml"), 7).unwrap_err().message().contains("64.0 MiB"));
        assert!(read(&dir.path().join("site.yml"), 8).is_ok());
    }
}
