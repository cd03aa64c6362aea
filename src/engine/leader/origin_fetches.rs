//! The leader's side of read-through: who fetches a value from the origin, who waits for it, and what is served
//! meanwhile.
//!
//! A state machine without I/O. It is told who asks for a key, what the store holds of it, how a fetch has ended, and
//! who writes a key; it answers with decisions. One fetch at a time runs for a key. It begins with a lease on its key
//! ([`WriteLease`]), which the next write of that key ends, so that no value is stored that is older than a delete. A
//! fetch that has lost its lease goes on for those who wait for it already; whoever asks later begins another one.
//!
//! It lives as long as its leader leads: a fetch ends with the epoch.

use crate::{
    base::clock::Monotonic, base::failpoint::inject, base::limits, base::position::Sequence, data::entries::WriteLease,
};
use std::{
    collections::{HashMap, VecDeque},
    mem,
};

/// The key of a value that has an origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginKey {
    /// The namespace of its collection.
    pub namespace: Box<str>,
    /// The key in it.
    pub key: Box<str>,
}

/// The rules of values that have an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginRules {
    /// Time for which a value is fresh, in milliseconds.
    pub ttl_ms: u64,
    /// Time behind that in which it is served while a fresh one is fetched, in milliseconds.
    pub stale_while_revalidate_ms: u64,
    /// Time behind that in which it is served if the origin gives none, in milliseconds.
    pub stale_if_error_ms: u64,
}

impl OriginRules {
    /// Time behind which a value is of no use to anybody, from the moment that it is stored, in milliseconds.
    pub fn kept_ms(&self) -> u64 {
        self.ttl_ms + self.stale_ms()
    }

    /// Time for which a value that is not fresh is kept, in milliseconds.
    pub fn stale_ms(&self) -> u64 {
        self.stale_while_revalidate_ms.max(self.stale_if_error_ms)
    }

    /// Returns how long ago a value ceased to be fresh that has so much time left, in milliseconds; `None`: it is
    /// fresh. A value that never expires has no origin, and is fresh.
    pub fn stale_since_ms(&self, left_ms: Option<u64>) -> Option<u64> {
        let left_ms = left_ms.filter(|&left_ms| left_ms <= self.stale_ms())?;
        Some(self.stale_ms() - left_ms)
    }

    /// Returns whether a value that ceased to be fresh so long ago is served at once, and fetched behind that.
    pub fn serves_at_once(&self, stale_since_ms: u64) -> bool {
        stale_since_ms < self.stale_while_revalidate_ms
    }

    /// Returns whether a value that ceased to be fresh so long ago may be served where the origin gives none.
    pub fn serves_on_error(&self, stale_since_ms: u64) -> bool {
        stale_since_ms < self.stale_if_error_ms
    }
}

/// The value that the store holds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptValue {
    /// Its version.
    pub version: Sequence,
    /// The time since it is no longer fresh, in milliseconds; `None`: it is fresh.
    pub stale_since_ms: Option<u64>,
}

/// The reason why the origin has given no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailure {
    /// It says that there is none: 404 or 410.
    #[error("the origin has no such value")]
    NotFound,
    /// It has not answered in time.
    #[error("the origin has not answered in time")]
    TimedOut,
    /// It cannot be reached, or has answered with something else.
    #[error("{0}")]
    Failed(Box<str>),
    /// Values that are being fetched take as much memory as they may: it was not waited for.
    #[error("values that are being fetched take as much memory as they may")]
    Busy,
}

/// A fetch that is to be made.
#[derive(Clone, Debug)]
pub struct FetchOrder {
    /// Its number.
    pub id: u64,
    /// The key.
    pub key: OriginKey,
    /// The right to store the value.
    pub lease: WriteLease,
}

/// The decision about one who asks.
#[derive(Debug)]
pub enum OriginDecision {
    /// What the store holds is served: it is fresh.
    ServeFresh,
    /// What the store holds is served, though it is stale. Nothing is to be done.
    ServeStale,
    /// The same, and this fetch is to be made behind it.
    ServeStaleAndFetch(FetchOrder),
    /// A fetch that is under way answers.
    Wait,
    /// This fetch is to be made, and answers.
    Fetch(FetchOrder),
    /// A fetch has failed a moment ago.
    Failed(FetchFailure),
    /// As many fetches are under way, or reads wait, as may be.
    TooMany,
}

