//! Cuts a body into blocks of whole lines, keeps the running hash over them, and skips what is done already.

use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits::BULK_BLOCK_BYTES,
};
use xxhash_rust::xxh3::Xxh3;

/// Capacity of a body's buffer once the body has proved large, in bytes.
const BLOCK_ROOM: usize = BULK_BLOCK_BYTES + BULK_BLOCK_BYTES / 8;

/// Lines that are counted together.
#[derive(Debug)]
pub(super) struct LineBlock {
    /// The lines, each with its line end.
    pub(super) bytes: Vec<u8>,
    /// Lines in front of them.
    pub(super) done: u64,
    /// Lines done with them.
    pub(super) upto: u64,
    /// The running hash in front of them.
    pub(super) so_far: u128,
    /// The running hash with them.
    pub(super) hash: u128,
    /// True if the first line was longer than allowed; its text is empty then.
    pub(super) first_too_long: bool,
    /// No line here is longer.
    pub(super) longest: usize,
}

/// The lines of a body as it comes. Holds a block and the longest line at most, whatever comes.
pub(super) struct LineReader {
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that the hash has already.
    hashed: usize,
    /// Bytes at the front of `buffer` in which the last line end is known.
    searched: usize,
    /// Behind the last line end in `searched` bytes; 0 if there is none.
    whole: usize,
    /// True if the line at hand is too long, so that it is thrown away as it comes.
    dropping: bool,
    first_too_long: bool,
    hash: Xxh3,
    lines: u64,
    so_far: u128,
    /// Lines that are done already, and the running hash over them; until they are past.
    skip: Option<(u64, u128)>,
    skipped: u64,
    /// A buffer that has served, for the next block.
    spare: Vec<u8>,
}

impl LineReader {
    /// The lines of a body that is counted as `parts` say: namespace and format. `limit` is the most bytes a line may
    /// have. `skip` lines are done already, with this running hash.
    pub(super) fn new(parts: &[&[u8]], limit: usize, skip: Option<(u64, u128)>) -> Self {
        let mut hash = Xxh3::new();
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let so_far = hash.digest128();
        Self {
            limit,
            buffer: Vec::new(),
            hashed: 0,
            searched: 0,
            whole: 0,
            dropping: false,
            first_too_long: false,
            hash,
            lines: 0,
            so_far,
            skip,
            skipped: 0,
            spare: Vec::new(),
        }
    }

    /// Lines that were done already.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Bytes it holds.
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Bytes of the lines that no block has yet.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Nothing comes for a while: no more memory is kept than what it holds takes.
    pub(super) fn rest(&mut self) {
        self.spare = Vec::new();
        self.buffer.shrink_to_fit();
    }

    /// Takes a buffer that is used no longer, unless an unusual block has made it large.
    pub(super) fn reuse(&mut self, spare: Vec<u8>) {
        if spare.capacity() <= BLOCK_ROOM {
            self.spare = spare;
        }
    }

    /// Takes what has come, of which there should not be more than [`BULK_BLOCK_BYTES`] before [`LineReader::block`] is
    /// asked.
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        if self.dropping {
            let end = memchr::memchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
            self.hash.update(&piece[..end]);
            if piece[..end].last() != Some(&b'\n') {
                return;
            }
            piece = &piece[end..];
            self.end_dropped();
        }
        // A large body has one whole block and what comes behind it, not the next power of two.
        if self.buffer.len() > BULK_BLOCK_BYTES / 2 && self.buffer.len() < BLOCK_ROOM {
            self.buffer.reserve_exact(BLOCK_ROOM - self.buffer.len());
        }
        self.buffer.extend_from_slice(piece);
    }

    /// The next block, once there is a large one; with `now`, whatever whole lines there are.
    pub(super) fn block(&mut self, now: bool) -> Result<Option<LineBlock>, ApiError> {
        loop {
            if self.buffer.len() < BULK_BLOCK_BYTES && !now {
                return Ok(None);
            }
            if let Some(at) = memchr::memrchr(b'\n', &self.buffer[self.searched..]) {
                self.whole = self.searched + at + 1;
            }
            self.searched = self.buffer.len();
            if self.whole == 0 {
                if self.buffer.len() > self.limit {
                    self.hash.update(&self.buffer);
                    self.buffer.clear();
                    (self.searched, self.dropping) = (0, true);
                }
                return Ok(None);
            }
            if let Some(block) = self.cut()? {
                return Ok(Some(block));
            }
        }
    }

    /// The last block: the body has ended, with or without a line end.
    ///
    /// # Errors
    /// If it ended before what is done already.
    pub(super) fn last(&mut self) -> Result<Option<LineBlock>, ApiError> {
        if self.dropping {
            self.hash.update(b"\n");
            self.end_dropped();
        } else if self.buffer.last().is_some_and(|&last| last != b'\n') {
            self.buffer.push(b'\n');
        }
        let is_empty = self.lines == 0 && self.buffer.is_empty();
        let block = self.block(true)?;
        match self.skip {
            _ if is_empty => Ok(None), // who sends nothing only asks
            Some((done, _)) => Err(another(&format!("the body ends after line {}, and {done} are done", self.lines))),
            None => Ok(block),
        }
    }

    fn end_dropped(&mut self) {
        // In its place stands an empty line, which the hash does not see.
        self.buffer.push(b'\n');
        (self.hashed, self.dropping, self.first_too_long) = (1, false, true);
    }

    /// Takes the whole lines out; `None` if all of them are done already.
    fn cut(&mut self) -> Result<Option<LineBlock>, ApiError> {
        let mut rest = std::mem::take(&mut self.spare);
        rest.clear();
        if self.whole >= BULK_BLOCK_BYTES / 2 {
            rest.reserve_exact(BLOCK_ROOM);
        }
        rest.extend_from_slice(&self.buffer[self.whole..]);
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.truncate(self.whole);
        (self.searched, self.whole) = (self.buffer.len(), 0);
        let hashed = std::mem::take(&mut self.hashed);
        let mut first_too_long = std::mem::take(&mut self.first_too_long);
        let (mut count, mut longest, mut from) = (0, 0, 0);
        for end in memchr::memchr_iter(b'\n', &bytes) {
            (count, longest, from) = (count + 1, longest.max(end - from), end + 1);
        }
        let (mut skipped, mut skipped_bytes) = (0, 0);
        if let Some((done, expected)) = self.skip {
            skipped = (done - self.lines).min(count);
            skipped_bytes = behind_line(&bytes, skipped);
            self.hash.update(&bytes[hashed.min(skipped_bytes)..skipped_bytes]);
            self.lines += skipped;
            self.skipped = self.lines;
            if self.lines < done {
                return Ok(None);
            }
            if self.hash.digest128() != expected {
                return Err(another(&format!("its first {done} lines are not those that are done")));
            }
            (self.skip, self.so_far) = (None, expected);
            first_too_long &= skipped == 0;
            if skipped == count {
                return Ok(None);
            }
        }
        self.hash.update(&bytes[hashed.max(skipped_bytes)..]);
        bytes.drain(..skipped_bytes);
        let (done, so_far) = (self.lines, self.so_far);
        self.lines += count - skipped;
        self.so_far = self.hash.digest128();
        Ok(Some(LineBlock { bytes, done, upto: self.lines, so_far, hash: self.so_far, first_too_long, longest }))
    }
}

