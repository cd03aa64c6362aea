//! The rules, each a pass over what is sorted by time or by position.

use super::{History, Last, Outcome, Read, Time, Word, Write};
use crate::random::mix;
use memdb::base::position::Sequence;
use std::{cmp::Ordering, fmt};

/// What a history may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A leader shows everything that was acknowledged before it was asked.
    Fresh,
    /// Nobody shows more than was sent.
    Invented,
    /// What was acknowledged at or before the position of a read is in it, what was acknowledged behind it is not.
    Position,
    /// Counts do not fall from one position to a later one, and at one position all see the same.
    Monotone,
    /// Who asks for a position is answered there or later. With [`Rule::Position`] this is reading one's own writes.
    OwnWrites,
    /// A post is seen whole or not at all.
    Whole,
    /// An epoch that ends takes with it nothing that it may not.
    Lost,
    /// An entry is not seen once its time is over.
    Expired,
    /// Of conditional writes of an entry those succeed whose condition holds, and no others.
    Condition,
    /// At the end all nodes are equal.
    Equal,
    /// At the end what was acknowledged counts once, and what is unknown once or not at all.
    Exact,
}

/// A rule that was broken, and how.
#[derive(Clone, Debug)]
pub struct Broken {
    pub rule: Rule,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// How much was held to the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub writes: usize,
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Acknowledged, and lost with an epoch as they might.
    pub lost: usize,
    pub reads: usize,
    pub values: usize,
}

/// Amounts at keys, to be asked how much there is up to a key.
struct Sums<K> {
    keys: Vec<K>,
    sums: Vec<i64>,
}

impl<K: Ord + Copy> Sums<K> {
    fn new(mut amounts: Vec<(K, i64)>) -> Self {
        amounts.sort_unstable();
        let mut sum = 0;
        let mut add = |amount| {
            sum += amount;
            sum
        };
        Self { keys: amounts.iter().map(|at| at.0).collect(), sums: amounts.iter().map(|at| add(at.1)).collect() }
    }

    fn first(&self, many: usize) -> i64 {
        if many == 0 { 0 } else { self.sums[many - 1] }
    }

    fn before(&self, key: K) -> i64 {
        self.first(self.keys.partition_point(|at| *at < key))
    }

    fn upto(&self, key: K) -> i64 {
        self.first(self.keys.partition_point(|at| *at <= key))
    }
}

/// All that was sent of one word.
struct Sent {
    base: i64,
    /// By when it was sent.
    all: Sums<Time>,
    /// By when it was sent: what nobody was told the position of.
    open: Sums<Time>,
    /// By when it was acknowledged.
    acknowledged: Sums<Time>,
    /// By where it was acknowledged.
    placed: Sums<Sequence>,
    /// By where another word of the same post was seen: what nobody was told the position of.
    glimpsed: Sums<Sequence>,
}

/// One word in one read.
#[derive(Clone, Copy)]
struct Sight {
    word: Word,
    /// `None` on a history that was given up.
    sequence: Option<Sequence>,
    read: usize,
    value: i64,
}

pub(super) fn broken(rule: Rule, what: String) -> Result<(), Broken> {
    Err(Broken { rule, what })
}

impl History {
    /// Holds the history to all rules.
    pub fn check(&self) -> Result<Checked, Broken> {
        let mut checked = self.check_lost()?;
        checked.lost += self.check_entries_lost()?;
        self.check_entries()?;
        let sights = self.sights();
        let of_word = self.writes_by_word();
        let glimpses = self.glimpses(&sights, &of_word);
        self.check_asked()?;
        for sights in sights.chunk_by(|a, b| a.word == b.word) {
            let word = sights[0].word;
            let sent = self.sent_of(word, &of_word[word as usize], &glimpses);
            self.check_word(&sent, sights)?;
        }
        let kinds = self.kinds(&of_word);
        for read in self.reads.iter().filter(|read| !self.is_older(read.position)) {
            let values = self.values[read.values.clone()].iter().copied();
            self.check_whole(&kinds, values, &format_args!("reader {} at {}", read.who, read.position))?;
        }
        self.check_end(&of_word, &kinds)?;
        Ok(checked)
    }

    /// Counts what became of the writes; those that were acknowledged and lost had to be such as may be.
    fn check_lost(&self) -> Result<Checked, Broken> {
        let mut checked = Checked {
            writes: self.writes.len(),
            reads: self.reads.len(),
            values: self.values.len(),
            ..Checked::default()
        };
        for (id, write) in self.writes.iter().enumerate() {
            match write.outcome {
                Outcome::Unknown => checked.unknown += 1,
                Outcome::Refused => checked.refused += 1,
                Outcome::Acknowledged { position, level, .. } => match self.given_up(position) {
                    None => checked.acknowledged += 1,
                    Some(ended) if ended.forgives.contains(&level) => checked.lost += 1,
                    Some(ended) => {
                        let what = format!(
                            "{} was acknowledged at {position} at level {level:?}, and its epoch ended at {}",
                            self.describe(id),
                            ended.at
                        );
                        broken(Rule::Lost, what)?;
                    }
                },
            }
        }
        Ok(checked)
    }

