//! What is sent: texts by Zipf's law, made into requests before anything is measured.

use crate::{
    options::Options,
    speech::{Request, Speech},
};
use std::sync::atomic::{AtomicU32, Ordering};
use testkit::{Random, words::write_word};

/// Bytes of requests that a measurement goes round, at most: more than the processor's caches hold, so that texts come
/// as fresh as from a network.
const POOL_BYTES: usize = 96 << 20;
/// Requests in the pool, at most.
const POOL_REQUESTS: usize = 1 << 16;

/// Digits of an id that is told only when a request is sent.
pub const ID_DIGITS: usize = 16;

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
    /// A value of so many bytes under a key, which stands behind the path; to Redis a `SET`.
    Put(usize),
    /// The value of a key, which stands behind the path.
    Entry,
    /// The same where the client has the value, of so many bytes, and names its tag.
    Unchanged(usize),
    /// A document of so many words, under an id of its own: `POST /create`.
    Create(usize),
    /// An increment of a counter, whose key stands behind the path; to Redis an `INCR`.
    Increment,
}

impl Work {
    /// Reads `read:1`, `post:10`, `bulk:150:1000`, `get`, `put:1024`, `entry`, `unchanged:1024`, `create:10`,
    /// `increment`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let name = parts.next()?;
        let numbers: Option<Vec<usize>> = parts.map(|part| part.parse().ok().filter(|&number| number > 0)).collect();
        match (name, &numbers?[..]) {
            ("read", &[words]) => Some(Self::Read(words)),
            ("post", &[words]) => Some(Self::Post(words)),
            ("bulk", &[texts, words]) => Some(Self::Bulk(texts, words)),
            ("get", []) => Some(Self::Get),
            ("put", &[bytes]) => Some(Self::Put(bytes)),
            ("entry", []) => Some(Self::Entry),
            ("unchanged", &[bytes]) => Some(Self::Unchanged(bytes)),
            ("create", &[words]) => Some(Self::Create(words)),
            ("increment", []) => Some(Self::Increment),
            _ => None,
        }
    }

    /// What a request counts: words, or an increment.
    pub fn words(self) -> usize {
        match self {
            Self::Post(words) | Self::Create(words) => words,
            Self::Bulk(texts, words) => texts * words,
            Self::Increment => 1,
            Self::Read(_) | Self::Get | Self::Put(_) | Self::Entry | Self::Unchanged(_) => 0,
        }
    }
}

/// A key of 16 bytes.
pub fn key(number: u64) -> String {
    format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The value of a key: letters, which no two keys share.
pub fn value(number: u64, bytes: usize) -> String {
    let mut random = Random::new(number + 1);
    (0..bytes).map(|_| char::from(b'a' + random.below(26) as u8)).collect()
}

/// The document of `POST /create`. Its id is zeros, until it is sent.
pub fn document(text: &str) -> String {
    let id = "0".repeat(ID_DIGITS);
    format!(r#"{{"id":"{id}","title":"","content":"{text}","author":"bench-load"}}"#)
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

    fn number(&mut self) -> u64 {
        self.numbers.zipf_with(self.distinct, self.exponent)
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
            Work::Put(bytes) => {
                let number = self.number();
                speech.put(&key(number), &value(number, bytes))
            }
            Work::Entry => speech.entry(&key(self.number()), None),
            Work::Unchanged(bytes) => {
                let number = self.number();
                speech.entry(&key(number), Some(&value(number, bytes)))
            }
            Work::Create(words) => speech.create(&document(&self.text(words))),
            Work::Increment => speech.increment(self.word()),
        }
    }
}

/// Requests that are sent together: `depth` of them, in one write.
pub struct Batch {
    /// All of them.
    pub bytes: Vec<u8>,
    /// Replies to each.
    pub replies: Vec<usize>,
    /// The places of ids, each another one whenever it is sent.
    pub ids: Vec<usize>,
}

impl Batch {
    /// What is sent: the bytes, in `copy` if there are ids to be put in.
    pub fn to_send<'a>(&'a self, copy: &'a mut Vec<u8>) -> &'a [u8] {
        if self.ids.is_empty() {
            return &self.bytes;
        }
        copy.clear();
        copy.extend_from_slice(&self.bytes);
        self.ids.iter().for_each(|&at| copy[at..][..ID_DIGITS].copy_from_slice(new_id().as_bytes()));
        copy
    }
}

/// An id that nobody has had.
pub fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{:08x}{:08x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The batches that a measurement goes round.
pub fn batches(options: &Options) -> Vec<Batch> {
    let mut texts = Texts::new(options, 0);
    let (mut all, mut bytes, mut requests) = (Vec::new(), 0, 0);
    // Each connection begins elsewhere; a few more than there are connections, or they go in step.
    while requests < POOL_REQUESTS && (bytes < POOL_BYTES || all.len() < 4) {
        let mut batch = Batch { bytes: Vec::new(), replies: Vec::new(), ids: Vec::new() };
        for _ in 0..options.depth {
            let request = texts.request(options.work, &options.speech);
            batch.ids.extend(request.id.map(|at| batch.bytes.len() + at));
            batch.bytes.extend_from_slice(&request.bytes);
            batch.replies.push(request.replies);
        }
        (bytes, requests) = (bytes + batch.bytes.len(), requests + options.depth);
        all.push(batch);
    }
    all
}