/// Finds the start of the line that follows `lines` lines.
fn behind_line(bytes: &[u8], lines: u64) -> usize {
    match lines {
        0 => 0,
        lines => memchr::memchr_iter(b'\n', bytes).nth(lines as usize - 1).map_or(bytes.len(), |at| at + 1),
    }
}

fn another(what: &str) -> ApiError {
    let detail = format!("{what}: this is another text than the one that was begun under this Memdb-Stream");
    ApiError::new(ErrorKind::KeyReused, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The blocks of a body that comes in these pieces, flushed behind those in `flushed`.
    fn blocks(
        pieces: &[&[u8]],
        limit: usize,
        skip: Option<(u64, u128)>,
        flush: bool,
    ) -> Result<Vec<LineBlock>, ApiError> {
        let mut lines = LineReader::new(&[b"words"], limit, skip);
        let mut all = Vec::new();
        for piece in pieces {
            lines.push(piece);
            while let Some(block) = lines.block(flush)? {
                all.push(block);
            }
        }
        all.extend(lines.last()?);
        assert!(lines.last()?.is_none(), "nothing is left");
        Ok(all)
    }

    fn hash_at(text: &[u8], lines: u64) -> u128 {
        let whole = blocks(&[&text[..behind_line(text, lines)]], 1 << 20, None, false).expect("no skip");
        whole.last().expect("at least a line").hash
    }

    #[test]
    fn a_line_that_is_too_long_leaves_an_empty_one_and_the_same_hash() {
        let long = "x".repeat(100);
        let text = format!("a\n{long}\nb\n");
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
        let cut = blocks(&pieces, 20, None, true).expect("no skip");
        assert!(cut.iter().all(|block| block.bytes.len() < 100));
        let long = cut.iter().find(|block| block.first_too_long).expect("it was found");
        assert_eq!((long.bytes[0], long.done), (b'\n', 1));
        let last = cut.last().expect("some");
        assert_eq!((last.upto, last.hash), (3, hash_at(text.as_bytes(), 3)));
    }

    #[test]
    fn another_text_or_a_shorter_one_is_refused() {
        let done = Some((2, hash_at(b"a\nb\n", 2)));
        assert_eq!(blocks(&[b"a\nb\nc\n"], 99, done, false).expect("it goes on").len(), 1);
        assert_eq!(blocks(&[b"a\nb\n"], 99, done, false).expect("all is done").len(), 0);
        assert_eq!(blocks(&[b"a\nb"], 99, done, false).expect("all is done, without a line end").len(), 0);
        for other in [b"a\nc\nc\n".as_slice(), b"a\n", b"a\n\nb\n", b"a\nbc"] {
            assert!(blocks(&[other], 99, done, false).is_err(), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn however_it_comes_the_lines_and_hashes_are_the_same(
            text in "([a-c ]{0,6}\n){0,12}[a-c]{0,3}", cuts in prop::collection::vec(0usize..90, 0..8), flush: bool,
            done in 0u64..12,
        ) {
            let text = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let total = memchr::memchr_iter(b'\n', text).count() as u64 + u64::from(text.last().is_some_and(|&last| last != b'\n'));
            let done = done.min(total);
            let skip = (done > 0).then(|| (done, hash_at(text, done)));
            let cut = blocks(&pieces, 1_000, skip, flush).expect("it is the same text");
            let mut expected = text[behind_line(text, done)..].to_vec();
            if expected.last().is_some_and(|&last| last != b'\n') {
                expected.push(b'\n');
            }
            prop_assert_eq!(cut.iter().flat_map(|block| block.bytes.clone()).collect::<Vec<u8>>(), expected);
            let mut at = (done, skip.map(|(_, hash)| hash));
            for block in &cut {
                prop_assert_eq!(block.done, at.0);
                prop_assert!(at.1.is_none_or(|hash| hash == block.so_far));
                prop_assert_eq!(block.hash, hash_at(text, block.upto));
                at = (block.upto, Some(block.hash));
            }
            prop_assert_eq!(at.0, total);
        }
    }
}