    /// Whatever was read, by word and position; what was read of histories given up comes first.
    fn sights(&self) -> Vec<Sight> {
        let mut sights = Vec::with_capacity(self.values.len());
        for (number, read) in self.reads.iter().enumerate() {
            let sequence = self.sequence(read.position);
            let sight = |&(word, value): &(Word, i64)| Sight { word, sequence, read: number, value };
            sights.extend(self.values[read.values.clone()].iter().map(sight));
        }
        sights.sort_unstable_by_key(|sight| (sight.word, sight.sequence, sight.value));
        sights
    }

    /// Which writes each word is in, and with how much; without those that were refused.
    fn writes_by_word(&self) -> Vec<Vec<(usize, i64)>> {
        let mut of_word = vec![Vec::new(); self.names.len()];
        for (id, write) in self.writes.iter().enumerate() {
            if !matches!(write.outcome, Outcome::Refused) {
                for (word, amount) in &self.amounts[write.amounts.clone()] {
                    of_word[*word as usize].push((id, *amount));
                }
            }
        }
        of_word
    }

    /// Where each write of unknown outcome was first seen by a word that is in no other write.
    fn glimpses(&self, sights: &[Sight], of_word: &[Vec<(usize, i64)>]) -> Vec<Option<Sequence>> {
        let mut first = vec![None; self.writes.len()];
        for sight in sights {
            let [(write, _)] = of_word[sight.word as usize][..] else { continue };
            let Some(sequence) = sight.sequence.filter(|_| sight.value > self.base[sight.word as usize]) else {
                continue;
            };
            if self.placed(&self.writes[write]).is_none() {
                let known: &mut Option<Sequence> = &mut first[write];
                *known = Some(known.map_or(sequence, |known| known.min(sequence)));
            }
        }
        first
    }

    /// Where a write is known to be, in the history that holds.
    fn placed(&self, write: &Write) -> Option<Sequence> {
        match write.outcome {
            Outcome::Acknowledged { position, .. } => self.sequence(position),
            Outcome::Unknown | Outcome::Refused => None,
        }
    }

    fn sent_of(&self, word: Word, writes: &[(usize, i64)], glimpses: &[Option<Sequence>]) -> Sent {
        let (mut all, mut open, mut acknowledged) = (Vec::new(), Vec::new(), Vec::new());
        let (mut placed, mut glimpsed) = (Vec::new(), Vec::new());
        for &(id, amount) in writes {
            let write = &self.writes[id];
            all.push((write.began, amount));
            match (self.placed(write), write.outcome) {
                (Some(sequence), Outcome::Acknowledged { ended, .. }) => {
                    placed.push((sequence, amount));
                    acknowledged.push((ended, amount));
                }
                _ => open.push((write.began, amount)),
            }
            glimpsed.extend(glimpses[id].map(|sequence| (sequence, amount)));
        }
        Sent {
            base: self.base[word as usize],
            all: Sums::new(all),
            open: Sums::new(open),
            acknowledged: Sums::new(acknowledged),
            placed: Sums::new(placed),
            glimpsed: Sums::new(glimpsed),
        }
    }

    /// Who asked for a position was answered there or later, on the history that holds.
    fn check_asked(&self) -> Result<(), Broken> {
        for Read { who, position, asked, .. } in &self.reads {
            let Some(asked) = asked else { continue };
            let both = self.sequence(*position).zip(self.sequence(*asked));
            if both.is_some_and(|(position, asked)| position < asked) {
                broken(Rule::OwnWrites, format!("reader {who} asked for {asked}, and was answered at {position}"))?;
            }
        }
        Ok(())
    }

