//! Texts that are sent in pieces, as a body in bulk is: which lines they have, and who sends which next.

use crate::client::{GROWING_WORDS, NAMESPACES, WORDS};
use memdb::{
    base::hash::{WordHasher, fingerprint},
    data::command::IdempotencyKey,
    data::counts::word_counts::{PartitionedCounter, WordCounts},
};
use std::{cell::RefCell, collections::BTreeSet, sync::LazyLock};
use testkit::Random;

/// Words of which a large batch has many.
static MANY: LazyLock<Vec<&'static str>> = LazyLock::new(|| (0..4_000).map(many).collect());

fn many(number: usize) -> &'static str {
    let long = if number.is_multiple_of(29) { "-and-longer-than-a-unit-of-the-arena" } else { "" };
    format!("w{number}{long}").leak()
}

thread_local!(static PARTS: RefCell<PartitionedCounter> = RefCell::default());

/// Some hundred words, most of them once.
pub fn many_words(random: &mut Random, most: usize) -> Vec<&'static str> {
    let first = random.below(MANY.len());
    let mut words: Vec<_> = (0..random.between(300, most)).map(|at| MANY[(first + at * 7) % MANY.len()]).collect();
    for _ in 0..random.below(20) {
        words.push(*random.pick(&words));
    }
    words.push(*random.pick(&WORDS[..6]));
    words
}

/// The words as a body in bulk is counted: in the order of their hashes, only to be gone through.
pub fn in_parts(words: &[(&str, i64)], hasher: WordHasher) -> WordCounts {
    let mut text = String::new();
    for (word, amount) in words {
        (0..*amount).for_each(|_| text.extend([word, " "]));
    }
    let mut tally = WordCounts::new(hasher);
    PARTS.with_borrow_mut(|parts| {
        text.split_terminator(' ').for_each(|word| parts.push(&text, hasher.hash(word), word));
        parts.count_into(&text, &mut tally);
    });
    tally
}

/// One who sends a text under a stream's name. Several may send the same.
pub struct Sender {
    name: String,
    /// Which text.
    text: u64,
    namespace: usize,
    /// Lines it believes to be done.
    done: u64,
}

/// Some lines of a text, one behind the other.
pub struct Piece {
    pub namespace: &'static str,
    pub words: Vec<(&'static str, i64)>,
    pub once: IdempotencyKey,
    /// The running hash up to its end.
    pub hash: u128,
}

pub struct Senders {
    senders: Vec<Sender>,
    names: usize,
}

impl Senders {
    pub fn new(random: &mut Random) -> Self {
        let mut senders = Vec::new();
        let texts = random.between(1, 2);
        for text in 0..texts as u64 {
            let namespace = random.below(5).saturating_sub(2);
            for _ in 0..random.between(1, 2) {
                senders.push(Sender { name: format!("lines-{text}"), text, namespace, done: 0 });
            }
        }
        Self { senders, names: texts }
    }

    /// What is sent next: most often the lines behind those that are done, sometimes others. In a wide text a line has
    /// some hundred words; `grows` says where clients only add.
    pub fn next(&mut self, random: &mut Random, wide: bool, grows: impl Fn(&str) -> bool) -> Piece {
        let at = random.below(self.senders.len());
        let Sender { name, text, namespace, done } = &mut self.senders[at];
        let namespace = NAMESPACES[*namespace];
        let (mut text, lines) = (*text, random.between(1, 3) as u64);
        let begin = match random.below(100) {
            // It begins before what is done.
            70..82 => done.saturating_sub(random.between(1, 3) as u64),
            // It comes too early.
            82..88 => *done + random.between(1, 2) as u64,
            88..91 => 0,
            // Another text under the same name.
            91..95 => {
                text += 100;
                *done
            }
            _ => {
                *done += lines;
                *done - lines
            }
        };
        let upto = begin + lines;
        let (wide, grows) = (wide && text % 2 == 0, grows(namespace));
        let words = (begin..upto).flat_map(|line| words_of(text, line, wide, grows)).map(|word| (word, 1)).collect();
        let once = IdempotencyKey::Lines {
            name: name.as_str().into(),
            done: begin,
            so_far: running(text, namespace, begin),
            upto,
            words: begin * 7,
            left_out: begin,
        };
        Piece { namespace, words, once, hash: running(text, namespace, upto) }
    }

    /// A stream stands elsewhere: who sends it goes on from there.
    pub fn stands_at(&mut self, stream: &str, lines: u64) {
        self.senders.iter_mut().filter(|sender| sender.name == stream).for_each(|sender| sender.done = lines);
    }

    /// Another text has a stream's name: who sends under it begins under another one.
    pub fn taken(&mut self, stream: &str) {
        let fresh = format!("lines-{}", self.names);
        self.names += 1;
        for sender in self.senders.iter_mut().filter(|sender| sender.name == stream) {
            (sender.name, sender.done) = (fresh.clone(), 0);
        }
    }
}

/// The lines of a stream that a piece has, by name.
pub fn lines_of(namespace: &str, once: &IdempotencyKey) -> BTreeSet<String> {
    match once {
        IdempotencyKey::Lines { name, done, upto, .. } => {
            (*done..*upto).map(|line| format!("line {line} of {name} of {namespace}")).collect()
        }
        _ => BTreeSet::new(),
    }
}

fn words_of(text: u64, line: u64, wide: bool, grows: bool) -> Vec<&'static str> {
    let mut random = Random::new(text << 32 | line);
    let mut words = if wide {
        many_words(&mut random, 500)
    } else {
        (0..random.between(0, 3)).map(|_| *random.pick(&WORDS)).collect()
    };
    if grows {
        words.extend(GROWING_WORDS);
    }
    words
}

fn running(text: u64, namespace: &str, lines: u64) -> u128 {
    if lines == 0 {
        return 0; // of no account
    }
    fingerprint(&[&text.to_le_bytes(), namespace.as_bytes(), &lines.to_le_bytes()])
}
