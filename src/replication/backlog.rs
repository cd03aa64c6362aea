//! The newest records in memory, from which connected replicas are served.

use crate::{base::failpoint::inject, base::position::Sequence};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::watch;

/// Records as they are in the log, the newest so many bytes of them. One thread puts them in, many take.
pub struct ReplicationBacklog {
    ring: Mutex<BacklogRing>,
    last: watch::Sender<Sequence>,
    /// Replicas that take records from here.
    followed: AtomicUsize,
}

/// A replica that takes records from memory, until it is dropped.
pub struct BacklogFollower<'a>(&'a AtomicUsize);

impl Drop for BacklogFollower<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct BacklogRing {
    records: VecDeque<Bytes>,
    /// The sequence of the last one.
    last: Sequence,
    bytes: usize,
    most_bytes: usize,
    /// As `most_bytes`, while no replica follows.
    most_idle_bytes: usize,
}

/// The records behind a sequence, as far as they are in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BacklogRead {
    /// The records that follow it, at least one.
    Records(Vec<Bytes>),
    /// No later record.
    Nothing,
    /// Not in memory any more, or never was: look in the log.
    Gone,
}

impl ReplicationBacklog {
    /// Keeps up to `most_bytes` of what comes after the record `last`.
    pub fn new(last: Sequence, most_bytes: usize) -> Self {
        let records = VecDeque::new();
        let ring = BacklogRing { records, last, bytes: 0, most_bytes, most_idle_bytes: most_bytes };
        Self { ring: Mutex::new(ring), last: watch::Sender::new(last), followed: AtomicUsize::new(0) }
    }

    /// Keeps less while no replica follows: of a node that has the records in its log too, for whoever comes.
    #[must_use]
    pub fn keep_idle(mut self, most_idle_bytes: usize) -> Self {
        self.ring.get_mut().most_idle_bytes = most_idle_bytes;
        self
    }

    /// Puts in the next record.
    ///
    /// # Panics
    /// If it is not the next.
    pub fn push(&self, sequence: Sequence, record: Bytes) {
        let mut ring = self.ring.lock();
        assert_eq!(sequence, ring.last + 1, "records come in order");
        ring.last = sequence;
        ring.bytes += record.len();
        ring.records.push_back(record);
        // A record that is larger than the bound leaves at once, and is read from the log.
        let is_followed = self.followed.load(Ordering::Relaxed) > 0;
        let most_bytes = if is_followed { ring.most_bytes } else { ring.most_idle_bytes };
        while ring.bytes > most_bytes
            && let Some(oldest) = ring.records.pop_front()
        {
            ring.bytes -= oldest.len();
        }
        // Whoever is woken takes this lock next.
        drop(ring);
        // `send` would fail, and leave the old number, while nobody is subscribed.
        self.last.send_replace(sequence);
    }

    /// Forgets everything: what comes next follows the record `last`.
    pub fn restart(&self, last: Sequence) {
        let mut ring = self.ring.lock();
        ring.records.clear();
        (ring.bytes, ring.last) = (0, last);
        drop(ring);
        self.last.send_replace(last);
    }

    /// The records behind `after`: up to about `most_bytes`, and at least one.
    pub fn since(&self, after: Sequence, most_bytes: usize) -> BacklogRead {
        let ring = self.ring.lock();
        if after == ring.last {
            return BacklogRead::Nothing;
        }
        let first = ring.last + 1 - ring.records.len() as Sequence;
        if after > ring.last || after + 1 < first {
            return BacklogRead::Gone;
        }
        let mut bytes = 0;
        let mut start = (after + 1 - first) as usize;
        inject!(SkipsOneInTheFeed, start += 1);
        let wanted = ring.records.range(start..).take_while(|record| {
            // The first always, however large: a replica that needs it would never get on otherwise.
            let room = bytes == 0 || bytes + record.len() <= most_bytes;
            bytes += record.len();
            room
        });
        BacklogRead::Records(wanted.cloned().collect())
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.ring.lock().bytes
    }

    /// Keeps all that is to be kept for a replica, as long as what this gives is held.
    pub fn follow(&self) -> BacklogFollower<'_> {
        self.followed.fetch_add(1, Ordering::Relaxed);
        BacklogFollower(&self.followed)
    }

    /// Tells whoever waits that a record has come.
    pub fn subscribe(&self) -> watch::Receiver<Sequence> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(since: BacklogRead) -> Vec<u8> {
        match since {
            BacklogRead::Records(records) => records.iter().map(|record| record[0]).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn gives_what_follows_and_says_what_is_gone() {
        let feed = ReplicationBacklog::new(7, 30);
        assert_eq!(feed.since(7, 100), BacklogRead::Nothing);
        assert_eq!(feed.since(6, 100), BacklogRead::Gone);
        for sequence in 8..=12_u8 {
            feed.push(sequence.into(), Bytes::from(vec![sequence; 10]));
        }
        assert_eq!(feed.bytes(), 30, "the oldest two were forgotten");
        assert_eq!(feed.since(8, 100), BacklogRead::Gone);
        assert_eq!(records(feed.since(9, 100)), [10, 11, 12]);
        assert_eq!(records(feed.since(11, 100)), [12]);
        assert_eq!(feed.since(12, 100), BacklogRead::Nothing);
        assert_eq!(feed.since(13, 100), BacklogRead::Gone, "the leader never wrote it");
    }

    #[test]
    fn less_is_kept_while_no_replica_follows() {
        let feed = ReplicationBacklog::new(0, 30).keep_idle(10);
        let push = |sequence: u8| feed.push(sequence.into(), Bytes::from(vec![sequence; 10]));
        (1..=3).for_each(push);
        assert_eq!((feed.bytes(), feed.since(1, 100)), (10, BacklogRead::Gone));
        let (_subscribed, follower) = (feed.subscribe(), feed.follow());
        (4..=6).for_each(push);
        assert_eq!((feed.bytes(), records(feed.since(3, 100))), (30, vec![4, 5, 6]));
        drop(follower);
        push(7);
        assert_eq!((feed.bytes(), records(feed.since(6, 100))), (10, vec![7]));
    }

    #[test]
    fn a_bound_on_bytes_lets_at_least_one_through() {
        let feed = ReplicationBacklog::new(0, 1_000);
        for sequence in 1..=3_u8 {
            feed.push(sequence.into(), Bytes::from(vec![sequence; 10]));
        }
        assert_eq!(records(feed.since(0, 1)), [1]);
        assert_eq!(records(feed.since(0, 20)), [1, 2]);
        assert_eq!(records(feed.since(0, 29)), [1, 2]);
    }

    #[test]
    fn one_record_larger_than_the_ring_is_not_kept() {
        let feed = ReplicationBacklog::new(0, 5);
        feed.push(1, Bytes::from_static(b"longer than five"));
        assert_eq!(
            (feed.since(0, 100), feed.since(1, 100), feed.bytes()),
            (BacklogRead::Gone, BacklogRead::Nothing, 0)
        );
    }
}
