//! Clients and readers of a cluster: what they ask at which level, what they must be told, and what they may see.

use super::{
    machines::Node,
    network::{PLACES, Place},
    simulation::{Attempt, Cluster},
};
use crate::model::is_as_expected;
use memdb::{
    base::position::{Position, PositionStatus},
    data::counters::COUNTERS,
    engine::leader::{AckLevel, WriteError, WriteReceipt, WriteSubmission},
};
use std::collections::BTreeMap;

impl Cluster {
    /// A client sends its wish to a leader; it waits in the queue.
    pub fn send(&mut self, at: Place, wish: usize) {
        let level = match self.random.below(10) {
            0..4 => None,
            4 => Some(AckLevel::Disk),
            5 | 6 => Some(AckLevel::Replica),
            7 => Some(AckLevel::ReplicaDisk),
            _ => Some(AckLevel::Leader),
        };
        self.send_at(at, wish, level);
    }

    pub fn send_at(&mut self, at: Place, wish: usize, level: Option<AckLevel>) {
        let Some(leader) = self.nodes[at].leading_mut() else { return };
        let id = self.next_attempt;
        self.next_attempt += 1;
        let asked = &mut self.clients.wishes[wish];
        asked.open += 1;
        leader.fetches.before_write(asked);
        let batch = asked.batch(leader.hasher);
        leader.queue.push(WriteSubmission { batch, level, reply: id });
        let asked = &self.clients.wishes[wish];
        self.client_history.sent(id, (wish, asked), &self.clients, self.now_ms, self.settings.window.key_age_ms);
        self.history.note(format_args!("send {id} to {at}: wish {wish} {asked} at {level:?}"));
        let attempt = Attempt { at, wish, level, expected: None, since_ms: 0, alone: (false, false) };
        self.attempts.insert(id, attempt);
    }

    /// The level that an attempt is answered at, and whether the request named it.
    pub fn level(&self, level: Option<AckLevel>) -> (AckLevel, bool) {
        let writer = self.settings.writer;
        let wanted = level.unwrap_or(writer.ack);
        (if writer.synced { wanted.synced() } else { wanted }, level.is_some())
    }

    /// A client has its answer.
    pub fn answered(&mut self, at: Place, id: usize, answer: &Result<WriteReceipt, WriteError>) -> Result<(), String> {
        self.note(format_args!("answer {id}: {answer:?}"));
        let attempt = self.attempts.remove(&id).ok_or_else(|| format!("attempt {id} was answered twice"))?;
        let (level, strict) = self.level(attempt.level);
        self.client_history.answered(id, &self.clients.wishes[attempt.wish], (level, self.now_ms), answer);
        let leader = self.nodes[at].leading().expect("it has just answered");
        let durable = level == AckLevel::ReplicaDisk;
        let waited_ms = self.now_ms - attempt.since_ms;
        let gave_up = waited_ms >= self.settings.writer.ack_timeout_ms
            || !leader.may_ack(durable)
            || if durable { attempt.alone.1 } else { attempt.alone.0 };
        let (poisoned, stands_down) = (leader.writer.is_poisoned(), leader.stands_down);
        let wrong = |what: &str| Err(format!("attempt {id} at {level} was answered {answer:?}: {what}"));
        let expected = attempt.expected;
        match (answer, &expected) {
            _ if self.truth.is_blind => {}
            (Ok(receipt), Some(Ok(expected))) => {
                if (WriteReceipt { acks: 0, ..*receipt }) != *expected {
                    return wrong(&format!("it should have been {expected:?}"));
                }
                if level.wants_sync() && receipt.position.sequence > leader.synced_upto {
                    return wrong("the leader has not synced that");
                }
                let (had, synced) = self.had_by(at, receipt.position);
                if receipt.acks as usize > had {
                    return wrong(&format!("{had} replicas ever had that record"));
                }
                let nothing = receipt.position.sequence == 0;
                let reached = nothing || had > 0 && receipt.acks > 0 && (!durable || synced > 0);
                if level.wants_replica() && !reached && (strict || !gave_up) {
                    return wrong("no replica has it, and it should have waited");
                }
            }
            (Err(WriteError::NotReplicated { position, .. }), Some(Ok(expected))) => {
                if *position != expected.position || !strict || !level.wants_replica() || !gave_up {
                    return wrong(&format!("after {waited_ms} ms; it should have been {expected:?}"));
                }
            }
            (Err(WriteError::OutcomeUnknown), None) => {}
            (Err(WriteError::OutcomeUnknown), Some(Ok(_))) if poisoned || stands_down => {}
            (Err(WriteError::Poisoned), None) if poisoned => {}
            (Err(WriteError::SteppedDown), None) if stands_down => {}
            // It was found full a moment ago.
            (Err(WriteError::DiskFull), _) if self.nodes[at].machine.lock().was_full => {}
            (Err(_), Some(expected)) if is_as_expected(answer, expected) => {}
            _ => return wrong(&format!("it should have been {expected:?}")),
        }
        let of_lines = self.clients.wishes[attempt.wish].hash.is_some();
        let of_counters = self.clients.wishes[attempt.wish].namespace == COUNTERS;
        match answer {
            Ok(_) if of_counters => self.tally("changes of counters accepted"),
            Err(WriteError::CounterQueueFull(_)) => self.tally("refusals by a full queue of counters"),
            Err(WriteError::RateExceeded(_)) => self.tally("refusals beyond the rate of a counter"),
            Ok(_) if of_lines => self.tally("lines counted"),
            Err(WriteError::StreamGap { .. }) if of_lines => self.tally("lines that stand elsewhere"),
            Err(WriteError::KeyReused) if of_lines => self.tally("lines of another text"),
            _ => {}
        }
        self.tally(match answer {
            Ok(receipt) if receipt.replayed => "repeats answered as such",
            Ok(receipt) if level.wants_replica() && receipt.acks == 0 => "answers that no replica has acknowledged",
            Ok(_) => match level {
                AckLevel::Leader => "answers at level leader",
                AckLevel::Disk => "answers at level disk",
                AckLevel::Replica => "answers at level replica",
                AckLevel::DiskReplica => "answers at level disk, replica",
                AckLevel::ReplicaDisk => "answers at level replica+disk",
            },
            Err(WriteError::NotReplicated { .. }) => "refusals for want of a replica",
            Err(WriteError::NoReplicaKeepsFiles) => "refusals because no replica keeps files",
            Err(_) => "other refusals",
        });
        self.fetch_is_stored(at, id, answer)?;
        self.hear(at, attempt.wish, answer, level)
    }

