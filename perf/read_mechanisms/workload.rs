//! What is counted and asked: words, records and reads that follow Zipf's law.
//!
//! The vocabulary comes in posts of [`POST_WORDS`] words that are always counted together. So all words of a post
//! have the same count at every position, and a read of three of them that sees two counts has seen half a record.

use memdb::{hash::WordHasher, tally::Tally};

/// Words that are always counted together.
pub const POST_WORDS: u64 = 5;
/// Distinct words of a record.
pub const RECORD_WORDS: u64 = 1_000;
/// Records made beforehand; the writer goes round them.
const RECORDS: u64 = 256;
/// Reads made beforehand; the reader goes round them.
const READS: u64 = 1 << 16;
/// The hash's seed: any will do, the same for all.
const SEED: u64 = 0x6d_656d_6462;

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
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (((n as f64 + 1.0).ln() * uniform).exp() as u64).clamp(1, n) - 1
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

/// The hasher all structures use.
pub fn hasher() -> WordHasher {
    WordHasher::new(SEED)
}

/// One pool of records and one of reads over a vocabulary.
pub struct Workload {
    /// Distinct words.
    pub words: u64,
    /// Records of [`RECORD_WORDS`] distinct words, every amount 1.
    pub records: Vec<Tally>,
    /// Three words of one post each.
    pub reads: Vec<[Box<str>; 3]>,
}

impl Workload {
    /// The workload over `words` distinct words.
    pub fn new(words: u64) -> Self {
        let posts = words / POST_WORDS;
        let mut numbers = Numbers::new(words);
        let records = (0..RECORDS).map(|_| record(&mut numbers, posts)).collect();
        let reads = (0..READS).map(|_| three_words(numbers.zipf(posts))).collect();
        Self { words, records, reads }
    }

    /// Records that count each word of the vocabulary once.
    pub fn load(&self) -> impl Iterator<Item = Tally> + use<> {
        let words = self.words;
        (0..words).step_by(RECORD_WORDS as usize).map(move |first| {
            let mut tally = Tally::new(hasher());
            add(&mut tally, first..(first + RECORD_WORDS).min(words));
            tally
        })
    }
}

fn record(numbers: &mut Numbers, posts: u64) -> Tally {
    let mut tally = Tally::new(hasher());
    let mut word = String::new();
    while (tally.len() as u64) < RECORD_WORDS {
        let first = numbers.zipf(posts) * POST_WORDS;
        write_word(first, &mut word);
        if tally.get(hasher().hash(&word), &word).is_none() {
            add(&mut tally, first..first + POST_WORDS);
        }
    }
    tally
}

fn add(tally: &mut Tally, numbers: std::ops::Range<u64>) {
    let mut word = String::new();
    for number in numbers {
        write_word(number, &mut word);
        tally.add(&word, 1).expect("an amount of one fits");
    }
}

fn three_words(post: u64) -> [Box<str>; 3] {
    [0, 2, 4].map(|at| {
        let mut word = String::new();
        write_word(post * POST_WORDS + at, &mut word);
        word.into()
    })
}
