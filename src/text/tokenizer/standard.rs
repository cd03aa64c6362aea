//! The analyzer `standard`: words by ICU's boundaries, ASCII by the fast path.
//!
//! Text is put in NFC, segmented, and each segment that holds a letter or digit is folded. The order is chosen:
//!
//! - NFC before: `café` with one `é` or with `e` and an accent is the same text from here on, so it counts the same
//!   also where a dictionary looks at single characters (Japanese `が` in one or two parts).
//! - NFKC only after: the dictionaries know words as people write them. NFKC takes Thai `ำ` and Lao `ຳ` apart, and
//!   `น้ำ` (water) would no longer be found.
//! - What folding makes a space or a sign of separates all the same: version 2 writes out what becomes white space
//!   before it looks for boundaries (`ﷺ` is four words), and looks for them again in what folding brought a sign into
//!   (`⒈` is `1`, not `1.`). In version 1 a segment stays one word whatever folding makes of it.
//! - Whether a segment is a word is decided on what was written and holds for what it became: `™` and `🈁` are
//!   symbols, not the words `tm` and `ココ`. ICU's own word types are not used: they are wrong after combining marks.

use super::traits::{CharTraits, is_letter_or_digit, is_word};
use super::word_sink::{StandardVersion, WordSink};
use super::{ascii, normalize, version2};
use icu_segmenter::options::WordBreakInvariantOptions;
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed};
use std::sync::LazyLock;

/// Dictionaries, not the neural model of `new_auto`: that runs Thai at 0.5 MB/s, which is an attack.
static SEGMENTER: LazyLock<WordSegmenterBorrowed<'static>> =
    LazyLock::new(|| WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()));

/// See [`super::Analyzer::words_within`].
pub(super) fn words_within(version: StandardVersion, text: &str, max_bytes: usize, each: impl FnMut(&str)) -> u64 {
    let mut words = WordSink::new(version, max_bytes, each);
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
pub(super) fn segment(text: &str, words: &mut WordSink<impl FnMut(&str)>) {
    if text.is_empty() {
        return;
    }
    match words.version {
        StandardVersion::One => each_segment(&normalize::compose(text), |segment| words.give_v1(segment)),
        StandardVersion::Two => each_segment(&version2::prepare(text), |segment| words.give(segment)),
    }
}

/// Calls `each` with what lies between every two boundaries.
fn each_segment(text: &str, mut each: impl FnMut(&str)) {
    let mut start = 0;
    for end in SEGMENTER.segment_str(text) {
        each(&text[start..end]);
        start = end;
    }
}

impl<F: FnMut(&str)> WordSink<F> {
    /// Takes what lies between two boundaries, if it is a word.
    fn give(&mut self, segment: &str) {
        // The underscores first, so that a word is as long as what is left of it.
        let segment = version2::trim(segment.trim_start());
        if !is_word(segment) {
            return;
        }
        if CharTraits::of_all(segment).has(CharTraits::WHOLE) {
            if self.is_surely_too_long(segment) {
                self.left_out += 1;
            } else {
                self.give_part(&version2::normalize(segment));
            }
        } else {
            each_segment(&version2::normalize(segment), |part| self.give_part(part));
        }
    }

    /// Takes a part of a folded segment. A vowel sign behind a dash stands in one segment with it: the dash is no part
    /// of the word.
    fn give_part(&mut self, part: &str) {
        let part = version2::trim(part.trim_start_matches(|char| !is_letter_or_digit(char)));
        if !part.is_empty() {
            self.push_normalized(part);
        }
    }

    /// Takes what lies between two boundaries, if it is a word under version 1.
    fn give_v1(&mut self, segment: &str) {
        // A mark after a space stands in one segment with it. The space is no part of a word, and without it the
        // segment is what it is when the text begins with the mark: this makes cutting at spaces right.
        let segment = segment.trim_start();
        if !is_word(segment) {
            return;
        }
        if self.is_surely_too_long(segment) {
            self.left_out += 1;
        } else {
            self.push_normalized(&normalize::normalize(segment));
        }
    }

    fn is_surely_too_long(&self, segment: &str) -> bool {
        segment.len() / normalize::MOST_SHRINKING > self.max_bytes
    }
}

/// Counts the bytes at the start that hold ASCII tokens only, with the white space after them.
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

/// Counts the bytes at the start that hold tokens with a character beyond ASCII each, with the white space between.
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
