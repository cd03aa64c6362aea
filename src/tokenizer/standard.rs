//! The analyzer `standard`: words by ICU's boundaries, ASCII by the fast lane.
//!
//! Text is put in NFC, segmented, and each segment that holds a letter or digit is folded. The order is chosen:
//!
//! - NFC before: `café` with one `é` or with `e` and an accent is the same text from here on, so it counts the same also
//!   where a dictionary looks at single characters (Japanese `が` in one or two parts).
//! - NFKC only after: the dictionaries know words as people write them. NFKC takes Thai `ำ` and Lao `ຳ` apart, and
//!   `น้ำ` (water) would no longer be found.
//! - A segment stays one word whatever folding makes of it. `ﷺ` becomes four words with spaces between; they were
//!   written as one, are counted as one, and are found by asking for `ﷺ` or for the four, because names in reads are
//!   folded and never segmented.
//! - Whether a segment is a word is decided on what was written and holds for what it became: `™` and `🈁` are
//!   symbols, not the words `tm` and `ココ`. ICU's own word types are not used: they are wrong after combining marks.

use super::traits::is_word;
use super::{ascii, fold};
use icu_segmenter::options::WordBreakInvariantOptions;
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed};
use std::sync::LazyLock;

/// Dictionaries, not the neural model of `new_auto`: that runs Thai at 0.5 MB/s, which is an attack.
static SEGMENTER: LazyLock<WordSegmenterBorrowed<'static>> =
    LazyLock::new(|| WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()));

/// See [`super::Analyzer::words_within`].
pub(super) fn words_within(text: &str, max_bytes: usize, each: impl FnMut(&str)) -> u64 {
    let mut words = Words::new(max_bytes, each);
    let mut rest = text;
    while !rest.is_empty() {
        let (plain, after) = rest.split_at(plain_bytes(rest.as_bytes()));
        let (rich, after) = after.split_at(rich_bytes(after.as_bytes()));
        ascii::words(plain, &mut words);
        segment(rich, &mut words);
        rest = after;
    }
    words.left_out
}

/// Gives the words of any text, by ICU alone. What [`words_within`] must equal on every text.
pub(super) fn segment(text: &str, words: &mut Words<impl FnMut(&str)>) {
    if text.is_empty() {
        return;
    }
    let text = fold::compose(text);
    let mut start = 0;
    for end in SEGMENTER.segment_str(&text) {
        words.give(&text[start..end]);
        start = end;
    }
}

/// Where words go: folded, the long ones left out.
pub(super) struct Words<F> {
    max_bytes: usize,
    each: F,
    left_out: u64,
    /// The lower-case form of the text at hand, so that a word costs no allocation.
    pub(super) lower: String,
}

impl<F: FnMut(&str)> Words<F> {
    pub(super) fn new(max_bytes: usize, each: F) -> Self {
        Self { max_bytes, each, left_out: 0, lower: String::new() }
    }

    /// Takes a word that is folded.
    #[inline]
    pub(super) fn give_folded(&mut self, word: &str) {
        if word.len() > self.max_bytes {
            self.left_out += 1;
        } else {
            (self.each)(word);
        }
    }

    /// Takes what lies between two boundaries, if it is a word.
    fn give(&mut self, segment: &str) {
        // A mark after a space stands in one segment with it. The space is no part of a word, and without it the
        // segment is what it is when the text begins with the mark: this makes cutting at spaces right.
        let segment = segment.trim_start();
        if !is_word(segment) {
            return;
        }
        if segment.len() / fold::MOST_SHRINKING > self.max_bytes {
            self.left_out += 1;
            return;
        }
        let word = fold::fold(segment);
        if word.len() > self.max_bytes {
            self.left_out += 1;
        } else {
            (self.each)(&word);
        }
    }
}

/// How many bytes at the start hold ASCII tokens only, with the white space after them.
///
/// Nothing joins across ASCII white space, so both sides of it can be cut apart; the tests hold that equal to ICU over
/// the whole.
fn plain_bytes(text: &[u8]) -> usize {
    const CHUNK: usize = 64;
    let ascii_chunks = text.chunks(CHUNK).take_while(|chunk| chunk.is_ascii()).count();
    let seen = (ascii_chunks * CHUNK).min(text.len());
    match text[seen..].iter().position(|byte| !byte.is_ascii()) {
        None => text.len(),
        Some(more) => text[..seen + more].iter().rposition(|&byte| is_space(byte)).map_or(0, |space| space + 1),
    }
}

/// How many bytes at the start hold tokens each of which has a character beyond ASCII, with the white space between.
fn rich_bytes(text: &[u8]) -> usize {
    let mut rich = 0;
    loop {
        let spaces = text[rich..].iter().take_while(|&&byte| is_space(byte)).count();
        let token = &text[rich + spaces..];
        let token = &token[..token.iter().take_while(|&&byte| !is_space(byte)).count()];
        if token.is_ascii() {
            return rich;
        }
        rich += spaces + token.len();
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}
