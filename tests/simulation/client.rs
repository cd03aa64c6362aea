//! Clients: what they ask, how they name it, and how they repeat it when they do not know what became of it.

use crate::{
    counters::CounterClients,
    entries::{Asked, EntryClients, EntryWish},
    texts::{self, Piece, Senders},
};
use memdb::{
    base::hash::{WordHasher, fingerprint},
    data::command::{IdempotencyKey, WriteBatch},
    data::counters::COUNTERS,
    data::counts::{WriteOp, word_counts::WordCounts},
    engine::leader::{AckLevel, WriteError},
};
use std::{collections::BTreeSet, fmt, sync::Arc};
use testkit::Random;

/// Few words and namespaces, so that writes meet.
pub const WORDS: [&str; 8] = ["a", "the", "cat", "sat", "on", "mat", "größe", "北京"];
pub const NAMESPACES: [&str; 3] = ["words", "other", "third"];

/// Words that are in every post to a namespace whose counts only grow, so that both count the same.
pub const GROWING_WORDS: [&str; 2] = ["left", "right"];

/// Of a hundred histories, so many have batches of many words.
const WIDE: usize = 4;

/// Where batches have many words, a step takes long.
pub const STEPS_WHERE_WIDE: usize = 150;

/// One thing a client wants counted once, however often it asks.
#[derive(Clone, Debug)]
pub struct Wish {
    pub namespace: &'static str,
    pub verb: WriteOp,
    pub words: Vec<(&'static str, i64)>,
    /// What it asks of entries.
    pub entries: Arc<[EntryWish]>,
    pub once: Option<IdempotencyKey>,
    /// Whether it is counted as a body in bulk is: its words are ASCII then, and its amounts small.
    pub in_bulk: bool,
    /// Of lines, the running hash up to their end.
    pub hash: Option<u128>,
    pub level: Option<AckLevel>,
    /// Attempts that are under way.
    pub open: usize,
    /// Whether it was acknowledged, by any attempt.
    pub acknowledged: bool,
    /// Whether an attempt ended without an answer that says what became of it.
    pub unknown: bool,
}

impl Wish {
    pub fn new(
        namespace: &'static str,
        verb: WriteOp,
        words: Vec<(&'static str, i64)>,
        once: Option<IdempotencyKey>,
    ) -> Self {
        let (in_bulk, hash, level) = (false, None, None);
        let (open, acknowledged, unknown) = (0, false, false);
        let entries = Arc::new([]);
        Self { namespace, verb, words, entries, once, in_bulk, hash, level, open, acknowledged, unknown }
    }

    /// The batch a handler would make of it.
    pub fn batch(&self, hasher: WordHasher) -> WriteBatch {
        let tally = if self.in_bulk { texts::in_parts(&self.words, hasher) } else { self.tally(hasher) };
        let text = || {
            let words = self.words.iter().map(|(word, amount)| format!("{word} {amount} "));
            words.chain(self.entries.iter().map(EntryWish::to_string)).collect::<String>()
        };
        let verb = format!("{:?}", self.verb);
        WriteBatch {
            entries: self.entries.iter().map(EntryWish::write).collect(),
            namespace: self.namespace.into(),
            op: self.verb,
            is_post: false,
            words: self.words.len() as u64,
            left_out: self.words.len() as u64 % 2,
            key: self.once.clone(),
            fingerprint: self
                .hash
                .unwrap_or_else(|| fingerprint(&[self.namespace.as_bytes(), verb.as_bytes(), text().as_bytes()])),
            counts: tally,
        }
    }

    fn tally(&self, hasher: WordHasher) -> WordCounts {
        let mut tally = WordCounts::new(hasher);
        self.words.iter().for_each(|(word, amount)| tally.add(word, *amount).expect("one of them may be large"));
        if self.hash.is_some() {
            tally.order_by_hash(); // as text in bulk that is not ASCII
        }
        tally
    }

    /// What may count only once: its key, or its lines.
    pub fn names(&self) -> BTreeSet<String> {
        match &self.once {
            Some(IdempotencyKey::Key(key)) => [format!("{key} of {}", self.namespace)].into(),
            Some(once) => texts::lines_of(self.namespace, once),
            None => BTreeSet::new(),
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, verb, words, once, in_bulk, .. } = self;
        write!(f, "{verb:?} {namespace} ")?;
        match words.get(20..) {
            Some(more) => write!(f, "{:?} and {} more", &words[..20], more.len())?,
            None => write!(f, "{words:?}")?,
        }
        write!(f, "{} {once:?}", if *in_bulk { " in bulk" } else { "" })?;
        self.entries.iter().try_for_each(|wish| write!(f, "{wish}"))
    }
}

/// All clients of a history, and all they ever wished.
pub struct Clients {
    random: Random,
    pub wishes: Vec<Wish>,
    /// The streams: name, next number and namespace.
    streams: Vec<(String, u64, &'static str)>,
    /// Who sends texts in pieces.
    senders: Senders,
    /// Who writes entries, if anybody does.
    pub of_entries: Option<EntryClients>,
    /// Who increments counters, if anybody does.
    pub of_counters: Option<CounterClients>,
    /// Whether some of what is sent has many words.
    pub wide: bool,
    level: usize,
    /// Namespaces to which clients only add.
    pub growing: &'static [&'static str],
}

impl Clients {
    pub fn new(mut random: Random) -> Self {
        let streams = (0..random.between(1, 3)).map(|at| (format!("stream-{at}"), 1, namespace(&mut random))).collect();
        let level = random.below(100);
        let senders = Senders::new(&mut random);
        let wide = random.percent(WIDE);
        let (of_entries, of_counters, wishes) = (None, None, Vec::new());
        Self { random, wishes, streams, senders, of_entries, of_counters, wide, level, growing: &[] }
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
        let other = self.something_new();
        let Wish { namespace, verb, ref words, ref entries, in_bulk, level, .. } = self.wishes[other];
        if namespace == COUNTERS {
            return other; // what its counter has gained is to be known
        }
        let entries = entries.clone();
        // Who is told that it counts must not be told of another.
        let namespace = if self.grows(namespace) { NAMESPACES[1] } else { namespace };
        // Lines of a text that nobody else has.
        let hash = matches!(once, Some(IdempotencyKey::Lines { .. })).then_some(self.wishes.len() as u128);
        let wish = Wish { entries, in_bulk, hash, level, ..Wish::new(namespace, verb, words.clone(), once) };
        self.wishes.push(wish);
        self.wishes.len() - 1
    }