/// The consequence of the end of a fetch for the store. Whatever it is, it is done under the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchEnd {
    /// The value is stored.
    Store,
    /// What the store holds is removed: the origin has no such value any more.
    Remove,
    /// The store stays as it is.
    Nothing,
}

/// The fetches of one leader, each with who waits for it.
pub struct OriginFetches<W> {
    /// Fetches under way.
    running: HashMap<u64, RunningFetch<W>>,
    /// Of these, the one for each key that whoever asks may wait for.
    by_key: HashMap<OriginKey, u64>,
    failures: FailureMemory,
    waiting: usize,
    next_id: u64,
}

struct RunningFetch<W> {
    key: OriginKey,
    lease: WriteLease,
    waiters: Vec<W>,
}

/// Fetches that failed a moment ago.
#[derive(Default)]
struct FailureMemory {
    by_key: HashMap<OriginKey, (Monotonic, FetchFailure)>,
    /// The keys in the order in which they failed; a key that was forgotten or has failed again may still be here.
    order: VecDeque<(Monotonic, OriginKey)>,
}

impl<W> Default for OriginFetches<W> {
    fn default() -> Self {
        let (running, by_key, failures, waiting, next_id) = Default::default();
        Self { running, by_key, failures, waiting, next_id }
    }
}

impl<W> OriginFetches<W> {
    /// Decides about one who asks for a key of which the store holds `kept`. That must have been looked up while
    /// nobody else could come here: a fetch leaves only once its value is in the store. `waiter` makes the place of
    /// whoever has to wait.
    pub fn ask(
        &mut self,
        rules: &OriginRules,
        (key, kept): (&OriginKey, Option<KeptValue>),
        now: Monotonic,
        waiter: impl FnOnce() -> W,
    ) -> OriginDecision {
        let stale_since_ms = match kept {
            Some(KeptValue { stale_since_ms: None, .. }) => return OriginDecision::ServeFresh,
            Some(KeptValue { stale_since_ms, .. }) => stale_since_ms,
            None => None,
        };
        let serves_at_once = stale_since_ms.is_some_and(|since| rules.serves_at_once(since));
        if let Some(failure) = self.failures.get(key, now) {
            // What the origin says is gone is not served on.
            let may_serve = failure != FetchFailure::NotFound
                && stale_since_ms.is_some_and(|since| serves_at_once || rules.serves_on_error(since));
            return if may_serve { OriginDecision::ServeStale } else { OriginDecision::Failed(failure) };
        }
        let mut running = self.by_key.get(key).copied();
        inject!(FetchesTwice, running = None);
        match running {
            // Served at once, whoever fetches: nobody waits for what may be answered without.
            Some(_) if serves_at_once => OriginDecision::ServeStale,
            Some(_) if self.waiting >= limits::ORIGIN_WAITING_READS => OriginDecision::TooMany,
            Some(id) => {
                self.waiting += 1;
                self.running.get_mut(&id).expect("each key's fetch is under way").waiters.push(waiter());
                OriginDecision::Wait
            }
            // All that run, those too that nobody may join: each has its connection to the origin.
            None if self.running.len() >= limits::ORIGIN_FETCHES_AT_ONCE => {
                if serves_at_once {
                    OriginDecision::ServeStale
                } else {
                    OriginDecision::TooMany
                }
            }
            None if serves_at_once => OriginDecision::ServeStaleAndFetch(self.begin(key, kept, None)),
            None if self.waiting >= limits::ORIGIN_WAITING_READS => OriginDecision::TooMany,
            None => OriginDecision::Fetch(self.begin(key, kept, Some(waiter()))),
        }
    }

