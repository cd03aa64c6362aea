//! What the clients of a cluster have seen, held to the rules of `testkit::checker`: it asks neither the model nor the
//! truth, and knows only what clients know, and which epochs are left at the end.
//!
//! The rules want growing counts: in some namespaces clients only add (`Clients::grows`), and some counters are never
//! taken away: of these, what waits is counted with the value. A wish is one write, however often it is sent, unless
//! the window may have forgotten it meanwhile: then it may count again, and each attempt is a write.

use super::{network::Place, simulation::Cluster};
use crate::{
    client::{Clients, GROWING_WORDS, NAMESPACES, WORDS, Wish},
    counters::KEPT_KEYS,
    model::gained,
    texts::lines_of,
};
use memdb::{
    base::position::{EpochTable, Position, PositionStatus},
    data::command::IdempotencyKey,
    data::counters::COUNTERS,
    data::counts::WriteOp,
    data::store::StoreReader,
    engine::leader::{AckLevel, WriteError, WriteReceipt},
};
use std::collections::BTreeMap;
use testkit::checker::{Checked, History, Seen, Time};

const LEVELS: [AckLevel; 5] =
    [AckLevel::Leader, AckLevel::Disk, AckLevel::Replica, AckLevel::DiskReplica, AckLevel::ReplicaDisk];

/// What may count once.
struct Write {
    wish: usize,
    began: Time,
    /// How often it was sent, and how often it was said not to count.
    sent: usize,
    refused: usize,
    told: Vec<(Time, Position, AckLevel)>,
}

struct Read {
    who: u32,
    began: Time,
    position: Position,
    asked: Option<Position>,
    leads: bool,
    values: Vec<(usize, usize, i64)>,
}

/// What has happened that may take acknowledged records away.
#[derive(Default)]
pub struct AllowedLosses {
    /// Somebody leads that not all others have promised, or by force.
    pub led_without_all: bool,
    pub promoted: bool,
    pub lost_power: bool,
    pub emptied: bool,
}

#[derive(Default)]
pub struct ClientHistory {
    writes: Vec<Write>,
    /// The writes of each wish.
    of_wish: BTreeMap<usize, Vec<usize>>,
    /// The write that each attempt under way is of.
    attempts: BTreeMap<usize, usize>,
    reads: Vec<Read>,
    /// A leader has believed a wall clock that is ahead: keys may be forgotten early.
    pub has_leapt: bool,
    pub allowed_losses: AllowedLosses,
    /// The highest epoch that anybody has led in.
    pub epoch: u64,
}

/// The place of counters among the namespaces of values that were read.
const COUNTERS_AT: usize = NAMESPACES.len();

/// An increment of a counter that nobody takes away.
fn is_kept_counter(asked: &Wish) -> bool {
    asked.verb == WriteOp::Increment && KEPT_KEYS.contains(&asked.words[0].0)
}

fn name(namespace: &str, word: &str) -> String {
    format!("{namespace}/{word}")
}

impl ClientHistory {
    /// A leader that starts has believed a wall clock that is ahead: what is under way may be taken after that, by a
    /// window that has forgotten.
    pub fn a_start_believes_too_much(&mut self) {
        self.has_leapt = true;
        for write in self.attempts.values_mut() {
            let Write { wish, began, .. } = self.writes[*write];
            if self.writes[*write].sent > 1 {
                self.writes[*write].sent -= 1;
                self.writes.push(Write { wish, began, sent: 1, refused: 0, told: Vec::new() });
                *write = self.writes.len() - 1;
                self.of_wish.entry(wish).or_default().push(*write);
            }
        }
    }

    pub fn sent(&mut self, attempt: usize, (wish, asked): (usize, &Wish), clients: &Clients, now: Time, age: Time) {
        let grows = clients.grows(asked.namespace) && asked.verb == WriteOp::Add && asked.entries.is_empty();
        if !grows && !is_kept_counter(asked) {
            return;
        }
        let known = self.of_wish.entry(wish).or_default();
        let young = |write: &&usize| !self.has_leapt && now - self.writes[**write].began < age / 2 && age > 10_000;
        let write = known.first().filter(young).copied().unwrap_or_else(|| {
            self.writes.push(Write { wish, began: now, sent: 0, refused: 0, told: Vec::new() });
            known.push(self.writes.len() - 1);
            self.writes.len() - 1
        });
        self.writes[write].sent += 1;
        self.attempts.insert(attempt, write);
    }

