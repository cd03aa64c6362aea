//! Clients: what they ask, how they name it, and how they repeat it when they do not know what became of it.

use crate::random::Random;
use memdb::{
    hash::{WordHasher, fingerprint},
    leader::AckLevel,
    tally::{Batch, Once, Tally, Verb},
};

/// Few words and namespaces, so that writes meet.
pub const WORDS: [&str; 8] = ["a", "the", "cat", "sat", "on", "mat", "größe", "北京"];
pub const NAMESPACES: [&str; 3] = ["words", "other", "third"];

/// Words that are in every post to a namespace whose counts only grow, so that both count the same.
pub const GROWING_WORDS: [&str; 2] = ["left", "right"];

/// One thing a client wants counted once, however often it asks.
#[derive(Clone, Debug)]
pub struct Wish {
    pub namespace: &'static str,
    pub verb: Verb,
    pub words: Vec<(&'static str, i64)>,
    pub once: Option<Once>,
    pub level: Option<AckLevel>,
    /// Attempts that are under way.
    pub open: usize,
    /// Whether it was acknowledged, by any attempt.
    pub acknowledged: bool,
    /// Whether an attempt ended without an answer that says what became of it.
    pub unknown: bool,
}

impl Wish {
    /// The batch a handler would make of it.
    pub fn batch(&self, hasher: WordHasher) -> Batch {
        let mut tally = Tally::new(hasher);
        let mut text = String::new();
        for (word, amount) in &self.words {
            tally.add(word, *amount).expect("one of them may be large");
            text += &format!("{word} {amount} ");
        }
        let verb = format!("{:?}", self.verb);
        Batch {
            namespace: self.namespace.into(),
            verb: self.verb,
            words: self.words.len() as u64,
            left_out: self.words.len() as u64 % 2,
            once: self.once.clone(),
            fingerprint: fingerprint(&[self.namespace.as_bytes(), verb.as_bytes(), text.as_bytes()]),
            tally,
        }
    }
}

/// All clients of a history, and all they ever wished.
pub struct Clients {
    random: Random,
    pub wishes: Vec<Wish>,
    /// The streams: name and next number.
    streams: Vec<(String, u64)>,
    level: usize,
    /// Namespaces to which clients only add.
    pub growing: &'static [&'static str],
}

impl Clients {
    pub fn new(mut random: Random) -> Self {
        let streams = (0..random.between(1, 3)).map(|at| (format!("stream-{at}"), 1)).collect();
        let level = random.below(100);
        Self { random, wishes: Vec::new(), streams, level, growing: &[] }
    }

    /// Whether clients only add to a namespace.
    pub fn grows(&self, namespace: &str) -> bool {
        self.growing.contains(&namespace)
    }

    /// What is asked next: something new, or something again.
    pub fn next(&mut self) -> usize {
        let named: Vec<usize> = (0..self.wishes.len()).filter(|&at| self.wishes[at].once.is_some()).collect();
        let unsettled: Vec<usize> = named.iter().copied().filter(|&at| !self.wishes[at].acknowledged).collect();
        match self.random.below(100) {
            0..30 if !unsettled.is_empty() => *self.random.pick(&unsettled),
            30..40 if !named.is_empty() => *self.random.pick(&named),
            40..44 if !named.is_empty() => {
                let at = *self.random.pick(&named);
                self.under_a_used_name(at)
            }
            _ => self.something_new(),
        }
    }

    /// Everything with a name that was never acknowledged, for the end of a history.
    pub fn unsettled(&self) -> Vec<usize> {
        (0..self.wishes.len()).filter(|&at| self.wishes[at].once.is_some() && self.wishes[at].unknown).collect()
    }

    fn under_a_used_name(&mut self, at: usize) -> usize {
        let once = self.wishes[at].once.clone();
        let fresh = self.something_new();
        self.wishes[fresh].once = once;
        if self.grows(self.wishes[fresh].namespace) {
            self.wishes[fresh].namespace = NAMESPACES[1]; // who is told that it counts must not be told of another
        }
        fresh
    }

    fn something_new(&mut self) -> usize {
        let random = &mut self.random;
        let verb = match random.below(100) {
            0..84 => Verb::Add,
            84..96 => Verb::RemoveWords,
            _ => Verb::DropNamespace,
        };
        let words = match verb {
            Verb::DropNamespace => Vec::new(),
            Verb::Add if random.percent(2) => vec![(*random.pick(&WORDS), i64::MAX / 3 * 2)], // two do not fit
            _ => (0..random.between(0, 6)).map(|_| (*random.pick(&WORDS), amount(random))).collect(),
        };
        let once = match random.below(100) {
            0..45 => Some(Once::Key(format!("key-{}", self.wishes.len()).into())),
            45..70 => {
                let at = random.below(self.streams.len());
                let (name, next) = &mut self.streams[at];
                *next += 1;
                Some(Once::Stream { name: name.as_str().into(), sequence: *next - 1 })
            }
            _ => None,
        };
        let level = match random.below(100) {
            at if at < self.level => Some(AckLevel::Disk),
            at if at % 3 == 0 => None,
            _ => Some(AckLevel::Leader),
        };
        let namespace = NAMESPACES[random.below(5).saturating_sub(2)];
        let (verb, words) = if self.grows(namespace) { (Verb::Add, only_adds(words)) } else { (verb, words) };
        // Equal by chance, name and all: then it is that one, sent again.
        let is_same =
            |wish: &Wish| (wish.namespace, wish.verb, &wish.words, &wish.once) == (namespace, verb, &words, &once);
        if let Some(same) = self.wishes.iter().position(is_same).filter(|_| once.is_some()) {
            return same;
        }
        self.wishes.push(Wish { namespace, verb, words, once, level, open: 0, acknowledged: false, unknown: false });
        self.wishes.len() - 1
    }

    /// A stream was told that it goes on with another number: its producer goes back to that one, or, if the server has
    /// forgotten the stream, begins another.
    pub fn gap(&mut self, name: &str, expected: u64) {
        if expected == 1 {
            let fresh = format!("stream-{}", self.wishes.len());
            if let Some(stream) = self.streams.iter_mut().find(|stream| stream.0 == name) {
                *stream = (fresh, 1);
            }
        }
    }
}

/// The same words, as a namespace takes them whose counts only grow.
fn only_adds(words: Vec<(&'static str, i64)>) -> Vec<(&'static str, i64)> {
    let words = words.into_iter().map(|(word, amount)| (word, amount.abs() % 1_000 + 1));
    words.chain(GROWING_WORDS.map(|word| (word, 1))).collect()
}

fn amount(random: &mut Random) -> i64 {
    match random.below(100) {
        0..80 => 1,
        80..90 => random.between(2, 9) as i64,
        _ => -(random.between(1, 3) as i64),
    }
}
