//! What may be stored as a playbook: a text, or a tar archive (plain or gzip) of regular files and
//! directories. Checks a stream without unpacking it anywhere; workers check again when they do.
//!
//! Bounded while it reads: an archive that opens to more than the limit is refused at that point,
//! whatever it claims about itself.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, EntryType};

/// The most that a bundle may hold when opened, headers included, in bytes.
pub const MAX_OPENED: u64 = 64 << 20;
/// The most entries of a bundle.
pub const MAX_ENTRIES: usize = 10_000;
/// The most that a single file may take, in bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// The file that is run where nothing else is said.
pub const DEFAULT_ENTRY: &str = "site.yml";

/// The longest path inside a bundle, in bytes.
const MAX_PATH: usize = 1024;
/// The longest name inside a bundle, in bytes: what file systems take.
const MAX_NAME: usize = 255;
/// Where tar archives have their magic, and what it begins with.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// Why content cannot be stored as a playbook.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The content is not acceptable; says why and what is.
    #[error("{0}")]
    Refused(String),
    /// It could not be read.
    #[error("the content could not be read: {0}")]
    Unreadable(io::Error),
}

/// Checks content and tells its entry: `None` for a single file.
///
/// # Errors
/// When it is not acceptable, or cannot be read.
pub fn check(content: impl Read, entry: Option<&str>) -> Result<Option<String>, BundleError> {
    let mut content = BufReader::new(content);
    let start = content.fill_buf().map_err(BundleError::Unreadable)?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return check_bundle(MultiGzDecoder::new(content), entry).map(Some);
    }
    let mut head = Vec::with_capacity(TAR_MAGIC.end);
    content
        .by_ref()
        .take(TAR_MAGIC.end as u64)
        .read_to_end(&mut head)
        .map_err(BundleError::Unreadable)?;
    let is_tar = head.get(TAR_MAGIC) == Some(b"ustar");
    let whole = head.as_slice().chain(content);
    if is_tar { check_bundle(whole, entry).map(Some) } else { check_file(whole, entry) }
}

fn refused<T>(reason: impl Into<String>) -> Result<T, BundleError> {
    Err(BundleError::Refused(reason.into()))
}

fn check_file(content: impl Read, entry: Option<&str>) -> Result<Option<String>, BundleError> {
    let mut bytes = Vec::new();
    content.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(BundleError::Unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return refused(format!(
            "a single playbook may take {MAX_FILE} bytes; send more as a tar archive"
        ));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return refused(
            "a playbook is a UTF-8 text or a tar archive (plain or gzip); this is none",
        );
    };
    if text.contains('\0') {
        return refused("a playbook is a text without NUL or a tar archive; this is none");
    }
    if text.trim().is_empty() {
        return refused("the playbook is empty");
    }
    if entry.is_some() {
        return refused("entry is only for tar archives; this is a single file");
    }
    Ok(None)
}

/// A reader that refuses to yield more than its limit.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(format!("it opens to more than {MAX_OPENED} bytes")))?;
        Ok(read)
    }
}

fn check_bundle(content: impl Read, entry: Option<&str>) -> Result<String, BundleError> {
    let entry = entry.unwrap_or(DEFAULT_ENTRY);
    if !entry.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return refused("the entry must be plain ASCII: it is sent in a header");
    }
    if entry.starts_with('-') {
        return refused("the entry must not start with '-': it would be taken for an option");
    }
    let wanted = clean_path(entry.as_bytes()).map_err(BundleError::Refused)?;
    let mut content = Bounded { inner: content, left: MAX_OPENED };
    let damaged = |error: io::Error| BundleError::Refused(format!("the archive is bad: {error}"));
    let mut paths = BTreeMap::new();
    for found in Archive::new(&mut content).entries().map_err(damaged)? {
        note(&mut paths, &found.map_err(damaged)?)?;
    }
    // What follows the archive's end is read too: it may hold the checksum of the compression.
    io::copy(&mut content, &mut io::sink()).map_err(damaged)?;
    check_tree(&paths)?;
    match paths.get(&wanted) {
        Some(Kind::File) => Ok(wanted),
        Some(Kind::Directory) => refused(format!("the entry {wanted} is a directory")),
        None => refused(format!(
            "the archive has no file {wanted}; add it, or name the playbook with ?entry="
        )),
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    File,
    Directory,
}

