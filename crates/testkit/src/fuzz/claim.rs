//! Claims of texts that are not kept: any bytes give words that may be counted, and the words of a text come back.

use memdb::{
    base::hash::WordHasher,
    base::limits::MAX_WORD_BYTES,
    data::counts::word_counts::WordCounts,
    data::posts::{claim_words, count_words, encode_claim},
    text::tokenizer::Analyzer,
};
use std::collections::BTreeMap;

const HASHER: WordHasher = WordHasher::new(1);

/// The first byte: a claim as it lies in a file, or a text.
pub fn claim(data: &[u8]) {
    let Some((&which, rest)) = data.split_first() else { return };
    if which.is_multiple_of(2) { any_bytes(rest) } else { text(&String::from_utf8_lossy(rest)) }
}

fn any_bytes(bytes: &[u8]) {
    let words = claim_words(bytes);
    assert_eq!(words, as_documented(bytes), "{bytes:?}");
    let mut counts = WordCounts::new(HASHER);
    for (word, count) in &words {
        assert!((1..=MAX_WORD_BYTES).contains(&word.len()) && *count > 0, "{word:?} {count}");
        if counts.add(word, *count).is_err() {
            return; // no text has as many
        }
    }
    if !words.is_empty() {
        super::accepted();
    }
    comes_back(&counts);
}

fn text(text: &str) {
    let mut counts = WordCounts::new(HASHER);
    count_words(Analyzer::Standard, text, &mut counts);
    if !counts.is_empty() {
        super::accepted();
    }
    comes_back(&counts);
}

/// The claim of these counts is that of their words in order, and each of its fronts of the first of them.
fn comes_back(counts: &WordCounts) {
    let sorted: BTreeMap<&str, i64> = counts.iter().map(|counted| (counted.word, counted.amount)).collect();
    let expected: Vec<(String, i64)> = sorted.into_iter().map(|(word, count)| (word.to_owned(), count)).collect();
    let claim = encode_claim(counts);
    assert_eq!(claim_words(&claim), expected);
    for cut in (0..claim.len()).rev().take(64) {
        let front = claim_words(&claim[..cut]);
        assert!(front.len() < expected.len() && expected.starts_with(&front), "cut at {cut} of {claim:?}");
    }
}

/// The words of a claim, read by the head of `data/posts/claim.rs` and not by its code.
fn as_documented(bytes: &[u8]) -> Vec<(String, i64)> {
    let (mut words, mut at, mut word) = (Vec::new(), 0, Vec::new());
    while let [shared, less_one, ..] = bytes[at..] {
        let (shared, begins) = (usize::from(shared), at + 2);
        let ends = begins + usize::from(less_one) + 1;
        if shared > word.len() || ends > bytes.len() {
            break;
        }
        word = [&word[..shared], &bytes[begins..ends]].concat();
        let Some(last) = bytes[ends..].iter().position(|byte| byte & 0x80 == 0) else { break };
        let digits = bytes[ends..=ends + last].iter().rev();
        let count =
            digits.fold(0_u128, |count, digit| count.saturating_mul(128).saturating_add(u128::from(digit & 0x7f)));
        let (Ok(text), Ok(count @ 1..)) = (String::from_utf8(word.clone()), i64::try_from(count)) else { break };
        if last >= 10 || text.len() > MAX_WORD_BYTES {
            break;
        }
        words.push((text, count));
        at = ends + last + 1;
    }
    words
}
