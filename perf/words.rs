//! Words and numbers for measurements: as many as one likes, the same in every run.

/// A stream of pseudo-random numbers (splitmix64): the same in every run.
pub struct Numbers(u64);

impl Numbers {
    /// The stream that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A rank below `n` by Zipf's law with exponent 1: the logarithm of such a rank is uniform.
    pub fn zipf(&mut self, n: u64) -> u64 {
        self.zipf_with(n, 1.0)
    }

    /// A rank below `n` by Zipf's law with any exponent: the integral of the law, turned round.
    pub fn zipf_with(&mut self, n: u64, exponent: f64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let (end, power) = (n as f64 + 1.0, 1.0 - exponent);
        let rank = if power.abs() < 1e-9 {
            (end.ln() * uniform).exp()
        } else {
            ((end.powf(power) - 1.0) * uniform + 1.0).powf(power.recip())
        };
        (rank as u64).clamp(1, n) - 1
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
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
