//! What the log of a host behind a Satellite is made of (decision 23). Pure.
//!
//! The log itself holds the text, and this is its table of contents: the pieces in their order, each
//! with its sequence, its length and a digest of its text. A piece that is there is known again; one
//! that comes late is put where it belongs; where one is missing, the contract's marker stands.

use std::{collections::HashSet, ops::Range};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::log::shortened;

/// What stands where sequences are missing: ten characters, no line end among them (contract §5.2).
pub const GAP: &str = r"\n\u2026\n";
/// What stands where a log would be longer than is kept.
pub const LEFT_OUT: &str = "\n[dispatcher: output is left out here]\n";
/// The most pieces that are told apart.
const MAX_SEGMENTS: usize = 512;
/// The most pieces without a sequence that a log takes, and the most that each may take, in bytes.
const MAX_LAST: usize = 16;
const MAX_LAST_BYTES: usize = 16 << 10;

/// Where a piece belongs: by sequence, those without one last; then by kind of event.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Place {
    /// The sequence; [`Place::LAST`] for none.
    pub sequence: i64,
    /// Updates, then the end of a host, then the end of the run.
    pub kind: u8,
}

impl Place {
    /// The sequence of what has none.
    pub const LAST: i64 = i64::MAX;

    /// Whether there is no sequence.
    pub const fn is_last(self) -> bool {
        self.sequence == Self::LAST
    }
}

/// What an event adds to the log of a host. One with a sequence counts even without text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Piece {
    /// Where it belongs.
    pub place: Place,
    /// What it adds.
    pub text: String,
}

/// What a part of a log is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
enum Content {
    /// One piece, with a digest of its text.
    #[serde(rename = "t")]
    Text(u64),
    /// Several pieces that are not told apart any more, and what stands between them.
    #[serde(rename = "s")]
    Several,
    /// [`LEFT_OUT`], for any number of pieces.
    #[serde(rename = "o")]
    LeftOut,
}

/// A part of a log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
struct Segment {
    #[serde(rename = "f")]
    first: i64,
    #[serde(rename = "l")]
    last: i64,
    #[serde(rename = "k")]
    kind: u8,
    #[serde(rename = "b")]
    bytes: usize,
    #[serde(rename = "c")]
    content: Content,
}

impl Segment {
    fn of(piece: &Piece) -> Self {
        let hash = digest(&SHA256, piece.text.as_bytes());
        let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
        Self {
            first: piece.place.sequence,
            last: piece.place.sequence,
            kind: piece.place.kind,
            bytes: piece.text.len(),
            content: Content::Text(u64::from_le_bytes(first)),
        }
    }

    /// Whether it stands for pieces that are not told apart, and what belongs there is among them.
    const fn covers(&self, place: Place) -> bool {
        match self.content {
            Content::Text(_) => false,
            Content::Several => place.sequence <= self.last && !place.is_last(),
            Content::LeftOut => self.first <= place.sequence && place.sequence <= self.last,
        }
    }

    const fn start(&self) -> Place {
        Place { sequence: self.first, kind: self.kind }
    }

    const fn has_sequence(&self) -> bool {
        self.first != Place::LAST
    }

    /// Whether something is missing in front of it.
    fn is_behind_gap(&self, before: Option<&Self>) -> bool {
        let expected = before.map_or(0, |before| before.last.saturating_add(1));
        self.has_sequence() && self.first > expected
    }
}

/// A part of a new log: a range of the old one, or new text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// Bytes of the old log.
    Old(Range<usize>),
    /// New text.
    New(String),
}

/// What becomes of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Edit {
    /// Nothing.
    Keep,
    /// This is added to its end.
    Append(String),
    /// It is put together anew.
    Rewrite(Vec<Part>),
}

impl Edit {
    /// Whether the old log must be read for it.
    #[must_use]
    pub fn needs_log(&self) -> bool {
        matches!(self, Self::Rewrite(parts)
            if parts.iter().any(|part| matches!(part, Part::Old(_))))
    }