    /// Somebody writes entries.
    fn next_of_entries(&mut self) -> usize {
        let (growing, number) = (self.growing, self.wishes.len());
        let clients = self.of_entries.as_mut().expect("some do");
        let Asked { namespace, words, entries } = clients.next(|namespace| growing.contains(&namespace));
        let random = &mut clients.random;
        let once = random.percent(40).then(|| IdempotencyKey::Key(format!("key-{number}").into()));
        let level = *random.pick(&[None, Some(AckLevel::Leader), Some(AckLevel::Disk)]);
        let wish = Wish::new(namespace, WriteOp::Add, words, once);
        self.wish(Wish { entries: entries.into(), level, ..wish })
    }

    /// Somebody increments a counter.
    fn next_of_counters(&mut self) -> usize {
        let number = self.wishes.len();
        let clients = self.of_counters.as_mut().expect("some do");
        let (verb, key) = clients.next();
        let random = &mut clients.random;
        let once = random.percent(60).then(|| IdempotencyKey::Key(format!("key-{number}").into()));
        let level = *random.pick(&[None, Some(AckLevel::Leader), Some(AckLevel::Disk)]);
        self.wish(Wish { level, ..Wish::new(COUNTERS, verb, vec![(key, 1)], once) })
    }

    fn something_new(&mut self) -> usize {
        if self.of_counters.as_mut().is_some_and(|clients| clients.random.percent(40)) {
            return self.next_of_counters();
        }
        if self.of_entries.as_mut().is_some_and(|clients| clients.random.percent(40)) {
            return self.next_of_entries();
        }
        if self.random.percent(15) {
            return self.next_piece();
        }
        let random = &mut self.random;
        let verb = match random.below(100) {
            0..84 => WriteOp::Add,
            84..96 => WriteOp::RemoveWords,
            _ => WriteOp::DropNamespace,
        };
        let is_large = self.wide && verb == WriteOp::Add && random.percent(8);
        let words = match verb {
            WriteOp::DropNamespace => Vec::new(),
            WriteOp::Add if is_large => texts::many_words(random, 2_000).into_iter().map(|word| (word, 1)).collect(),
            WriteOp::Add if random.percent(2) => vec![(*random.pick(&WORDS), i64::MAX / 3 * 2)], // two do not fit
            _ => (0..random.between(0, 6)).map(|_| (*random.pick(&WORDS), amount(random))).collect(),
        };
        let mut stream_namespace = None;
        let once = match random.below(100) {
            0..45 => Some(IdempotencyKey::Key(format!("key-{}", self.wishes.len()).into())),
            45..70 => {
                let at = random.below(self.streams.len());
                let (name, next, of) = &mut self.streams[at];
                *next += 1;
                stream_namespace = Some(*of);
                Some(IdempotencyKey::Stream { name: name.as_str().into(), sequence: *next - 1 })
            }
            _ => None,
        };
        let level = match random.below(100) {
            at if at < self.level => Some(AckLevel::Disk),
            at if at % 3 == 0 => None,
            _ => Some(AckLevel::Leader),
        };
        let in_bulk = is_large && random.percent(70);
        let namespace = stream_namespace.unwrap_or_else(|| namespace(random));
        let (verb, words) = if self.grows(namespace) { (WriteOp::Add, only_adds(words)) } else { (verb, words) };
        // Every third of those that add is given by hand.
        let is_given = verb == WriteOp::Add && !is_large && self.wishes.len().is_multiple_of(3);
        let verb = if is_given && !self.grows(namespace) { WriteOp::AddGiven } else { verb };
        self.wish(Wish { in_bulk, level, ..Wish::new(namespace, verb, words, once) })
    }

