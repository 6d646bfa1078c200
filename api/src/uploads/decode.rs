//! Opens an archive of job events: gzip, xz or plain, told apart by their first bytes, line by line.
//!
//! Memory is bounded by one line and the decoder's own window; how far an archive may open is
//! bounded absolutely and in proportion to its size. A damaged or cut archive is invalid.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use liblzma::{
    bufread::XzDecoder,
    stream::{CONCATENATED, Stream},
};

use crate::config::uploads::Opening;

/// What an xz archive may make its decoder allocate: a window of 64 MiB (`xz -9`) and its state.
const XZ_MEMORY: u64 = 66 << 20;
/// Up to here an archive may open whatever its ratio: repetitive output packs very well.
const RATIO_FLOOR: u64 = 8 << 20;

/// Why the content of an upload is not acceptable; for people.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// A line that is not blank.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its index, from 0, blank lines counted.
    pub index: usize,
    /// Its content, without blanks around it.
    pub bytes: &'a [u8],
}

/// How large an archive turned out to be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Opened {
    /// Bytes when opened.
    pub bytes: u64,
    /// Pieces between line ends, an empty last one counted.
    pub pieces: usize,
}

/// Hands every line that is not blank to `take`, in order.
///
/// # Errors
/// When the archive is damaged, cut, opens too far, holds a line that is too long, or `take` refuses
/// a line.
pub fn each_line(
    archive: &[u8],
    opening: &Opening,
    mut take: impl FnMut(Line<'_>) -> Result<(), Invalid>,
) -> Result<Opened, Invalid> {
    let mut reader = BufReader::new(Bounded {
        inner: open(archive)?,
        read: 0,
        most: opening.max_bytes,
        most_by_ratio: (archive.len() as u64).saturating_mul(opening.max_ratio).max(RATIO_FLOOR),
    });
    let mut line = Vec::new();
    let mut index = 0;
    loop {
        line.clear();
        let mut limited = reader.by_ref().take(opening.max_line as u64 + 1);
        let read = limited.read_until(b'\n', &mut line).map_err(|error| unreadable(&error))?;
        let ended = line.last() == Some(&b'\n');
        if read > opening.max_line && !ended {
            let (number, most) = (index + 1, opening.max_line);
            return Err(Invalid(format!("line {number} is longer than {most} bytes")));
        }
        let bytes = line.trim_ascii();
        if !bytes.is_empty() {
            take(Line { index, bytes })?;
        }
        if !ended {
            return Ok(Opened { bytes: reader.get_ref().read, pieces: index + 1 });
        }
        index += 1;
    }
}

fn open(archive: &[u8]) -> Result<Box<dyn Read + '_>, Invalid> {
    if archive.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(archive)));
    }
    if archive.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        // Concatenated streams are one archive, as the xz tool itself reads them.
        let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
            .map_err(|error| Invalid(format!("xz cannot be opened: {error}")))?;
        return Ok(Box::new(XzDecoder::new_stream(archive, stream)));
    }
    Ok(Box::new(archive))
}

/// A limit that was crossed, told apart from damage.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OpensTooFar(String);

fn unreadable(error: &io::Error) -> Invalid {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<OpensTooFar>()) {
        Some(limit) => Invalid(limit.0.clone()),
        None => Invalid(format!("the archive is damaged or cut: {error}")),
    }
}

struct Bounded<R> {
    inner: R,
    read: u64,
    most: u64,
    most_by_ratio: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        let most = self.most;
        if self.read > most {
            let text = format!("it opens to more than {most} bytes");
            return Err(io::Error::other(OpensTooFar(text)));
        }
        if self.read > self.most_by_ratio {
            let text = "it opens to too many times its size".to_owned();
            return Err(io::Error::other(OpensTooFar(text)));
        }
        Ok(read)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    pub(in crate::uploads) const OPENING: Opening = Opening {
        max_bytes: 64 << 20,
        max_ratio: 500,
        max_line: 1 << 20,
        max_events: 1000,
        max_hosts: 10,
    };

    pub(in crate::uploads) fn gzip(content: &[u8]) -> Vec<u8> {
        packed(content, flate2::Compression::fast())
    }

