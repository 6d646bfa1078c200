//! The records of one run, in order, on disk: one JSON line each, appended only. The number of a
//! record is that of its line, counted from the spool's base.
//!
//! The spool is the queue between the playbook and the service: whatever the service does, the
//! playbook's output is here first, and nothing of it is held in memory.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use dispatcher_wire::event::{PLAYBOOK_ON_STATS, RunnerEvent};
use tokio::sync::watch;

/// How long written records may wait unseen while more are coming.
const PUBLISH_AFTER: Duration = Duration::from_millis(100);
/// How many bytes may wait unseen while more are coming.
const PUBLISH_BYTES: u64 = 256 * 1024;

/// How much of a spool can be read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Progress {
    /// Number of the record that comes next.
    pub(crate) next: u64,
    /// Length in bytes.
    pub(crate) bytes: u64,
    /// Whether nothing will be added.
    pub(crate) complete: bool,
}

/// A spool, open for appending.
#[derive(Debug)]
pub(crate) struct Spool {
    file: BufWriter<File>,
    written: Progress,
    published_at: Instant,
    progress: watch::Sender<Progress>,
    has_stats: bool,
}

impl Spool {
    /// Opens or creates a spool whose first line has this number; a torn last line is cut off.
    pub(crate) fn open(path: &Path, base: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let (mut whole, has_stats) = whole_lines(&file)?;
        file.set_len(whole.bytes)?;
        file.seek(SeekFrom::End(0))?;
        whole.next += base;
        Ok(Self {
            file: BufWriter::with_capacity(64 * 1024, file),
            written: whole,
            published_at: Instant::now(),
            progress: watch::Sender::new(whole),
            has_stats,
        })
    }

    /// Adds a record. It can be read after [`Spool::publish`], or soon when more are added.
    pub(crate) fn append(&mut self, event: &RunnerEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.has_stats |= event.event == PLAYBOOK_ON_STATS;
        self.written.next += 1;
        self.written.bytes += line.len() as u64;
        let unseen = self.written.bytes - self.progress.borrow().bytes;
        if unseen >= PUBLISH_BYTES || self.published_at.elapsed() >= PUBLISH_AFTER {
            self.publish()?;
        }
        Ok(())
    }

    /// Lets readers see everything that was added.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.published_at = Instant::now();
        let written = self.written;
        self.progress.send_if_modified(|seen| std::mem::replace(seen, written) != written);
        Ok(())
    }

    /// Makes everything durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.publish()?;
        self.file.get_ref().sync_data()
    }

    /// Says that nothing will be added, after making everything durable.
    pub(crate) fn complete(&mut self) -> io::Result<()> {
        self.written.complete = true;
        self.sync()
    }

    /// Forgets all records, which the service has, and counts from here.
    pub(crate) fn restart_at(&mut self, base: u64) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.written = Progress { next: base, bytes: 0, complete: false };
        self.sync()
    }

    /// Number of the record that comes next.
    pub(crate) const fn next(&self) -> u64 {
        self.written.next
    }

    /// Whether the playbook came to its own end.
    pub(crate) const fn has_stats(&self) -> bool {
        self.has_stats
    }

    /// Follows what can be read.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

/// What there is before a torn last line, and whether Ansible's last event is in it.
fn whole_lines(file: &File) -> io::Result<(Progress, bool)> {
    let needle = format!("{{\"event\":\"{PLAYBOOK_ON_STATS}\"");
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let (mut whole, mut has_stats, mut line) = (Progress::default(), false, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok((whole, has_stats));
        }
        has_stats |= line.starts_with(needle.as_bytes());
        whole.next += 1;
        whole.bytes += length as u64;
    }
}

/// Where the record so many lines after the first begins, as far as the spool goes.
pub(crate) fn offset_of(path: &Path, lines: u64) -> io::Result<Option<u64>> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let (mut offset, mut line) = (0, Vec::new());
    for _ in 0..lines {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        offset += length as u64;
    }
    Ok(Some(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> RunnerEvent {
        RunnerEvent { event: name.to_owned(), ..RunnerEvent::default() }
    }

    #[test]
    fn a_torn_last_line_is_cut_and_counting_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path, 5).unwrap();
        spool.append(&event("one")).unwrap();
        spool.append(&event(PLAYBOOK_ON_STATS)).unwrap();
        spool.sync().unwrap();
        assert_eq!((spool.next(), spool.has_stats()), (7, true));
        let whole = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"event\":\"to").unwrap();

        let mut spool = Spool::open(&path, 5).unwrap();
        assert_eq!((spool.next(), spool.has_stats()), (7, true));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
        spool.append(&event("three")).unwrap();
        spool.complete().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let names: Vec<RunnerEvent> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(names[2].event, "three");
        assert!(spool.subscribe().borrow().complete);
    }

    #[test]
    fn records_are_found_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        std::fs::write(&path, "a\nbb\nccc\n").unwrap();
        let offsets: Vec<_> = (0..=4).map(|lines| offset_of(&path, lines).unwrap()).collect();
        assert_eq!(offsets, [Some(0), Some(2), Some(5), Some(9), None]);
    }

    #[test]
    fn a_spool_restarts_where_the_service_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path, 0).unwrap();
        spool.append(&event("lost")).unwrap();
        spool.restart_at(40).unwrap();
        spool.append(&event("kept")).unwrap();
        spool.sync().unwrap();
        assert_eq!(spool.next(), 41);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("{\"event\":\"kept\""));
    }
}
