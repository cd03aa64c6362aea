//! Clients and readers of a cluster: what they ask at which level, what they must be told, and what they may see.

use crate::{
    cluster::{Attempt, Cluster},
    follower::SeatOf,
    network::SEATS,
};
use memdb::{
    leader::{AckLevel, Receipt, Submission, WriteError},
    position::{Position, Standing},
    tally::Once,
};
use std::collections::BTreeMap;

impl Cluster {
    /// A client sends its wish; it waits in the queue.
    pub fn send(&mut self, wish: usize) {
        let level = match self.random.below(10) {
            0..4 => None,
            4 => Some(AckLevel::Disk),
            5 | 6 => Some(AckLevel::Replica),
            7 => Some(AckLevel::ReplicaDisk),
            _ => Some(AckLevel::Leader),
        };
        self.send_at(wish, level);
    }

    pub fn send_at(&mut self, wish: usize, level: Option<AckLevel>) {
        let Some(leader) = &mut self.leader else { return };
        let id = self.next_attempt;
        self.next_attempt += 1;
        let asked = &mut self.clients.wishes[wish];
        asked.open += 1;
        let batch = asked.batch(leader.hasher);
        leader.queue.push(Submission { batch, level, reply: id });
        self.history.note(format_args!(
            "send {id}: wish {wish} {:?} {} {:?} {:?} at {level:?}",
            asked.verb, asked.namespace, asked.words, asked.once
        ));
        let attempt = Attempt { wish, level, expected: None, since_ms: 0, alone: (false, false) };
        self.attempts.insert(id, attempt);
    }

    /// The level that an attempt is answered at, and whether the request named it.
    pub fn level(&self, level: Option<AckLevel>) -> (AckLevel, bool) {
        let writer = self.settings.writer;
        let wanted = level.unwrap_or(writer.ack);
        (if writer.synced { wanted.synced() } else { wanted }, level.is_some())
    }

    /// A client has its answer.
    pub fn answered(&mut self, id: usize, answer: &Result<Receipt, WriteError>) -> Result<(), String> {
        self.note(format_args!("answer {id}: {answer:?}"));
        let attempt = self.attempts.remove(&id).ok_or_else(|| format!("attempt {id} was answered twice"))?;
        let leader = self.leader.as_ref().expect("it has just answered");
        let (level, strict) = self.level(attempt.level);
        let durable = level == AckLevel::ReplicaDisk;
        let waited_ms = self.leader_ms().checked_sub(attempt.since_ms);
        let gave_up = waited_ms.is_none_or(|waited_ms| waited_ms >= self.settings.writer.ack_timeout_ms)
            || !leader.may_ack(durable)
            || if durable { attempt.alone.1 } else { attempt.alone.0 };
        let poisoned = leader.writer.is_poisoned();
        let wrong = |what: &str| Err(format!("attempt {id} at {level} was answered {answer:?}: {what}"));
        let expected = attempt.expected;
        match (answer, &expected) {
            (Ok(receipt), Some(Ok(expected))) => {
                if (Receipt { acks: 0, ..*receipt }) != *expected {
                    return wrong(&format!("it should have been {expected:?}"));
                }
                if level.wants_sync() && receipt.position.sequence > leader.synced_upto {
                    return wrong("the leader has not synced that");
                }
                let (had, synced) = self.had_by(receipt.position);
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
                    return wrong(&format!("after {waited_ms:?} ms; it should have been {expected:?}"));
                }
            }
            (Err(WriteError::OutcomeUnknown), None) => {}
            (Err(WriteError::OutcomeUnknown), Some(Ok(_))) if poisoned => {}
            (Err(WriteError::Poisoned), None) if poisoned => {}
            (Err(WriteError::Overflow { .. }), Some(Err(WriteError::Overflow { .. }))) => {}
            (Err(error), Some(Err(expected))) if error == expected => {}
            _ => return wrong(&format!("it should have been {expected:?}")),
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
        self.hear(attempt.wish, answer, level)
    }

    /// What a client makes of its answer.
    fn hear(&mut self, wish: usize, answer: &Result<Receipt, WriteError>, level: AckLevel) -> Result<(), String> {
        let asked = &mut self.clients.wishes[wish];
        asked.open -= 1;
        match answer {
            Ok(receipt) => {
                (asked.acknowledged, asked.unknown) = (true, false);
                if level.wants_sync() {
                    self.truth.kept = self.truth.kept.max(receipt.position.sequence);
                }
                if let Some(id) = self.truth.acknowledged(wish, receipt.position)? {
                    let reader = &mut self.readers[wish % 3];
                    *reader = (*reader).max(Some((receipt.position, id)));
                }
            }
            Err(WriteError::NotReplicated { position, .. }) => {
                (asked.acknowledged, asked.unknown) = (true, false);
                self.truth.acknowledged(wish, *position)?;
            }
            Err(WriteError::OutcomeUnknown) => asked.unknown = true,
            Err(error) => {
                asked.unknown = false;
                if let (WriteError::StreamGap { expected }, Some(Once::Stream { name, .. })) = (error, &asked.once) {
                    let name = name.clone();
                    self.clients.gap(&name, *expected);
                }
            }
        }
        Ok(())
    }

    /// How many replicas ever had the record at a position, and how many have ever said that they had synced it.
    fn had_by(&self, position: Position) -> (usize, usize) {
        let Ok(Some(id)) = self.truth.entry_at(Position::new(self.truth.epoch, position.sequence)) else {
            return (SEATS, SEATS);
        };
        let holds = |had: &BTreeMap<u64, u64>| {
            had.iter().any(|(&epoch, &sequence)| self.truth.holds(Position::new(epoch, sequence), id))
        };
        let count = |of: &dyn Fn(&SeatOf) -> bool| self.seats.iter().filter(|seat| of(seat)).count();
        (count(&|seat| holds(&seat.had)), count(&|seat| holds(&seat.has_synced)))
    }

    /// A reader asks some node for what it has seen before.
    pub fn read(&mut self) -> Result<(), String> {
        let (who, at) = (self.random.below(3), self.random.below(SEATS + 2));
        let (table, reader) = if at > SEATS {
            // What it shows was looked at when it took its step.
            match self.local.as_ref().and_then(|local| local.manifest().zip(local.reader())) {
                Some((manifest, reader)) if self.leader.is_some() => (manifest.state.epochs.clone(), reader),
                _ => return Ok(()),
            }
        } else if at == SEATS {
            match &self.leader {
                Some(leader) if !self.leader_sleeps() => (leader.epochs(), leader.reader.clone()),
                _ => return Ok(()),
            }
        } else {
            match self.seats[at].process.as_ref().and_then(|process| process.view.as_ref()) {
                Some((table, reader)) if self.is_awake(at) => (table.clone(), reader.clone()),
                _ => return Ok(()),
            }
        };
        self.truth.check(&format!("node {at}"), &reader)?;
        let applied = reader.read().position();
        if let Some((asked, id)) = self.readers[who] {
            let standing = table.standing(asked, applied);
            let wrong = |what| format!("reader {who} asks node {at} for {asked}: {what}");
            self.truth.check_standing((asked, id), applied, standing).map_err(wrong)?;
            match standing {
                Standing::Reached => self.tally("positions reached by a reader"),
                Standing::Ahead => return Ok(()), // it waits, and is told to come again
                Standing::Lost => {
                    self.tally("lost positions told to a reader");
                    self.readers[who] = None;
                }
            }
        }
        if let Some(id) = self.truth.entry_at(applied)? {
            self.readers[who] = self.readers[who].max(Some((applied, id)));
        }
        Ok(())
    }
}