    fn begin(&mut self, key: &OriginKey, kept: Option<KeptValue>, waiter: Option<W>) -> FetchOrder {
        let (id, lease) = (self.next_id, WriteLease::new(kept.map(|kept| kept.version)));
        self.next_id += 1;
        self.waiting += usize::from(waiter.is_some());
        let waiters = waiter.into_iter().collect();
        self.running.insert(id, RunningFetch { key: key.clone(), lease: lease.clone(), waiters });
        self.by_key.insert(key.clone(), id);
        FetchOrder { id, key: key.clone(), lease }
    }

    /// A fetch has come to its end. If it has failed, whoever asks for its key within a moment is told so.
    pub fn ended(&mut self, id: u64, failure: Option<&FetchFailure>, now: Monotonic) -> FetchEnd {
        let Some(fetch) = self.running.get(&id) else { return FetchEnd::Nothing };
        inject!(KeepsAFailureAsAValue, return FetchEnd::Store);
        let Some(failure) = failure else { return FetchEnd::Store };
        // A write has come since: the failure is of what was before.
        if self.by_key.get(&fetch.key) != Some(&id) {
            return FetchEnd::Nothing;
        }
        // The origin has not failed: the next who asks may find room.
        if *failure == FetchFailure::Busy {
            return FetchEnd::Nothing;
        }
        inject!(ForgetsFailures, return FetchEnd::Nothing);
        self.failures.add(fetch.key.clone(), failure.clone(), now);
        let is_gone = *failure == FetchFailure::NotFound && fetch.lease.version().is_some();
        if is_gone { FetchEnd::Remove } else { FetchEnd::Nothing }
    }

    /// A fetch is over, and what it has brought is in the store, if it is to be. Gives those who wait for it.
    pub fn settled(&mut self, id: u64) -> Vec<W> {
        let Some(mut fetch) = self.running.remove(&id) else { return Vec::new() };
        // Another may have begun behind a write, and goes on.
        if self.by_key.get(&fetch.key) == Some(&id) {
            self.by_key.remove(&fetch.key);
        }
        self.waiting -= fetch.waiters.len();
        inject!(ServesAnotherKeysAnswer, {
            if let Some(other) = self.running.values_mut().next() {
                mem::swap(&mut other.waiters, &mut fetch.waiters);
                self.waiting = self.running.values().map(|fetch| fetch.waiters.len()).sum();
            }
        });
        mem::take(&mut fetch.waiters)
    }

    /// Somebody is about to write or delete a key: a fetch that is under way stores nothing, nobody else waits for it,
    /// and what failed before is forgotten.
    pub fn written(&mut self, key: &OriginKey) {
        if let Some(fetch) = self.by_key.remove(key).and_then(|id| self.running.get(&id)) {
            fetch.lease.revoke();
        }
        // It was a failure to find what this write brings, or nobody wants to know any more.
        self.failures.by_key.remove(key);
    }

    /// Returns whether a write of a key would matter here.
    pub fn is_idle(&self) -> bool {
        self.by_key.is_empty() && self.failures.by_key.is_empty()
    }

    /// Fetches under way, and those who wait for them.
    pub fn load(&self) -> (usize, usize) {
        (self.running.len(), self.waiting)
    }
}

impl FailureMemory {
    fn get(&mut self, key: &OriginKey, now: Monotonic) -> Option<FetchFailure> {
        self.forget_old(now);
        self.by_key.get(key).map(|(_, failure)| failure.clone())
    }

    fn add(&mut self, key: OriginKey, failure: FetchFailure, now: Monotonic) {
        self.forget_old(now);
        while self.order.len() >= limits::ORIGIN_FAILURES_KEPT {
            self.forget_oldest();
        }
        // Before the map: a key is never remembered that nothing will forget.
        self.order.push_back((now, key.clone()));
        self.by_key.insert(key, (now, failure));
    }

    fn forget_old(&mut self, now: Monotonic) {
        while self.order.front().is_some_and(|(at, _)| now.since_ms(*at) >= limits::ORIGIN_FAILURE_MS) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((at, key)) = self.order.pop_front() else { return };
        // It may have failed again since.
        if self.by_key.get(&key).is_some_and(|(last, _)| *last == at) {
            self.by_key.remove(&key);
        }
    }
}
