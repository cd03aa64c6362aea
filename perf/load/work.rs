//! What is sent: texts by Zipf's law, made into requests before anything is measured.

use crate::{
    options::Options,
    speech::{Request, Speech},
};
use testkit::{Random, words::write_word};

/// Bytes of requests that a measurement goes round, at most: more than the processor's caches hold, so that texts come
/// as fresh as from a network.
const POOL_BYTES: usize = 96 << 20;
/// Requests in the pool, at most.
const POOL_REQUESTS: usize = 1 << 16;

/// A kind of request.
#[derive(Clone, Copy)]
pub enum Work {
    /// The counts of so many words.
    Read(usize),
    /// A text of so many words.
    Post(usize),
    /// So many texts of so many words, a line each, in one body: `POST /bulk`. To Redis all of them added up
    /// beforehand.
    Bulk(usize, usize),
    /// This very path.
    Get,
}

impl Work {
    /// Reads `read:1`, `post:10`, `bulk:150:1000`, `get`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let name = parts.next()?;
        let numbers: Option<Vec<usize>> = parts.map(|part| part.parse().ok().filter(|&number| number > 0)).collect();
        match (name, &numbers?[..]) {
            ("read", &[words]) => Some(Self::Read(words)),
            ("post", &[words]) => Some(Self::Post(words)),
            ("bulk", &[texts, words]) => Some(Self::Bulk(texts, words)),
            ("get", []) => Some(Self::Get),
            _ => None,
        }
    }

    /// Words that a request counts.
    pub fn words(self) -> usize {
        match self {
            Self::Post(words) => words,
            Self::Bulk(texts, words) => texts * words,
            Self::Read(_) | Self::Get => 0,
        }
    }
}

/// A stream of texts, the same for the same seed.
pub struct Texts {
    numbers: Random,
    distinct: u64,
    exponent: f64,
    word: String,
}

impl Texts {
    /// Texts of the words the options say.
    pub fn new(options: &Options, seed: u64) -> Self {
        let numbers = Random::new(options.seed.wrapping_mul(1_000_003).wrapping_add(seed));
        Self { numbers, distinct: options.distinct, exponent: options.exponent, word: String::new() }
    }

    /// The next word.
    pub fn word(&mut self) -> &str {
        write_word(self.numbers.zipf_with(self.distinct, self.exponent), &mut self.word);
        &self.word
    }

    /// A text of so many words.
    pub fn text(&mut self, words: usize) -> String {
        let mut text = String::with_capacity(words * 12);
        for number in 0..words {
            if number > 0 {
                text.push(' ');
            }
            text.push_str(self.word());
        }
        text
    }

    fn request(&mut self, work: Work, speech: &Speech) -> Request {
        match work {
            Work::Read(words) => {
                let words: Vec<_> = (0..words).map(|_| self.word().to_owned()).collect();
                speech.read(words.iter().map(String::as_str))
            }
            Work::Post(words) => speech.post(&self.text(words)),
            Work::Bulk(texts, words) => {
                let lines: Vec<_> = (0..texts).map(|_| self.text(words)).collect();
                speech.post(&lines.join("\n"))
            }
            Work::Get => speech.get(),
        }
    }
}

/// Requests that are sent together: `depth` of them, in one write.
pub struct Batch {
    /// All of them.
    pub bytes: Vec<u8>,
    /// Replies to each.
    pub replies: Vec<usize>,
}

/// The batches that a measurement goes round.
pub fn batches(options: &Options) -> Vec<Batch> {
    let mut texts = Texts::new(options, 0);
    let (mut all, mut bytes, mut requests) = (Vec::new(), 0, 0);
    // Each connection begins elsewhere; a few more than there are connections, or they go in step.
    while requests < POOL_REQUESTS && (bytes < POOL_BYTES || all.len() < 4) {
        let mut batch = Batch { bytes: Vec::new(), replies: Vec::new() };
        for _ in 0..options.depth {
            let request = texts.request(options.work, &options.speech);
            batch.bytes.extend_from_slice(&request.bytes);
            batch.replies.push(request.replies);
        }
        (bytes, requests) = (bytes + batch.bytes.len(), requests + options.depth);
        all.push(batch);
    }
    all
}