fn note<R: Read>(
    paths: &mut BTreeMap<String, Kind>,
    found: &tar::Entry<'_, R>,
) -> Result<(), BundleError> {
    let bytes = found.path_bytes();
    let shown = || String::from_utf8_lossy(bytes.get(..bytes.len().min(100)).unwrap_or_default());
    let kind = match found.header().entry_type() {
        EntryType::Regular if bytes.ends_with(b"/") => {
            return refused(format!("{} is a file with the name of a directory", shown()));
        }
        EntryType::Regular => Kind::File,
        EntryType::Directory => Kind::Directory,
        // `git archive` notes its commit in one; it is not a file.
        EntryType::XGlobalHeader => return Ok(()),
        other => {
            let shown = shown();
            return refused(format!(
                "{shown} is {other:?}; only files and directories are allowed"
            ));
        }
    };
    let path = clean_path(&bytes).map_err(BundleError::Refused)?;
    if path.is_empty() && kind == Kind::Directory {
        return Ok(());
    }
    if path.is_empty() {
        return refused("a file without a name is in the archive");
    }
    if paths.insert(path, kind).is_some() {
        return refused(format!("{} is in the archive twice", shown()));
    }
    if paths.len() > MAX_ENTRIES {
        return refused(format!("the archive has more than {MAX_ENTRIES} entries"));
    }
    Ok(())
}

/// A relative path without `.`; the empty text for the archive's own root.
fn clean_path(bytes: &[u8]) -> Result<String, String> {
    let shown = String::from_utf8_lossy(bytes.get(..bytes.len().min(100)).unwrap_or_default());
    let Ok(path) = std::str::from_utf8(bytes) else {
        return Err(format!("the path {shown:?} is not valid UTF-8"));
    };
    if path.len() > MAX_PATH {
        return Err(format!("the path {shown:?}… is longer than {MAX_PATH} bytes"));
    }
    if path.contains('\0') || path.starts_with('/') {
        return Err(format!("the path {shown:?} is absolute or holds NUL"));
    }
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if let Some(name) = names.iter().find(|name| **name == ".." || name.len() > MAX_NAME) {
        let name: String = name.chars().take(20).collect();
        return Err(format!(
            "the path {shown:?} holds {name:?}: no name may be '..' or longer than {MAX_NAME} bytes"
        ));
    }
    Ok(names.join("/"))
}