    /// The new log in full, where it is put together anew.
    #[must_use]
    pub fn rewritten(&self, old: &str) -> Option<String> {
        let Self::Rewrite(parts) = self else { return None };
        let mut log = String::new();
        for part in parts {
            log.push_str(match part {
                Part::Old(range) => old.get(range.clone()).unwrap_or_default(),
                Part::New(text) => text,
            });
        }
        Some(log)
    }
}

/// A segment with its text, wherever that is.
struct Item {
    segment: Segment,
    parts: Vec<Part>,
}

impl Item {
    fn new(piece: Piece) -> Self {
        Self { segment: Segment::of(&piece), parts: vec![Part::New(piece.text)] }
    }

    fn left_out(first: i64, last: i64, kind: u8) -> Self {
        let content = Content::LeftOut;
        let segment = Segment { first, last, kind, bytes: LEFT_OUT.len(), content };
        Self { segment, parts: vec![Part::New(LEFT_OUT.to_owned())] }
    }

    /// What it counts for, where a limit is looked at.
    fn weight(&self) -> usize {
        if self.is_left_out() { 0 } else { self.segment.bytes }
    }

    fn is_left_out(&self) -> bool {
        self.segment.content == Content::LeftOut
    }
}

/// The table of contents of a log.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Contents {
    segments: Vec<Segment>,
}

impl Contents {
    /// Those of a log of that length that somebody else has written up to that sequence.
    #[must_use]
    pub fn foreign(sequence: Option<i64>, bytes: usize) -> Self {
        if sequence.is_none() && bytes == 0 {
            return Self::default();
        }
        let last = sequence.unwrap_or(-1);
        let whole = Segment { first: 0, last, kind: 0, bytes, content: Content::Several };
        Self { segments: vec![whole] }
    }

    /// How long the log is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let old = self.items();
        let gaps = gaps(&old).into_iter().filter(|gap| *gap).count();
        old.iter().map(|item| item.segment.bytes).sum::<usize>() + gaps * GAP.len()
    }

    /// Takes pieces into a log that may grow to about `cap` bytes. With `full`, those with a sequence
    /// are everything that the host has printed so far.
    pub fn take(&mut self, full: bool, pieces: Vec<Piece>, cap: usize) -> Edit {
        let hulls = self.segments.iter().filter(|part| !matches!(part.content, Content::Text(_)));
        let hulls: Vec<Segment> = hulls.filter(|_| !full).copied().collect();
        let (last, sequenced): (Vec<_>, Vec<_>) = pieces
            .into_iter()
            .filter(|piece| !hulls.iter().any(|hull| hull.covers(piece.place)))
            .partition(|piece| piece.place.is_last());
        let mut items = self.items();
        let mut known: HashSet<Segment> = self.segments.iter().copied().collect();
        if full {
            replace(&mut items, sequenced, cap);
        } else {
            let each = (cap / 4).max(1);
            for piece in sequenced {
                insert(&mut items, &mut known, piece, each);
            }
        }
        let mut room = items.iter().filter(|item| !item.segment.has_sequence()).count();
        room = MAX_LAST.saturating_sub(room);
        for piece in last.into_iter().filter(|piece| !piece.text.is_empty()) {
            if room > 0 && insert(&mut items, &mut known, piece, MAX_LAST_BYTES) {
                room -= 1;
            }
        }
        if !full {
            fit(&mut items, cap / 2);
            merge(&mut items, cap / 2);
        }
        let edit = self.edit(&items);
        self.segments = items.into_iter().map(|item| item.segment).collect();
        edit
    }

    /// The segments with their ranges of the log.
    fn items(&self) -> Vec<Item> {
        let mut end = 0;
        let mut before = None;
        let mut items = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let start = end + if segment.is_behind_gap(before) { GAP.len() } else { 0 };
            end = start + segment.bytes;
            items.push(Item { segment: *segment, parts: vec![Part::Old(start..end)] });
            before = Some(segment);
        }
        items
    }

    fn edit(&self, items: &[Item]) -> Edit {
        let old = self.segments.len();
        let stays = items.iter().map(|item| &item.segment).take(old).eq(self.segments.iter());
        let mut parts = Vec::new();
        for (item, gap) in items.iter().zip(gaps(items)).skip(if stays { old } else { 0 }) {
            if gap {
                parts.push(Part::New(GAP.to_owned()));
            }
            parts.extend(item.parts.iter().cloned());
        }
        if !stays {
            return Edit::Rewrite(parts);
        }
        let text = |part: Part| if let Part::New(text) = part { text } else { String::new() };
        let text: String = parts.into_iter().map(text).collect();
        if text.is_empty() { Edit::Keep } else { Edit::Append(text) }
    }
}

