//! Opens a playbook bundle: a tar (plain or gzip) of regular files and directories, nothing else.
//! Blocking.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::{config::FetchLimits, journal::create_dir};

/// Where the magic of a tar is.
const TAR_MAGIC_AT: usize = 257;

/// What a tar adds to each of its entries at most, headers and padding, in bytes.
const FRAMING: u64 = 4096;

/// What kind of file was fetched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A playbook.
    Single,
    /// A bundle.
    Tar,
    /// A compressed bundle.
    Gzip,
}

/// Looks at the beginning of a file.
pub(crate) fn kind_of(path: &Path) -> io::Result<Kind> {
    let mut start = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut start)?;
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] => Kind::Gzip,
        start if start.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar")) => {
            Kind::Tar
        }
        _ => Kind::Single,
    })
}

/// Opens a bundle into an empty directory.
///
/// # Errors
/// Why it is refused, for people; what was opened until then stays.
pub(crate) fn unpack(bundle: &Path, into: &Path, limits: &FetchLimits) -> Result<(), String> {
    let kind = kind_of(bundle).map_err(|error| unreadable(&error))?;
    let file = File::open(bundle).map_err(|error| unreadable(&error))?;
    // What is compressed is not trusted to be as short as its entries say.
    let framing = limits.entries.saturating_mul(FRAMING).saturating_add(FRAMING);
    let most = limits.opened_bytes.saturating_add(framing);
    match kind {
        Kind::Gzip => place_all(MultiGzDecoder::new(file).take(most), into, limits),
        Kind::Tar | Kind::Single => place_all(file, into, limits),
    }
}

fn place_all(bundle: impl Read, into: &Path, limits: &FetchLimits) -> Result<(), String> {
    let mut archive = Archive::new(bundle);
    let mut opened = Opened { entries: 0, bytes: 0, limits };
    for entry in archive.entries().map_err(|error| unreadable(&error))? {
        opened.place(entry.map_err(|error| unreadable(&error))?, into)?;
    }
    Ok(())
}

/// Whether a name stays inside the directory it is in, and cannot be taken for an option.
pub(crate) fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && path.components().any(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().starts_with(b"-")
}

struct Opened<'a> {
    entries: u64,
    bytes: u64,
    limits: &'a FetchLimits,
}

impl Opened<'_> {
    fn place<R: Read>(&mut self, mut entry: Entry<'_, R>, into: &Path) -> Result<(), String> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(format!("the bundle has more than {} entries", self.limits.entries));
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = entry.path().map_err(|error| unreadable(&error))?.into_owned();
        let shown = path.display().to_string();
        if kind == EntryType::Directory && path == Path::new("./") {
            return Ok(());
        }
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(format!("the bundle has an entry outside of it: {shown}"));
        }
        let failed = |error: io::Error| format!("the bundle's {shown} cannot be written: {error}");
        let target = into.join(&path);
        match kind {
            EntryType::Directory => create_dir(&target).map_err(failed),
            EntryType::Regular | EntryType::Continuous => {
                self.bytes = self.bytes.saturating_add(entry.size());
                if self.bytes > self.limits.opened_bytes {
                    return Err(format!(
                        "the bundle opens to more than {} bytes",
                        self.limits.opened_bytes
                    ));
                }
                write_file(&mut entry, &target).map_err(failed)
            }
            _ => Err(format!(
                "the bundle has an entry that is neither a regular file nor a directory: {shown}"
            )),
        }
    }
}

fn write_file<R: Read>(entry: &mut Entry<'_, R>, target: &Path) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        create_dir(folder)?;
    }
    // Of the mode only whether it is a program: never set-user-id, never for others.
    let mode = 0o600 | (entry.header().mode()? & 0o100);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(target)?;
    fs::set_permissions(target, fs::Permissions::from_mode(mode))?;
    let size = entry.size();
    let written = io::copy(&mut entry.by_ref().take(size), &mut file)?;
    if written < size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the bundle is cut off"));
    }
    Ok(())
}

fn unreadable(error: &io::Error) -> String {
    format!("the bundle is no readable tar archive: {error}")
}

