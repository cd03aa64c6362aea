//! The text that is counted.

use testkit::{Random, words::write_word};

const DISTINCT: usize = 1_000_000;
const EXPONENT: f64 = 1.07;
const WORDS_PER_TEXT: usize = 1_000;

/// Texts of a thousand words, a text a line.
pub fn zipf(count: usize) -> Vec<u8> {
    let mut upto = Vec::with_capacity(DISTINCT);
    let mut sum = 0.0;
    for rank in 1..=DISTINCT {
        sum += (rank as f64).powf(-EXPONENT);
        upto.push(sum);
    }
    let mut numbers = Random::new(7);
    let mut text = Vec::with_capacity(count * 12);
    let mut word = String::new();
    for at in 1..=count {
        let uniform = (numbers.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * sum;
        write_word(upto.partition_point(|&upto| upto < uniform) as u64, &mut word);
        text.extend_from_slice(word.as_bytes());
        text.push(if at % WORDS_PER_TEXT == 0 { b'\n' } else { b' ' });
    }
    text
}

/// Words of a text.
pub fn words(text: &[u8]) -> usize {
    memchr::memchr2_iter(b' ', b'\n', text).count()
}