    /// What was seen of one word, against what was sent of it.
    fn check_word(&self, sent: &Sent, sights: &[Sight]) -> Result<(), Broken> {
        let mut last: Option<&Sight> = None;
        for sight in sights {
            let read = &self.reads[sight.read];
            let value = sight.value - sent.base;
            let fail = |rule, why: &str, bound: i64| {
                let Read { who, began, ended, position, .. } = read;
                let (word, is, bound) = (&self.names[sight.word as usize], sight.value, bound + sent.base);
                let what = format!(
                    "{word} is {is} for reader {who} at {position}, between {began} and {ended}; {why} {bound}"
                );
                broken(rule, what)
            };
            let most = sent.all.upto(read.ended);
            if value > most {
                fail(Rule::Invented, "no more was sent than", most)?;
            }
            let least = sent.acknowledged.before(read.began);
            // Who leads a history that will be given up shows that one.
            let is_given_up = self.holds.is_some() && self.given_up(read.position).is_some();
            if read.leads && value < least && !is_given_up {
                fail(Rule::Fresh, "acknowledged before were", least)?;
            }
            if self.is_older(read.position) {
                if value > 0 {
                    fail(Rule::Position, "this history began, later, with", 0)?;
                }
                continue;
            }
            let Some(sequence) = sight.sequence else { continue };
            let placed = sent.placed.upto(sequence);
            let (open, glimpsed) = (sent.open.upto(read.ended), sent.glimpsed.upto(sequence));
            if value < placed {
                fail(Rule::Position, "acknowledged up to there were", placed)?;
            }
            if value > placed + open {
                fail(Rule::Position, "with all that is unknown it can be no more than", placed + open)?;
            }
            if value < placed + glimpsed {
                fail(Rule::Whole, "with posts of which other words were seen it has to be", placed + glimpsed)?;
            }
            if let Some(last) = last {
                let same = last.sequence == sight.sequence && last.value != sight.value;
                if same || last.value > sight.value {
                    let before = last.sequence.unwrap_or_default();
                    fail(Rule::Monotone, &format!("at {before} was seen"), last.value - sent.base)?;
                }
            }
            last = Some(sight);
        }
        Ok(())
    }

    /// For each word a number that tells in which writes it is, with how much: words with the same one are always
    /// posted together, and count the same.
    fn kinds(&self, of_word: &[Vec<(usize, i64)>]) -> Vec<u64> {
        let kind = |(base, writes): (&i64, &Vec<(usize, i64)>)| {
            let each =
                |sum: u64, &(id, amount): &(usize, i64)| sum.wrapping_add(mix(mix(id as u64 + 1) ^ amount as u64));
            writes.iter().fold(mix(*base as u64 + 1), each)
        };
        self.base.iter().zip(of_word).map(kind).collect()
    }

    /// Words that are always posted together are seen together.
    fn check_whole(
        &self,
        kinds: &[u64],
        values: impl Iterator<Item = (Word, i64)>,
        who: &dyn fmt::Display,
    ) -> Result<(), Broken> {
        let mut values: Vec<_> = values.map(|(word, value)| (kinds[word as usize], value, word)).collect();
        values.sort_unstable();
        for pair in values.windows(2) {
            let [(kind, one, word), (same, other, another)] = pair else { unreachable!("windows of two") };
            if kind == same && one != other {
                let name = |word: &Word| &self.names[*word as usize];
                let (word, another) = (name(word), name(another));
                let what = format!("for {who} {word} is {one} and {another} {other}: they are in the same posts");
                broken(Rule::Whole, what)?;
            }
        }
        Ok(())
    }

    /// What the nodes hold at the end.
    fn check_end(&self, of_word: &[Vec<(usize, i64)>], kinds: &[u64]) -> Result<(), Broken> {
        let Some(first) = self.last.first() else { return Ok(()) };
        for Last { node, position, counts } in &self.last[1..] {
            if *position != first.position || *counts != first.counts {
                let names = counts.keys().chain(first.counts.keys());
                let differ = names.filter(|word| counts.get(*word) != first.counts.get(*word));
                let shown: Vec<_> =
                    differ.map(|word| (word, counts.get(word), first.counts.get(word))).take(5).collect();
                let what = format!("{node} at {position}, {} at {}: {shown:?}", first.node, first.position);
                broken(Rule::Equal, what)?;
            }
        }
        if let Some((word, count)) = first.counts.iter().find(|(word, _)| !self.numbers.contains_key(*word)) {
            broken(Rule::Exact, format!("{word} is {count} at the end, and was never sent"))?;
        }
        let counts: Vec<_> = self.names.iter().map(|name| first.counts.get(name).copied().unwrap_or(0)).collect();
        for ((name, count), (base, writes)) in self.names.iter().zip(&counts).zip(self.base.iter().zip(of_word)) {
            let most: i64 = writes.iter().map(|write| write.1).sum();
            let certain = writes.iter().filter(|write| self.placed(&self.writes[write.0]).is_some());
            let least: i64 = certain.map(|write| write.1).sum();
            if (count - base).cmp(&least) == Ordering::Less || (count - base).cmp(&most) == Ordering::Greater {
                let what = format!("{name} is {count} at the end: at least {}, at most {}", base + least, base + most);
                broken(Rule::Exact, what)?;
            }
        }
        self.check_whole(kinds, (0..).zip(counts), &"the end")
    }

    fn describe(&self, write: usize) -> String {
        let words = &self.amounts[self.writes[write].amounts.clone()];
        let words: Vec<_> = words.iter().map(|(word, amount)| (&self.names[*word as usize], amount)).collect();
        format!("write {write} of {words:?}")
    }
}
