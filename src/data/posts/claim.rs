//! The claim of a text that is not kept: its words with their counts, as few bytes as they take.
//!
//! Words come in byte order, each as the bytes it shares with the word before it:
//!
//! ```text
//! bytes shared, 1 | bytes that follow less one, 1 | those bytes | count, LEB128
//! ```

use crate::{base::limits::MAX_WORD_BYTES, data::counts::word_counts::WordCounts};

const _: () = assert!(MAX_WORD_BYTES <= 256);

/// Encodes the words of a text, each with its count.
///
/// # Panics
/// If a count is not positive, or a word is empty or longer than a word may be: nothing like it is counted in a text.
pub fn encode_claim(counts: &WordCounts) -> Vec<u8> {
    let mut words: Vec<(&str, i64)> = counts.iter().map(|counted| (counted.word, counted.amount)).collect();
    words.sort_unstable();
    let (mut bytes, mut before) = (Vec::new(), "");
    for (word, count) in words {
        assert!(count > 0 && !word.is_empty() && word.len() <= MAX_WORD_BYTES, "{word:?} {count}");
        let shared = before.bytes().zip(word.bytes()).take_while(|(a, b)| a == b).count().min(u8::MAX as usize);
        let rest = &word.as_bytes()[shared..];
        bytes.push(shared as u8);
        bytes.push((rest.len() - 1) as u8);
        bytes.extend_from_slice(rest);
        push_number(&mut bytes, count.unsigned_abs());
        before = word;
    }
    bytes
}

/// Gives each word of a claim with its count. Ends at bytes that are no claim.
pub(super) fn each_word(mut bytes: &[u8], mut each: impl FnMut(&str, i64)) {
    let mut word = Vec::new();
    while let Some(([shared, rest], behind)) = bytes.split_first_chunk::<2>() {
        let rest_bytes = usize::from(*rest) + 1;
        let (Some(rest), true) = (behind.get(..rest_bytes), usize::from(*shared) <= word.len()) else { return };
        word.truncate(usize::from(*shared));
        word.extend_from_slice(rest);
        let Some((count, behind)) = take_number(&behind[rest_bytes..]) else { return };
        let (Ok(text), Ok(count @ 1..)) = (str::from_utf8(&word), i64::try_from(count)) else { return };
        if text.len() > MAX_WORD_BYTES {
            return;
        }
        each(text, count);
        bytes = behind;
    }
}

/// The words of a claim with their counts, in order, for the fuzzer.
#[cfg(feature = "failpoints")]
pub fn claim_words(bytes: &[u8]) -> Vec<(String, i64)> {
    let mut words = Vec::new();
    each_word(bytes, |word, count| words.push((word.to_owned(), count)));
    words
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let digits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit: what is beyond 64 bits is no number, and not a smaller one.
        if at == 9 && digits > 1 {
            return None;
        }
        number |= digits << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::hash::WordHasher, data::posts::count_words, text::tokenizer::Analyzer};
    use std::collections::BTreeMap;

    fn counts(text: &str) -> WordCounts {
        let mut counts = WordCounts::new(WordHasher::new(1));
        count_words(Analyzer::Standard, text, &mut counts);
        counts
    }

    fn decoded(bytes: &[u8]) -> BTreeMap<String, i64> {
        let mut words = BTreeMap::new();
        each_word(bytes, |word, count| assert_eq!(words.insert(word.to_owned(), count), None));
        words
    }

    #[test]
    fn a_claim_gives_back_every_word_with_its_count() {
        let long = format!("{} {}", "é".repeat(128), "é".repeat(127));
        for text in ["", "a", "the cat and the catalogue", "北京 café CAFÉ", &"again ".repeat(300), &long] {
            let counts = counts(text);
            let expected: BTreeMap<String, i64> =
                counts.iter().map(|counted| (counted.word.to_owned(), counted.amount)).collect();
            assert_eq!(decoded(&encode_claim(&counts)), expected, "{text:?}");
        }
    }

    /// `docs/posts.md` states these bytes.
    #[test]
    fn a_claim_of_english_text_takes_as_many_bytes_a_word_as_the_docs_say() {
        let text = concat!(include_str!("../../../docs/guarantees.md"), include_str!("../../../docs/operating.md"));
        let words: Vec<&str> =
            text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        for (words_each, stated) in [(10, 6.7), (100, 4.3), (1_000, 2.1)] {
            let (mut bytes, mut occurrences) = (0, 0);
            for message in words.chunks_exact(words_each) {
                bytes += encode_claim(&counts(&message.join(" "))).len();
                occurrences += words_each;
            }
            let each = bytes as f64 / occurrences as f64;
            assert!((stated - 1.0..stated + 0.3).contains(&each), "{each:.2} bytes a word in messages of {words_each}");
        }
    }

    #[test]
    fn bytes_that_are_no_claim_end_the_walk() {
        let whole = encode_claim(&counts("one two three"));
        for len in 0..whole.len() {
            assert!(decoded(&whole[..len]).len() < 3, "cut at {len}");
        }
        let beyond = [&[0, 0, b'a'], &[0x81; 9][..], &[2]].concat();
        for wrong in [&[9, 0, b'a', 1][..], &[0, 0, 0xff, 1], &[0, 0, b'a', 0xff, 0xff], &[0, 0, b'a', 0], &beyond] {
            assert!(decoded(wrong).is_empty(), "{wrong:?}");
        }
        // A word of 255 bytes, and one that shares all of them and goes on for two.
        let long = [&[0, 254], &[b'a'; 255][..], &[1, 255, 1, b'b', b'b', 1]].concat();
        assert_eq!(decoded(&long).into_keys().map(|word| word.len()).collect::<Vec<_>>(), [255]);
    }
}
