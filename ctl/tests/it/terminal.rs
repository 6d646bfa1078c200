//! A terminal without a screen: the program at one end, the test at the other.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::Stdio,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

pub(crate) struct Terminal {
    ours: File,
    path: std::path::PathBuf,
    /// Held open, so that reading goes on while no program has it open.
    _theirs: File,
    unread: String,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())).to_owned();
        let theirs = File::options().read(true).write(true).open(&path).unwrap();
        Self { ours: ours.into(), path, _theirs: theirs, unread: String::new() }
    }

    /// The program's end, for one of its standard streams.
    pub(crate) fn end(&self) -> Stdio {
        File::options().read(true).write(true).open(&self.path).unwrap().into()
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        self.ours.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads on until this was shown; what comes after it is kept.
    pub(crate) fn read_until(&mut self, text: &str) {
        loop {
            if let Some(at) = self.unread.find(text) {
                self.unread.drain(..at + text.len());
                return;
            }
            let mut piece = [0; 1024];
            let count = self.ours.read(&mut piece).unwrap();
            self.unread.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }
}