    /// An attempt was answered.
    pub fn answered(
        &mut self,
        attempt: usize,
        asked: &Wish,
        (level, now): (AckLevel, Time),
        answer: &Result<WriteReceipt, WriteError>,
    ) {
        let Some(write) = self.attempts.remove(&attempt) else { return };
        let (position, level, replayed) = match answer {
            Ok(receipt) => {
                let number = match &asked.once {
                    Some(IdempotencyKey::Stream { sequence, .. }) => Some(*sequence),
                    _ => None,
                };
                if receipt.replayed && receipt.stream_last != number {
                    return; // it is told where its stream is, not where it is itself
                }
                let alone = level.wants_replica() && receipt.acks == 0;
                let level = match (alone, level.wants_sync()) {
                    (false, _) => level,
                    (true, true) => AckLevel::Disk,
                    (true, false) => AckLevel::Leader,
                };
                (receipt.position, level, Some(receipt.replayed))
            }
            Err(WriteError::NotReplicated { .. }) if matches!(asked.once, Some(IdempotencyKey::Stream { .. })) => {
                return;
            }
            // A repeat is told so too.
            Err(WriteError::NotReplicated { position, .. }) => (*position, AckLevel::Leader, None),
            Err(WriteError::OutcomeUnknown) => return,
            Err(_) => {
                self.writes[write].refused += 1;
                return;
            }
        };
        let siblings = &self.of_wish[&self.writes[write].wish];
        let is_it = |other: &&usize| self.writes[**other].told.iter().any(|told| told.1 == position);
        let it = siblings.iter().find(is_it);
        let of = match replayed {
            // It was another attempt that counted; if it may be any of several, nothing is known of each.
            Some(true) => {
                let untold = |other: &&usize| self.writes[**other].told.is_empty();
                let mut candidates =
                    siblings.iter().filter(untold).filter(|&&other| siblings.len() == 1 || other != write);
                let only = candidates.next().filter(|_| candidates.next().is_none());
                let of = it.or(only).copied();
                self.writes[write].refused += usize::from(of != Some(write) && siblings.len() > 1);
                let Some(of) = of else { return };
                of
            }
            Some(false) => {
                for &other in siblings.iter().filter(|&&other| other != write) {
                    self.writes[other].told.retain(|told| told.1 != position);
                }
                write
            }
            None => it.copied().unwrap_or(write),
        };
        self.writes[of].told.push((now, position, level));
    }

    /// A reader was shown this.
    pub fn read(
        &mut self,
        (who, leads): (usize, bool),
        asked: Option<Position>,
        now: Time,
        clients: &Clients,
        reader: &StoreReader,
    ) {
        let guard = reader.read();
        let mut values = Vec::new();
        for (at, namespace) in NAMESPACES.iter().enumerate().filter(|(_, namespace)| clients.grows(namespace)) {
            let some = self.reads.len() % WORDS.len();
            let words = [some, WORDS.len(), WORDS.len() + 1];
            values.extend(words.map(|word| (at, word, guard.count(namespace, word_of(word)))));
        }
        let position = guard.position();
        drop(guard);
        if clients.of_counters.is_some() {
            let counters = KEPT_KEYS.iter().enumerate();
            values.extend(counters.map(|(at, key)| (COUNTERS_AT, at, gained(reader, key))));
        }
        self.reads.push(Read { who: who as u32, began: now, position, asked, leads, values });
    }

    /// What may be lost of what was acknowledged.
    fn forgives(&self) -> Vec<AckLevel> {
        let AllowedLosses { led_without_all, promoted, lost_power, emptied } = self.allowed_losses;
        let all = led_without_all || promoted && emptied;
        LEVELS.into_iter().filter(|level| all || lost_power && !level.wants_sync()).collect()
    }