/// The bundle's entry, if there is such a file in it.
pub(crate) fn entry_in(project: &Path, entry: &str) -> Option<PathBuf> {
    let relative = Path::new(entry);
    (is_inside(relative) && project.join(relative).is_file()).then(|| relative.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::{Builder, Header};

    use super::*;

    fn header(kind: EntryType, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o4777);
        header
    }

    /// A bundle with one entry whose name is written as it is, which `tar` would refuse.
    fn bundle(kind: EntryType, name: &str, content: &[u8]) -> tempfile::NamedTempFile {
        let mut header = header(kind, content.len());
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        if kind == EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = Builder::new(file.as_file_mut());
        builder.append(&header, content).unwrap();
        builder.finish().unwrap();
        drop(builder);
        file
    }

    fn open(
        bundle: &tempfile::NamedTempFile,
        limits: &FetchLimits,
    ) -> Result<tempfile::TempDir, String> {
        let into = tempfile::tempdir().unwrap();
        unpack(bundle.path(), into.path(), limits).map(|()| into)
    }

    #[test]
    fn files_and_directories_come_out_with_masked_modes() {
        let bundle = bundle(EntryType::Regular, "roles/x/tasks/main.yml", b"- debug:\n");
        assert_eq!(kind_of(bundle.path()).unwrap(), Kind::Tar);
        let into = open(&bundle, &FetchLimits::default()).unwrap();
        let path = into.path().join("roles/x/tasks/main.yml");
        assert_eq!(fs::read(&path).unwrap(), b"- debug:\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(entry_in(into.path(), "roles/x/tasks/main.yml").is_some());
        for entry in ["site.yml", "../x", "roles", "/etc/passwd", "-e"] {
            assert!(entry_in(into.path(), entry).is_none(), "{entry}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let limits = FetchLimits { opened_bytes: 10, ..FetchLimits::default() };
        for (kind, name, content, told) in [
            (EntryType::Regular, "../evil.yml", &b"x"[..], "outside"),
            (EntryType::Regular, "a/../../evil.yml", b"x", "outside"),
            (EntryType::Regular, "/abs.yml", b"x", "outside"),
            (EntryType::Symlink, "link", b"", "neither"),
            (EntryType::Link, "link", b"", "neither"),
            (EntryType::Fifo, "pipe", b"", "neither"),
            (EntryType::Regular, "big.yml", b"01234567890", "more than 10 bytes"),
        ] {
            let error = open(&bundle(kind, name, content), &limits).unwrap_err();
            assert!(error.contains(told), "{name}: {error}");
        }
        let none = FetchLimits { entries: 0, ..FetchLimits::default() };
        assert!(
            open(&bundle(EntryType::Directory, "a", b""), &none).unwrap_err().contains("entries")
        );
    }

    fn gzip(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let level = flate2::Compression::best();
        let mut packer = flate2::write::GzEncoder::new(file.as_file(), level);
        packer.write_all(content).unwrap();
        packer.finish().unwrap();
        file
    }

    #[test]
    fn a_compressed_bundle_is_opened_within_the_same_limits() {
        let plain = bundle(EntryType::Regular, "site.yml", b"- debug:\n");
        let packed = gzip(&fs::read(plain.path()).unwrap());
        assert_eq!(kind_of(packed.path()).unwrap(), Kind::Gzip);
        let into = open(&packed, &FetchLimits::default()).unwrap();
        assert_eq!(fs::read(into.path().join("site.yml")).unwrap(), b"- debug:\n");

        let limits = FetchLimits { opened_bytes: 10, entries: 2, ..FetchLimits::default() };
        let large = bundle(EntryType::Regular, "big.yml", &[b'x'; 11]);
        let large = gzip(&fs::read(large.path()).unwrap());
        assert!(open(&large, &limits).unwrap_err().contains("more than 10 bytes"));
        // A long name is no entry's content, and still not read without end.
        let bomb = bundle(EntryType::GNULongName, "x", &vec![b'n'; 1 << 20]);
        let bomb = gzip(&fs::read(bomb.path()).unwrap());
        assert!(open(&bomb, &limits).is_err());
        let cut = fs::read(packed.path()).unwrap();
        packed.as_file().set_len(cut.len() as u64 - 20).unwrap();
        assert!(open(&packed, &FetchLimits::default()).is_err());
    }

    #[test]
    fn a_cut_off_bundle_is_refused() {
        let whole = bundle(EntryType::Regular, "a.yml", &[b'x'; 4000]);
        let mut cut = tempfile::NamedTempFile::new().unwrap();
        cut.write_all(&fs::read(whole.path()).unwrap()[..1500]).unwrap();
        assert!(open(&cut, &FetchLimits::default()).is_err());
    }
}