/// Before which items something is missing.
fn gaps(items: &[Item]) -> Vec<bool> {
    let before = std::iter::once(None).chain(items.iter().map(|item| Some(&item.segment)));
    items.iter().zip(before).map(|(item, before)| item.segment.is_behind_gap(before)).collect()
}

/// Puts a piece where it belongs: behind what has the same place and came before. `false`: it is
/// there. Pieces come by sequence, so that few of those that are there have to move.
fn insert(
    items: &mut Vec<Item>,
    known: &mut HashSet<Segment>,
    mut piece: Piece,
    most: usize,
) -> bool {
    if piece.text.len() > most {
        piece.text = shortened(&piece.text, most);
    }
    let new = Item::new(piece);
    if !known.insert(new.segment) {
        return false;
    }
    let place = new.segment.start();
    let at = items.partition_point(|item| item.segment.start() <= place);
    items.insert(at, new);
    true
}

/// Replaces all that has a sequence by what was printed up to a higher one.
fn replace(items: &mut Vec<Item>, mut sequenced: Vec<Piece>, cap: usize) {
    sequenced.sort_by_key(|piece| piece.place);
    let Some(last) = sequenced.iter().map(|piece| piece.place.sequence).max() else { return };
    let text: String = sequenced.into_iter().map(|piece| piece.text).collect();
    let text = shortened(&text, cap);
    let mut new = Item::new(Piece { place: Place { sequence: last, kind: 0 }, text });
    new.segment.first = 0;
    let rank = |segment: &Segment| match segment.content {
        Content::Text(digest) => (segment.last, segment.bytes, digest),
        // Whoever wrote it would not take the same sequence twice either.
        Content::Several | Content::LeftOut => (segment.last, usize::MAX, 0),
    };
    let old = items.iter().filter(|item| item.segment.has_sequence());
    if old.map(|item| rank(&item.segment)).max().is_some_and(|old| old >= rank(&new.segment)) {
        return;
    }
    items.retain(|item| !item.segment.has_sequence());
    items.insert(0, new);
}

/// Leaves out the middle of a log that has grown beyond twice that many bytes: what has more than
/// that in front of its end and more than that behind its start. Whatever comes later only moves
/// pieces towards the middle, so that the order in which they come makes no difference.
fn fit(items: &mut Vec<Item>, half: usize) {
    let cut = items.iter().any(Item::is_left_out);
    let all: usize = items.iter().map(Item::weight).sum();
    if !cut && all <= half.saturating_mul(2) {
        return;
    }
    let (mut before, mut passed) = (0_usize, false);
    let mut behind = all;
    let mut out = Vec::with_capacity(items.len());
    for item in items.iter() {
        before += item.weight();
        passed |= item.is_left_out();
        let head = !passed && before <= half;
        let tail = behind <= half && (passed || !cut);
        out.push(item.is_left_out() || !(head || tail));
        behind -= item.weight();
    }
    leave_out(items, &out);
}