    /// A line of a text counts once under its stream, at one place in the history that is left. Gives how many do.
    fn check_lines(&self, clients: &Clients, epochs: &EpochTable, last: Position) -> Result<usize, String> {
        let is_known = |epoch| epoch == last.epoch || epochs.last_of(epoch).is_some();
        let stands = |position: &Position| {
            is_known(position.epoch) && epochs.position_status(*position, last) == PositionStatus::Reached
        };
        let mut counted: BTreeMap<String, Position> = BTreeMap::new();
        for Write { wish, told, .. } in &self.writes {
            for position in told.iter().map(|told| told.1).filter(stands) {
                let wish = &clients.wishes[*wish];
                for line in wish.once.iter().flat_map(|once| lines_of(wish.namespace, once)) {
                    let other = counted.get(&line).copied().filter(|other| *other != position);
                    if let Some(other) = other {
                        let what = format!("{line} counts at {other} and at {position}");
                        return Err(format!("the rules of the clients are broken: {what}"));
                    }
                    counted.insert(line, position);
                }
            }
        }
        Ok(counted.len())
    }

    /// The history, once it is known which epochs are left of it.
    fn history(&self, clients: &Clients, epochs: &EpochTable, last: Position) -> History {
        let mut history = History::default();
        history.holds(epochs.clone(), last, &self.forgives());
        let stands = |position: Position| epochs.position_status(position, last) == PositionStatus::Reached;
        for Write { wish, began, sent, refused, told } in &self.writes {
            let Wish { namespace, words, .. } = &clients.wishes[*wish];
            let names: Vec<(String, i64)> = words.iter().map(|(word, n)| (name(namespace, word), *n)).collect();
            let words: Vec<(&str, i64)> = names.iter().map(|(word, amount)| (word.as_str(), *amount)).collect();
            let write = history.sent(*began, &words);
            let standing = told.iter().find(|told| stands(told.1)).or(told.last());
            if let Some(&(ended, position, level)) = standing {
                history.acknowledged(write, ended, position, level);
            } else if sent == refused {
                history.refused(write);
            }
        }
        for Read { who, began, position, asked, leads, values } in &self.reads {
            let (who, began, position, asked) = (*who, *began, *position, *asked);
            // What only one leader shows that was given up later need not have all.
            let leads = *leads && stands(position);
            let names = values.iter().map(|(at, word, value)| match *at {
                COUNTERS_AT => (name(COUNTERS, KEPT_KEYS[*word]), *value),
                at => (name(NAMESPACES[at], word_of(*word)), *value),
            });
            let names: Vec<_> = names.collect();
            let values: Vec<(&str, i64)> = names.iter().map(|(word, value)| (word.as_str(), *value)).collect();
            history.read(&Seen { who, began, ended: began, position, asked, leads, values: &values });
        }
        history
    }
}

fn word_of(number: usize) -> &'static str {
    WORDS.get(number).copied().unwrap_or_else(|| GROWING_WORDS[number - WORDS.len()])
}

impl Cluster {
    /// Everything that clients have seen keeps the rules, once all nodes are one.
    pub fn check_what_was_seen(&mut self, leader: Place) -> Result<(), String> {
        let leading = self.nodes[leader].leading().expect("it runs");
        let mut history = self.client_history.history(&self.clients, &leading.epochs(), leading.position());
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(reader) = node.view() else { continue };
            let mut counts = BTreeMap::new();
            for namespace in NAMESPACES.into_iter().filter(|namespace| self.clients.grows(namespace)) {
                let Some(mut scan) = reader.scan(namespace) else { continue };
                while scan.step(|word, count| _ = counts.insert(name(namespace, word), count)) {}
            }
            if self.clients.of_counters.is_some() {
                counts.extend(KEPT_KEYS.map(|key| (name(COUNTERS, key), gained(&reader, key))));
                counts.retain(|_, count| *count != 0);
            }
            history.ends(&format!("node {at}"), reader.read().position(), counts);
        }
        let lines = self.client_history.check_lines(&self.clients, &leading.epochs(), leading.position())?;
        let checked = history.check().map_err(|broken| format!("the rules of the clients are broken: {broken}"))?;
        let Checked { acknowledged, lost, unknown, values, .. } = checked;
        for (what, times) in [
            ("rules: lines counted once", lines),
            ("rules: writes acknowledged", acknowledged),
            ("rules: writes lost as they may", lost),
            ("rules: writes unknown", unknown),
            ("rules: values read", values),
        ] {
            *self.tallies.entry(what).or_default() += times;
        }
        Ok(())
    }
}