    fn packed(content: &[u8], level: flate2::Compression) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    pub(in crate::uploads) fn xz(content: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(archive: &[u8]) -> Result<(Vec<(usize, String)>, Opened), Invalid> {
        let mut lines = Vec::new();
        let opened = each_line(archive, &OPENING, |line| {
            lines.push((line.index, String::from_utf8(line.bytes.to_vec()).unwrap()));
            Ok(())
        })?;
        Ok((lines, opened))
    }

    #[test]
    fn three_encodings_are_one_content() {
        let content = b"a\n\n  b \r\n\t\nc";
        let expected = vec![(0, "a".to_owned()), (2, "b".to_owned()), (4, "c".to_owned())];
        for archive in [content.to_vec(), gzip(content), xz(content)] {
            let (lines, opened) = lines(&archive).unwrap();
            assert_eq!(lines, expected);
            assert_eq!(opened, Opened { bytes: 12, pieces: 5 });
        }
        assert_eq!(lines(b"").unwrap().0, []);
        assert_eq!(lines(b"a\n").unwrap().1.pieces, 2);
    }

    #[test]
    fn members_and_streams_may_follow_each_other() {
        for pack in [gzip, xz] {
            let (lines, _) = lines(&[pack(b"a\nb"), pack(b"c\nd\n")].concat()).unwrap();
            assert_eq!(lines.len(), 3);
            assert_eq!(lines[1], (1, "bc".to_owned()));
        }
    }

    /// The same archive, which says by this code how large its window is.
    fn with_window(mut archive: Vec<u8>, code: u8) -> Vec<u8> {
        // Behind the stream's header: the block's, with one filter (LZMA2), ended by a checksum.
        let end = 12 + (usize::from(archive[12]) + 1) * 4;
        assert_eq!(archive[14..16], [0x21, 1]);
        archive[16] = code;
        let mut sum = flate2::Crc::new();
        sum.update(&archive[12..end - 4]);
        archive[end - 4..end].copy_from_slice(&sum.sum().to_le_bytes());
        archive
    }

    #[test]
    fn the_window_of_xz_has_64_mebibytes_at_most() {
        let archive = xz(b"a\nb\n");
        assert_eq!(lines(&with_window(archive.clone(), 28)).unwrap().0.len(), 2);
        let error = lines(&with_window(archive, 29)).unwrap_err().to_string();
        assert!(error.contains("damaged or cut"), "{error}");
    }

    #[test]
    fn damage_and_cuts_anywhere_are_invalid() {
        let content: Vec<u8> = (0..3000_u32).flat_map(u32::to_le_bytes).collect();
        for packed in [gzip(&content), xz(&content)] {
            for cut in 6..packed.len() {
                assert!(each_line(&packed[..cut], &OPENING, |_| Ok(())).is_err(), "{cut}");
            }
            let garbage = [packed, b"garbage".to_vec()].concat();
            assert!(each_line(&garbage, &OPENING, |_| Ok(())).is_err());
        }
        for head in [&b"\x1f\x8b"[..], b"\xfd7zXZ\0", b"\x1f\x8bgarbage", b"\xfd7zXZ\0garbage"] {
            let error = each_line(head, &OPENING, |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains("damaged or cut"), "{error}");
        }
    }

    #[test]
    fn bombs_are_refused_while_they_open() {
        let zeros = vec![b'\n'; 65 << 20];
        let ratio = xz(&zeros[..9 << 20]);
        for (archive, opening, why) in [
            (gzip(&zeros), OPENING, "more than 67108864 bytes"),
            (ratio.clone(), OPENING, "too many times"),
        ] {
            let error = each_line(&archive, &opening, |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        each_line(&ratio, &Opening { max_ratio: 100_000, ..OPENING }, |_| Ok(())).unwrap();
    }

    #[test]
    fn a_mebibyte_that_opens_to_a_gibibyte_is_refused() {
        let lines = [vec![b' '; 1023], vec![b'\n']].concat().repeat(1024);
        for (mebibyte, why) in
            [(lines, "more than 134217728 bytes"), (vec![b' '; 1 << 20], "line 1 is longer")]
        {
            let bomb = packed(&mebibyte, flate2::Compression::best()).repeat(1024);
            assert!(bomb.len() < 8 << 20);
            let opening =
                Opening { max_bytes: 128 << 20, max_line: 16 << 20, max_ratio: 2000, ..OPENING };
            let error = each_line(&bomb, &opening, |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_line_has_its_limit() {
        let fits = [vec![b'x'; 1 << 20], b"\ny\n".to_vec()].concat();
        assert_eq!(lines(&fits).unwrap().0.len(), 2);
        let error = lines(&[b"\n".to_vec(), vec![b'x'; (1 << 20) + 1]].concat()).unwrap_err();
        assert_eq!(error.0, "line 2 is longer than 1048576 bytes");
    }
}
