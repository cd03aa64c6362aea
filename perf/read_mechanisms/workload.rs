//! What is counted and asked: words, records and reads that follow Zipf's law.
//!
//! The vocabulary comes in posts of [`POST_WORDS`] words that are always counted together. So all words of a post
//! have the same count at every position, and a read of three of them that sees two counts has seen half a record.

use memdb::{base::hash::WordHasher, data::counts::word_counts::WordCounts};
use testkit::{Random, words::write_word};

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

/// The hasher all structures use.
pub fn hasher() -> WordHasher {
    WordHasher::new(SEED)
}

/// One pool of records and one of reads over a vocabulary.
pub struct Workload {
    /// Distinct words.
    pub words: u64,
    /// Records of [`RECORD_WORDS`] distinct words, every amount 1.
    pub records: Vec<WordCounts>,
    /// Three words of one post each.
    pub reads: Vec<[Box<str>; 3]>,
}

impl Workload {
    /// The workload over `words` distinct words.
    pub fn new(words: u64) -> Self {
        let posts = words / POST_WORDS;
        let mut numbers = Random::new(words);
        let records = (0..RECORDS).map(|_| record(&mut numbers, posts)).collect();
        let reads = (0..READS).map(|_| three_words(numbers.zipf(posts))).collect();
        Self { words, records, reads }
    }

    /// Records that count each word of the vocabulary once.
    pub fn load(&self) -> impl Iterator<Item = WordCounts> + use<> {
        let words = self.words;
        (0..words).step_by(RECORD_WORDS as usize).map(move |first| {
            let mut tally = WordCounts::new(hasher());
            add(&mut tally, first..(first + RECORD_WORDS).min(words));
            tally
        })
    }
}

fn record(numbers: &mut Random, posts: u64) -> WordCounts {
    let mut tally = WordCounts::new(hasher());
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

fn add(tally: &mut WordCounts, numbers: std::ops::Range<u64>) {
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
