//! Words and numbers for measurements: as many as one likes, the same in every run.

use crate::random::{Random, mix};

impl Random {
    /// A rank below `n` by Zipf's law with exponent 1: the logarithm of such a rank is uniform.
    pub fn zipf(&mut self, n: u64) -> u64 {
        self.zipf_with(n, 1.0)
    }

    /// A rank below `n` by Zipf's law with any exponent: the integral of the law, turned round.
    pub fn zipf_with(&mut self, n: u64, exponent: f64) -> u64 {
        let uniform = (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let (end, power) = (n as f64 + 1.0, 1.0 - exponent);
        let rank = if power.abs() < 1e-9 {
            (end.ln() * uniform).exp()
        } else {
            ((end.powf(power) - 1.0) * uniform + 1.0).powf(power.recip())
        };
        (rank as u64).clamp(1, n) - 1
    }
}

/// Writes the `number`-th word into `word`: five letters that tell the number (so below 26^5 = 11.9 M), then 0 to 12
/// more; 10.8 bytes on average.
pub fn write_word(number: u64, word: &mut String) {
    word.clear();
    let mut left = number;
    for _ in 0..5 {
        word.push(letter(left));
        left /= 26;
    }
    let mut more = mix(number);
    for _ in 0..(more >> 32) % 126 / 10 {
        word.push(letter(more));
        more = more.rotate_right(5).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

fn letter(number: u64) -> char {
    char::from(b'a' + (number % 26) as u8)
}