    /// What a client makes of its answer.
    fn hear(
        &mut self,
        at: Place,
        wish: usize,
        answer: &Result<WriteReceipt, WriteError>,
        level: AckLevel,
    ) -> Result<(), String> {
        let epoch = self.nodes[at].leading().expect("it has just answered").position().epoch;
        let asked = &mut self.clients.wishes[wish];
        asked.open -= 1;
        match answer {
            Ok(receipt) => {
                (asked.acknowledged, asked.unknown) = (true, false);
                if level.wants_sync() {
                    self.nodes[at].promises(Position::new(epoch, receipt.position.sequence));
                }
                if let Some(id) = self.truth.acknowledged(epoch, wish, receipt.position)? {
                    let reader = &mut self.readers[wish % 3];
                    *reader = (*reader).max(Some((receipt.position, id)));
                }
            }
            Err(WriteError::NotReplicated { position, .. }) => {
                (asked.acknowledged, asked.unknown) = (true, false);
                self.truth.acknowledged(epoch, wish, *position)?;
            }
            Err(WriteError::OutcomeUnknown) => asked.unknown = true,
            Err(error) => {
                asked.unknown = false;
                self.clients.refused(wish, error);
            }
        }
        Ok(())
    }

    /// How many replicas ever had the record that a leader has at a position, and how many have ever said that they had
    /// synced it.
    fn had_by(&self, leader: Place, position: Position) -> (usize, usize) {
        let epoch = self.nodes[leader].leading().expect("it has just answered").position().epoch;
        let Ok(Some(id)) = self.truth.entry_at(Position::new(epoch, position.sequence)) else {
            return (PLACES, PLACES);
        };
        let holds = |had: &BTreeMap<u64, u64>| {
            had.iter().any(|(&epoch, &sequence)| self.truth.holds(Position::new(epoch, sequence), id))
        };
        let others = || (0..PLACES).filter(|&at| at != leader).map(|at| &self.nodes[at]);
        let count = |of: &dyn Fn(&Node) -> bool| others().filter(|node| of(node)).count();
        (count(&|node| holds(&node.had)), count(&|node| holds(&node.has_synced)))
    }

    /// A reader asks some node for what it has seen before.
    pub fn read(&mut self) -> Result<(), String> {
        let (who, at) = (self.random.below(3), self.random.below(PLACES + 1));
        let shown = if at == PLACES {
            // What it shows was looked at when it took its step.
            self.local.as_ref().filter(|local| self.nodes[local.at].runs()).and_then(|local| local.core.reader())
        } else {
            self.nodes[at].view().filter(|_| self.is_awake(at))
        };
        let Some(reader) = shown else { return Ok(()) };
        self.truth.check(&format!("node {at}"), &reader)?;
        let applied = reader.read().position();
        let mut reached = None;
        if let Some((asked, id)) = self.readers[who] {
            let standing = reader.position_status(asked);
            let wrong = |what| format!("reader {who} asks node {at} for {asked}: {what}");
            self.truth.check_standing((asked, id), applied, standing).map_err(wrong)?;
            match standing {
                PositionStatus::Reached => {
                    self.tally("positions reached by a reader");
                    reached = Some(asked);
                }
                PositionStatus::Ahead => return Ok(()), // it waits, and is told to come again
                PositionStatus::OtherDatabase => {
                    unreachable!("a table of epochs knows no database, and there is one here")
                }
                PositionStatus::Lost => {
                    self.tally("lost positions told to a reader");
                    self.readers[who] = None;
                }
            }
        }
        let leads = self.leaders() == [at] && applied.epoch == self.client_history.epoch;
        self.client_history.read((who, leads), reached, self.now_ms, &self.clients, &reader);
        if let Some(id) = self.truth.entry_at(applied)? {
            self.readers[who] = self.readers[who].max(Some((applied, id)));
        }
        Ok(())
    }
}
