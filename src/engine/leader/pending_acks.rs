//! Answers that wait: for a sync, for replicas, or until it is too late.

use crate::{
    base::clock::Monotonic,
    base::failpoint::inject,
    base::position::Sequence,
    data::command::{AckLevel, WriteError, WriteReceipt},
    replication::AckProgress,
};
use std::collections::VecDeque;

/// A write that is admitted and not yet answered.
pub(super) struct UnansweredWrite<T> {
    /// The recipient of the answer.
    pub(super) reply: T,
    pub(super) receipt: WriteReceipt,
    /// The level at which it is answered.
    pub(super) level: AckLevel,
    /// True if the request named the level itself, and expects an error when it is not reached.
    pub(super) is_strict: bool,
}

/// A write that is applied and waits for its level.
struct PendingAck<T> {
    write: UnansweredWrite<T>,
    since: Monotonic,
}

impl<T> PendingAck<T> {
    fn sequence(&self) -> Sequence {
        self.write.receipt.position.sequence
    }
}

/// All answers that wait, first in first out in each level. A write that is downgraded for want of replicas goes to
/// the end of the lower level's queue, so that queue may be slightly out of order.
pub(super) struct PendingAcks<T> {
    queues: [VecDeque<PendingAck<T>>; AckLevel::ALL.len()],
    /// Time that an answer waits for replicas, in milliseconds.
    patience_ms: u64,
    /// The progress of the replicas.
    pub(super) progress: AckProgress,
}

/// An answer that is due.
pub(super) type DueAnswer<T> = (T, Result<WriteReceipt, WriteError>);

impl<T> PendingAcks<T> {
    pub(super) fn new(patience_ms: u64) -> Self {
        Self { queues: Default::default(), patience_ms, progress: AckProgress::default() }
    }

    /// Lets a write wait, from now on, until its level is reached.
    pub(super) fn add(&mut self, write: UnansweredWrite<T>, since: Monotonic) {
        self.queues[write.level as usize].push_back(PendingAck { write, since });
    }

    /// Returns whether an answer at this level is due once `synced` is synced.
    pub(super) fn is_reached(&self, level: AckLevel, sequence: Sequence, mut synced: Sequence) -> bool {
        let Self { progress, .. } = self;
        inject!(AnswersARecordTooEarly, synced += 1);
        (!level.wants_sync() || sequence <= synced)
            && (!level.wants_replica() || sequence <= progress.applied())
            && (level != AckLevel::ReplicaDisk || sequence <= progress.synced())
    }

    /// Takes out what is due at `now`: what has reached its level, and what need not wait any longer.
    pub(super) fn due(&mut self, synced: Sequence, now: Monotonic, due: &mut Vec<DueAnswer<T>>) {
        for level in AckLevel::ALL {
            while let Some(first) = self.queues[level as usize].front() {
                if self.is_reached(level, first.sequence(), synced) {
                    let PendingAck { write, .. } = self.take(level);
                    due.push((write.reply, Ok(self.with_acks(write.receipt))));
                } else if level.wants_replica() && (self.is_overdue(first, now) || !self.may_reach(level)) {
                    self.give_up(level, synced, due);
                } else {
                    break;
                }
            }
        }
    }

    fn is_overdue(&self, waiter: &PendingAck<T>, now: Monotonic) -> bool {
        now.since_ms(waiter.since) >= self.patience_ms
    }

    /// The replicas do not do what the first one at this level wants.
    fn give_up(&mut self, level: AckLevel, synced: Sequence, due: &mut Vec<DueAnswer<T>>) {
        let waiter = self.take(level);
        let without = level.without_replicas();
        let is_reached = self.is_reached(without, waiter.sequence(), synced);
        let receipt = self.with_acks(waiter.write.receipt);
        // A request that named its level gets an error although it is applied: a 202 would state a level that was not
        // reached.
        if waiter.write.is_strict {
            let error = WriteError::NotReplicated { level, position: receipt.position };
            due.push((waiter.write.reply, Err(error)));
        } else if is_reached {
            due.push((waiter.write.reply, Ok(receipt)));
        } else {
            // It may wait behind later records for a moment. Putting it in its place would cost a search for each of
            // them, at the very time when all have to change over.
            self.queues[without as usize].push_back(waiter);
        }
    }

    fn take(&mut self, level: AckLevel) -> PendingAck<T> {
        self.queues[level as usize].pop_front().expect("it was looked at")
    }

    /// Returns whether a replica is connected that can fulfil this level.
    fn may_reach(&self, level: AckLevel) -> bool {
        self.progress.may_ack(level == AckLevel::ReplicaDisk)
    }

    /// The receipt, with the replicas that have applied it by now.
    pub(super) fn with_acks(&self, receipt: WriteReceipt) -> WriteReceipt {
        // Before the first record, every replica would count as one that has applied it.
        WriteReceipt { acks: self.progress.acks(receipt.position.sequence.max(1)), ..receipt }
    }

    /// Takes out everything: nothing of it will be reached.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> {
        std::mem::take(&mut self.queues).into_iter().flatten().map(|waiter| waiter.write.reply)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Returns whether any answer waits for the leader's own sync.
    pub(super) fn want_sync(&self) -> bool {
        AckLevel::ALL.iter().any(|&level| level.wants_sync() && !self.queues[level as usize].is_empty())
    }

    /// Returns whether any answer waits for a replica's sync.
    pub(super) fn want_replica_sync(&self) -> bool {
        !self.queues[AckLevel::ReplicaDisk as usize].is_empty()
    }

    /// Gives the time at which the first answer is given up.
    pub(super) fn next(&self) -> Option<Monotonic> {
        // The first of each queue came first, so none behind it runs out of time earlier.
        let firsts = AckLevel::ALL.iter().filter(|level| level.wants_replica());
        firsts
            .filter_map(|&level| self.queues[level as usize].front())
            .map(|waiter| waiter.since.after_ms(self.patience_ms))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::position::Position;

    #[test]
    fn the_first_answer_that_waits_for_a_replica_says_when_to_look_again() {
        let ms = Monotonic::from_ms;
        let mut waiting = PendingAcks::new(1_000);
        let receipt = WriteReceipt { words: 1, distinct: 1, ..WriteReceipt::at(Position::new(1, 1)) };
        assert_eq!(waiting.next(), None);
        let add = |waiting: &mut PendingAcks<u32>, level, since| {
            waiting.add(UnansweredWrite { reply: 1, receipt, level, is_strict: false }, ms(since));
        };
        add(&mut waiting, AckLevel::Disk, 5);
        assert_eq!(waiting.next(), None, "a sync has no deadline");
        add(&mut waiting, AckLevel::Replica, 40);
        add(&mut waiting, AckLevel::ReplicaDisk, 30);
        assert_eq!(waiting.next(), Some(ms(1_030)));
    }
}