/// Replaces those items, which stand beside each other, by a word that something is left out.
fn leave_out(items: &mut Vec<Item>, out: &[bool]) {
    let hull = items.iter().zip(out).filter(|(_, out)| **out).fold(None, |hull, (item, _)| {
        let Segment { first, last, kind, .. } = item.segment;
        let (from, to, of): (i64, i64, u8) = hull.unwrap_or((first, last, kind));
        Some((from.min(first), to.max(last), of))
    });
    let Some((first, last, kind)) = hull else { return };
    let at = out.iter().position(|out| *out).unwrap_or_default();
    let mut flags = out.iter();
    items.retain(|_| !flags.next().copied().unwrap_or_default());
    items.insert(at, Item::left_out(first, last, kind));
}

/// Keeps the number of segments bounded: the first ones become one that is not told apart any more,
/// and where that is not enough, the middle is left out.
fn merge(items: &mut Vec<Item>, half: usize) {
    if items.len() <= MAX_SEGMENTS {
        return;
    }
    let gaps = gaps(items);
    let (mut many, mut bytes) = (0, 0);
    for (item, gap) in items.iter().zip(&gaps).take(items.len() - MAX_SEGMENTS / 2) {
        let grown = bytes + item.segment.bytes + if *gap { GAP.len() } else { 0 };
        if item.is_left_out() || !item.segment.has_sequence() || grown > half {
            break;
        }
        (many, bytes) = (many + 1, grown);
    }
    let merged: Vec<Item> = items.drain(..many).collect();
    if let Some(last) = merged.last().map(|item| item.segment.last) {
        let mut parts = Vec::new();
        for (item, gap) in merged.into_iter().zip(gaps) {
            parts.extend(gap.then(|| Part::New(GAP.to_owned())));
            parts.extend(item.parts);
        }
        let segment = Segment { first: 0, last, kind: 0, bytes, content: Content::Several };
        items.insert(0, Item { segment, parts });
    }
    let surplus = items.len().saturating_sub(MAX_SEGMENTS);
    let out: Vec<bool> = (0..items.len())
        .map(|n| n > 0 && n <= surplus || items.get(n).is_some_and(Item::is_left_out))
        .collect();
    if surplus > 0 {
        leave_out(items, &out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAP: usize = 1 << 20;

    fn update(sequence: i64, text: &str) -> Piece {
        Piece { place: Place { sequence, kind: 0 }, text: text.to_owned() }
    }

    fn last(kind: u8, text: &str) -> Piece {
        Piece { place: Place { sequence: Place::LAST, kind }, text: text.to_owned() }
    }

    /// A log with its contents, as a store keeps them.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Log {
        text: String,
        contents: Contents,
    }

    impl Log {
        fn take(&mut self, full: bool, pieces: &[Piece], cap: usize) {
            let edit = self.contents.take(full, pieces.to_vec(), cap);
            match &edit {
                Edit::Keep => {}
                Edit::Append(text) => self.text.push_str(text),
                Edit::Rewrite(_) => {
                    let old = if edit.needs_log() { self.text.as_str() } else { "" };
                    self.text = edit.rewritten(old).unwrap();
                }
            }
            assert_eq!(self.contents.bytes(), self.text.len(), "{self:?}");
            let written = serde_json::to_string(&self.contents).unwrap();
            assert_eq!(serde_json::from_str::<Contents>(&written).unwrap(), self.contents);
        }

        fn of(full: bool, cap: usize, uploads: &[&[Piece]]) -> String {
            let mut log = Self::default();
            uploads.iter().for_each(|pieces| log.take(full, pieces, cap));
            log.text
        }
    }

    #[test]
    fn what_is_missing_is_marked_until_it_comes() {
        let mut log = Log::default();
        let marker = "\\n\\u2026\\n";
        assert_eq!(marker.len(), 10);
        for (piece, text) in [
            (update(2, "c"), format!("{marker}c")),
            (update(5, "f"), format!("{marker}c{marker}f")),
            (last(2, "end"), format!("{marker}c{marker}fend")),
            (update(2, "c"), format!("{marker}c{marker}fend")),
            (update(0, "a"), format!("a{marker}c{marker}fend")),
            (update(4, "e"), format!("a{marker}c{marker}efend")),
            (update(1, "b"), format!("abc{marker}efend")),
            (update(3, ""), "abcefend".to_owned()),
            (update(6, "g"), "abcefgend".to_owned()),
            (last(1, "host"), "abcefghostend".to_owned()),
            (last(2, "end"), "abcefghostend".to_owned()),
        ] {
            log.take(false, std::slice::from_ref(&piece), CAP);
            assert_eq!(log.text, text, "{piece:?}");
        }
    }

    #[test]
    fn the_same_sequence_stays_in_the_order_it_came() {
        let both = [update(1, "z"), update(1, "a"), update(0, "")];
        assert_eq!(Log::of(false, CAP, &[&both]), "za");
        assert_eq!(Log::of(false, CAP, &[&both, &both[1..], &both]), "za");
    }

    #[test]
    fn in_order_nothing_is_read_and_nothing_known_is_written() {
        let mut contents = Contents::default();
        for n in 0..2000 {
            let edit = contents.take(false, vec![update(n, "line\n")], CAP);
            assert!(edit == Edit::Append("line\n".to_owned()) || contents.segments.len() < 300);
        }
        assert!(contents.segments.len() <= MAX_SEGMENTS);
        assert_eq!(contents.bytes(), 10_000);
        for n in [0, 1000, 1999] {
            assert_eq!(contents.take(false, vec![update(n, "line\n")], CAP), Edit::Keep);
        }
    }

    #[test]
    fn everything_so_far_is_replaced_by_more() {
        let mut log = Log::default();
        for (pieces, text) in [
            (vec![update(1, "a")], "a"),
            (vec![update(3, "abc")], "abc"),
            (vec![update(2, "ab")], "abc"),
            (vec![update(3, "abc")], "abc"),
            (vec![last(2, "!")], "abc!"),
            (vec![update(5, "d"), update(4, "abc"), last(2, "!")], "abcd!"),
        ] {
            log.take(true, &pieces, CAP);
            assert_eq!(log.text, text, "{pieces:?}");
        }
    }

    #[test]
    fn what_another_program_wrote_stays() {
        let mut log = Log { text: "theirs".to_owned(), contents: Contents::foreign(Some(7), 6) };
        log.take(false, &[update(7, "x"), update(3, "y")], CAP);
        assert_eq!(log.text, "theirs");
        log.take(false, &[update(8, "ours")], CAP);
        assert_eq!(log.text, "theirsours");
        assert_eq!(Contents::foreign(None, 0), Contents::default());
        let mut log = Log { text: "x".to_owned(), contents: Contents::foreign(None, 1) };
        log.take(false, &[update(0, "y")], CAP);
        assert_eq!(log.text, "xy");
    }

    #[test]
    fn a_long_log_keeps_head_and_tail() {
        let pieces: Vec<Piece> = (0..5000).map(|n| update(n, &format!("{n:05}"))).collect();
        let log = Log::of(false, 100, &pieces.iter().map(std::slice::from_ref).collect::<Vec<_>>());
        let expected = format!(
            "00000000010000200003000040000500006000070000800009{LEFT_OUT}\
             04990049910499204993049940499504996049970499804999"
        );
        assert_eq!(log, expected);
        assert_eq!(Log::of(false, 100, &[&pieces]), expected);
        let long = Log::of(false, 100, &[&[update(0, &"x".repeat(1000))]]);
        assert!(long.contains("980 bytes are left out") || long.contains("976 bytes"), "{long}");
    }

    #[test]
    fn gaps_without_end_do_not_fill_memory() {
        let mut log = Log::default();
        for n in 0..1200 {
            log.take(false, &[update(n * 2, "x")], CAP);
        }
        assert!(log.contents.segments.len() <= MAX_SEGMENTS);
        assert!(
            log.text.starts_with(&format!("x{GAP}x")) && log.text.ends_with(&format!("{GAP}x"))
        );
        for n in 0..100 {
            log.take(false, &[last(2, &format!("{n}"))], CAP);
        }
        assert!(log.contents.segments.len() <= MAX_SEGMENTS + MAX_LAST);
    }

    #[test]
    fn many_pieces_at_once_take_no_time() {
        let all = [0, 1]
            .map(|step| (0..100_000).map(|n| update(n * step, &n.to_string())).collect::<Vec<_>>());
        for pieces in all {
            let mut contents = Contents::default();
            contents.take(false, pieces.clone(), CAP);
            assert!(contents.segments.len() <= MAX_SEGMENTS);
            contents.take(false, pieces, CAP);
            assert!(contents.segments.len() <= MAX_SEGMENTS);
        }
        let ends: Vec<Piece> = (0..100_000).map(|n| last(2, &n.to_string())).collect();
        let mut contents = Contents::default();
        contents.take(false, ends, CAP);
        assert_eq!(contents.segments.len(), MAX_LAST);
    }

    fn stream() -> impl Strategy<Value = Vec<Piece>> {
        let texts = proptest::collection::vec("[aä\n\u{1F600}]{0,12}", 0..24);
        (texts, "[a-c]{0,3}", "[a-c]{0,3}").prop_map(|(texts, host, run)| {
            let of = |(n, text): (usize, String)| update(n as i64, &text);
            let mut pieces: Vec<Piece> = texts.into_iter().enumerate().map(of).collect();
            pieces.extend([last(1, &host), last(2, &run)]);
            pieces
        })
    }

    proptest! {
        #[test]
        fn any_order_split_and_repetition_is_the_whole(
            stream in stream(),
            deliveries in proptest::collection::vec(
                proptest::collection::vec(any::<proptest::sample::Index>(), 0..8), 0..8),
            missing in any::<proptest::sample::Index>(),
            leave in any::<bool>(),
            cap in prop_oneof![Just(CAP), 20_usize..200],
        ) {
            // All of it or all but one, after any of it in any order and number.
            let missing = missing.index(stream.len());
            let there = |n: &usize| !leave || *n != missing;
            let whole: Vec<Piece> =
                (0..stream.len()).filter(there).map(|n| stream[n].clone()).collect();
            let mut mixed = Log::default();
            for delivery in &deliveries {
                let numbers = delivery.iter().map(|index| index.index(stream.len())).filter(there);
                let pieces: Vec<Piece> = numbers.map(|n| stream[n].clone()).collect();
                mixed.take(false, &pieces, cap);
            }
            for n in (0..stream.len()).rev().filter(there) {
                mixed.take(false, std::slice::from_ref(&stream[n]), cap);
            }
            prop_assert_eq!(&mixed.text, &Log::of(false, cap, &[&whole]));
            if cap == CAP && !leave {
                let plain: String = stream.iter().map(|piece| piece.text.as_str()).collect();
                prop_assert_eq!(&mixed.text, &plain);
            }
            mixed.take(false, &whole, cap);
            prop_assert_eq!(&mixed.text, &Log::of(false, cap, &[&whole]), "once more");
        }

        #[test]
        fn the_last_of_everything_so_far_stays(
            stream in stream(),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 1..8),
        ) {
            let lengths: Vec<usize> = order.iter().map(|index| index.index(stream.len()) + 1).collect();
            let uploads: Vec<&[Piece]> = lengths.iter().map(|length| &stream[..*length]).collect();
            let longest = &stream[..*lengths.iter().max().unwrap()];
            prop_assert_eq!(Log::of(true, CAP, &uploads), Log::of(true, CAP, &[longest]));
        }
    }
}