/// No file may be where another path needs a directory.
fn check_tree(paths: &BTreeMap<String, Kind>) -> Result<(), BundleError> {
    for (file, _) in paths.iter().filter(|(_, kind)| **kind == Kind::File) {
        let below = format!("{file}/");
        let next = paths.range(below.clone()..).next();
        if next.is_some_and(|(path, _)| path.starts_with(&below)) {
            return refused(format!("{file} is a file and a directory at once"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use tar::{Builder, Header};

    use super::*;

    /// An entry exactly as given, without the checks that the tar crate makes when it writes.
    fn entry(archive: &mut Vec<u8>, path: &[u8], kind: EntryType, content: &[u8]) {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }

    fn archive(entries: &[(&[u8], EntryType)]) -> Vec<u8> {
        let mut archive = Vec::new();
        entries.iter().for_each(|(path, kind)| entry(&mut archive, path, *kind, b""));
        archive.resize(archive.len() + 1024, 0);
        archive
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn reason(content: &[u8], entry: Option<&str>) -> String {
        check(content, entry).unwrap_err().to_string()
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn files_are_texts() {
        assert_eq!(check(&b"- hosts: all\n"[..], None).unwrap(), None);
        assert!(reason(b" \n\t", None).contains("empty"));
        assert!(reason(b"", None).contains("empty"));
        assert!(reason(b"\xff\xfe", None).contains("UTF-8"));
        assert!(reason(b"- hosts\0", None).contains("NUL"));
        assert!(reason(b"- hosts: all\n", Some("a.yml")).contains("entry"));
        let largest = [b' ', b'x'].repeat((MAX_FILE / 2) as usize);
        check(largest.as_slice(), None).unwrap();
        assert!(reason(&[largest, vec![b'x']].concat(), None).contains("1048576"));
    }

    #[test]
    fn bundles_name_their_entry() {
        let plain = archive(&[
            (b"./", EntryType::Directory),
            (b"./site.yml", FILE),
            (b"roles/", EntryType::Directory),
            (b"roles/a.yml", FILE),
        ]);
        for content in [plain.clone(), gzip(&plain)] {
            let entry = |name| check(content.as_slice(), name).unwrap();
            assert_eq!(entry(None).as_deref(), Some("site.yml"));
            assert_eq!(entry(Some("./roles//a.yml")).as_deref(), Some("roles/a.yml"));
            assert!(reason(&content, Some("other.yml")).contains("no file other.yml"));
            assert!(reason(&content, Some("roles")).contains("directory"));
            assert!(reason(&content, Some("a\nb.yml")).contains("ASCII"));
            assert!(reason(&content, Some("-e.yml")).contains("option"));
            assert!(reason(&content, Some("../site.yml")).contains(".."));
        }
    }

    #[test]
    fn the_tar_crates_own_archives_pass_with_long_names() {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
        for path in ["site.yml", &long] {
            builder.append_data(&mut header, path, &b"- a\n"[..]).unwrap();
        }
        let content = builder.into_inner().unwrap();
        assert_eq!(check(content.as_slice(), Some(&long)).unwrap(), Some(long));
    }

    #[test]
    fn everything_but_files_and_directories_is_refused() {
        for kind in [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Char,
            EntryType::Block,
            EntryType::Fifo,
            EntryType::Continuous,
            EntryType::new(b'Z'),
        ] {
            let content = archive(&[(b"site.yml", FILE), (b"x", kind)]);
            assert!(reason(&content, None).contains("only files and directories"), "{kind:?}");
        }
        let git = archive(&[(b"pax_global_header", EntryType::XGlobalHeader), (b"site.yml", FILE)]);
        assert_eq!(check(git.as_slice(), None).unwrap().as_deref(), Some("site.yml"));
    }

    #[test]
    fn paths_that_leave_the_bundle_or_collide_are_refused() {
        let too_long = [b"n".repeat(90), b"/".to_vec()].concat();
        for (path, why) in [
            (&b"/etc/passwd"[..], "absolute"),
            (b"../x", ".."),
            (b"a/../../x", ".."),
            (b"a/..", ".."),
            (b"\xff", "UTF-8"),
            (b"site.yml", "twice"),
            (b"./site.yml", "twice"),
            (b"site.yml/x", "at once"),
            (b"dir/", "name of a directory"),
            (b".", "without a name"),
            (too_long.as_slice(), "name of a directory"),
        ] {
            let content = archive(&[(b"site.yml", FILE), (path, FILE)]);
            let reason = reason(&content, None);
            assert!(reason.contains(why), "{}: {reason}", String::from_utf8_lossy(path));
        }
        assert!(clean_path(&[b'x'; 256]).unwrap_err().contains("255"));
        assert!(clean_path(&b"x/".repeat(600)).unwrap_err().contains("1024"));
        assert!(clean_path(b"a\0b").unwrap_err().contains("NUL"));
    }

    #[test]
    fn too_many_entries_are_refused() {
        let names: Vec<String> = (0..=MAX_ENTRIES).map(|n| format!("f{n}")).collect();
        let entries: Vec<_> = names.iter().map(|name| (name.as_bytes(), FILE)).collect();
        assert!(reason(&gzip(&archive(&entries)), None).contains("10000"));
    }

    #[test]
    fn bombs_are_refused_while_they_open() {
        let mut content = Vec::new();
        entry(&mut content, b"site.yml", FILE, &vec![0; 65 << 20]);
        let bomb = gzip(&content);
        assert!(bomb.len() < 1 << 20);
        assert!(reason(&bomb, None).contains("67108864"));
        // Behind the end of the archive too.
        let behind = [archive(&[(b"site.yml", FILE)]), vec![0; 65 << 20]].concat();
        assert!(reason(&gzip(&behind), None).contains("67108864"));
    }

    #[test]
    fn sizes_that_lie_and_cuts_anywhere_are_refused() {
        let mut huge = Header::new_gnu();
        huge.set_entry_type(FILE);
        huge.as_old_mut().name[..8].copy_from_slice(b"site.yml");
        huge.set_size(u64::MAX / 2);
        huge.set_cksum();
        assert!(reason(huge.as_bytes(), None).contains("archive is bad"));

        let mut content = Vec::new();
        entry(&mut content, b"site.yml", FILE, &[b'x'; 2000]);
        let whole = content.len();
        content.resize(whole + 1024, 0);
        let packed = gzip(&content);
        for cut in (1..whole - 512).step_by(97).filter(|cut| *cut > 262) {
            assert!(check(&content[..cut], None).is_err(), "{cut}");
        }
        for cut in 2..packed.len() {
            assert!(check(&packed[..cut], None).is_err(), "{cut}");
        }
        assert!(check(packed.as_slice(), None).is_ok());
        assert!(reason(&gzip(b"- hosts: all"), None).contains("bad"));
    }
}