    /// Somebody goes on with a text, or believes so.
    fn next_piece(&mut self) -> usize {
        let growing = self.growing;
        let piece = self.senders.next(&mut self.random, self.wide, |namespace| growing.contains(&namespace));
        let Piece { namespace, words, once, hash } = piece;
        let in_bulk = words.iter().all(|(word, _)| word.is_ascii());
        // Each piece is waited for no longer than until it is taken.
        let level = Some(AckLevel::Leader);
        self.wish(Wish { in_bulk, hash: Some(hash), level, ..Wish::new(namespace, WriteOp::Add, words, Some(once)) })
    }

    /// A wish; if it has a name and is equal by chance to another, then it is that one, sent again.
    fn wish(&mut self, wish: Wish) -> usize {
        let of = |wish: &Wish| (wish.namespace, wish.verb, wish.hash);
        let is_same = |other: &Wish| {
            of(other) == of(&wish)
                && other.once == wish.once
                && other.words == wish.words
                && other.entries == wish.entries
        };
        if let Some(same) = self.wishes.iter().position(is_same).filter(|_| wish.once.is_some()) {
            return same;
        }
        self.wishes.push(wish);
        self.wishes.len() - 1
    }

    /// A wish was refused. A stream was told that it goes on elsewhere: its producer goes back to there, or, if the
    /// server has forgotten the stream, begins another; or another text has its name.
    pub fn refused(&mut self, wish: usize, error: &WriteError) {
        match (&self.wishes[wish].once, error) {
            (Some(IdempotencyKey::Stream { name, .. }), WriteError::StreamGap { expected: 1 }) => {
                let fresh = format!("stream-{}", self.wishes.len());
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.0 == **name) {
                    (stream.0, stream.1) = (fresh, 1);
                }
            }
            (Some(IdempotencyKey::Lines { name, .. }), WriteError::StreamGap { expected }) => {
                self.senders.stands_at(name, *expected - 1);
            }
            (Some(IdempotencyKey::Lines { name, .. }), WriteError::KeyReused) if self.random.percent(50) => {
                self.senders.taken(name);
            }
            _ => {}
        }
    }
}

fn namespace(random: &mut Random) -> &'static str {
    NAMESPACES[random.below(5).saturating_sub(2)]
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
