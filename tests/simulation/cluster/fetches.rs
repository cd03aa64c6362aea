//! Reads through to an origin that answers, has no such value, fails, and takes its time.
//!
//! A leader's fetches are decided by the real state machine. What it decides is held to what was asked here: a value is
//! for the key that was asked for, no older than a write that was sent before somebody asked, and stored only if no
//! write of its key was sent since it was fetched. Whoever asks a follower is passed on, and asks the leader here.

use super::{network::Place, simulation::Cluster};
use crate::{
    client::Wish,
    entries::{Asks, CACHE_KEYS, EntryWish, Lease, Needs},
};
use memdb::{
    base::clock::Monotonic,
    base::limits,
    data::counts::WriteOp,
    data::entries::{CollectionId, CollectionKind},
    engine::leader::{
        AckLevel, FetchEnd, FetchFailure, FetchOrder, KeptValue, OriginDecision, OriginFetches, OriginKey, OriginRules,
        WriteError, WriteReceipt,
    },
};
use std::{collections::BTreeMap, sync::Arc};
use testkit::Random;

/// Of a hundred histories with entries, in so many there is an origin.
pub const WITH_ORIGIN: usize = 60;

/// The origin, and the clients that read through to it.
pub struct Origin {
    random: Random,
    rules: OriginRules,
    /// Values that it has given.
    given: u64,
    next_ask: usize,
}

/// The fetches of one leader.
#[derive(Default)]
pub struct LeaderFetches {
    core: OriginFetches<usize>,
    running: BTreeMap<u64, Running>,
    /// Values on their way to the store, by the attempt that writes them.
    storing: BTreeMap<usize, u64>,
    /// Who waits for what: the key, and how many writes of it were sent before.
    asks: BTreeMap<usize, (String, u64)>,
    /// How many writes of a key were sent to this leader.
    written: BTreeMap<String, u64>,
    /// When the origin gave no value last, and how many writes of the key were sent before.
    failed: BTreeMap<String, (Monotonic, u64)>,
}

struct Running {
    order: FetchOrder,
    written: u64,
    lease: Lease,
    /// What it has brought.
    value: Option<String>,
}

impl Origin {
    pub fn new(mut random: Random) -> Self {
        let ms = |random: &mut Random| *random.pick(&[0, 50, 2_000, 60_000]);
        let rules = OriginRules {
            ttl_ms: *random.pick(&[20, 500, 60_000]),
            stale_while_revalidate_ms: ms(&mut random),
            stale_if_error_ms: ms(&mut random),
        };
        Self { random, rules, given: 0, next_ask: 0 }
    }
}

impl LeaderFetches {
    fn written(&self, key: &str) -> u64 {
        self.written.get(key).copied().unwrap_or(0)
    }

    /// A write is about to be handed to the Writer.
    pub fn before_write(&mut self, wish: &Wish) {
        let is_cached = |wish: &&EntryWish| wish.kind == CollectionKind::Cache && wish.needs.lease().is_none();
        for EntryWish { key, .. } in wish.entries.iter().filter(is_cached) {
            if wish.namespace == "words" {
                *self.written.entry(key.clone()).or_default() += 1;
                self.running.values().filter(|running| *running.order.key.key == **key).for_each(|running| {
                    running.lease.end();
                });
            }
            self.core.written(&OriginKey { namespace: wish.namespace.into(), key: key.as_str().into() });
        }
    }

    /// A fetch is made that somebody has ordered: no other is under way that would do, nor has one failed just now.
    fn begin(&mut self, order: FetchOrder, now: Monotonic) -> Result<(), String> {
        let (key, id) = (order.key.key.to_string(), order.id);
        let written = self.written(&key);
        if let Some(other) =
            self.running.values().find(|other| *other.order.key.key == *key && other.written == written)
        {
            return Err(format!("{key:?} is fetched by {id} while {} fetches it", other.order.id));
        }
        let failed = self.failed.get(&key).filter(|(_, before)| *before == written);
        if failed.is_some_and(|(at, _)| now.since_ms(*at) < limits::ORIGIN_FAILURE_MS) {
            return Err(format!("{key:?} is fetched again, and it failed a moment ago"));
        }
        let lease = Lease::new(order.lease.clone());
        self.running.insert(id, Running { order, written, lease, value: None });
        Ok(())
    }

    /// A fetch is over: whoever waits has its answer.
    fn settle(&mut self, id: u64) -> Result<usize, String> {
        let Running { order, written, value, .. } = self.running.remove(&id).expect("it is under way");
        let waiters = self.core.settled(id);
        for waiter in &waiters {
            let Some((key, before)) = self.asks.remove(waiter) else {
                return Err(format!("{waiter} is answered twice"));
            };
            if *order.key.key != *key {
                return Err(format!("{waiter} has asked for {key:?}, and is answered with {:?}", order.key.key));
            }
            if written < before {
                return Err(format!("{waiter} is answered with {value:?} of before a write of {key:?}"));
            }
        }
        Ok(waiters.len())
    }
}

impl Cluster {
    /// Somebody reads through at a leader, or the origin answers it.
    pub fn go_on_with_fetches(&mut self, at: Place) -> Result<(), String> {
        match self.origin.as_mut().map(|origin| origin.random.below(100)) {
            Some(0..25) => self.read_through(at),
            Some(25..50) => self.origin_answers(at),
            _ => Ok(()),
        }
    }

    fn read_through(&mut self, at: Place) -> Result<(), String> {
        let (now, logged) = (self.monotonic(at), self.nodes[at].logged.expect("it leads"));
        let origin = self.origin.as_mut().expect("there is one");
        let key = *origin.random.pick(&CACHE_KEYS);
        let (rules, ask) = (origin.rules, origin.next_ask);
        origin.next_ask += 1;
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        let time = logged.read(now);
        let held = leader.reader.read().entry(CollectionId::new(CollectionKind::Cache, "words"), key);
        let kept = held.filter(|entry| !entry.has_expired(time)).map(|entry| {
            let left_ms = entry.expires().map(|expires| expires.since_ms(time));
            KeptValue { version: entry.version(), stale_since_ms: rules.stale_since_ms(left_ms) }
        });
        let fetches = &mut leader.fetches;
        let of = OriginKey { namespace: "words".into(), key: key.into() };
        let decision = fetches.core.ask(&rules, (&of, kept), now, || ask);
        let waits = matches!(decision, OriginDecision::Wait | OriginDecision::Fetch(_));
        if waits {
            fetches.asks.insert(ask, (key.to_owned(), fetches.written(key)));
        }
        let what = match decision {
            OriginDecision::ServeFresh if kept.is_some_and(|kept| kept.stale_since_ms.is_none()) => "values served",
            OriginDecision::ServeStale if kept.is_some() => "stale values served",
            OriginDecision::ServeStaleAndFetch(order) if kept.is_some() => {
                fetches.begin(order, now)?;
                "stale values served"
            }
            OriginDecision::Wait => "reads that wait for a fetch under way",
            OriginDecision::Fetch(order) => {
                fetches.begin(order, now)?;
                "fetches that a read waits for"
            }
            OriginDecision::Failed(_) if fetches.failed.contains_key(key) => "failures remembered",
            decision => return Err(format!("{key:?}, of which there is {kept:?}: {decision:?}")),
        };
        self.note(format_args!("read {ask} through at {at}: {key:?}: {what}"));
        self.tally(what);
        Ok(())
    }

    /// One of the fetches of a leader has come to its end.
    fn origin_answers(&mut self, at: Place) -> Result<(), String> {
        let now = self.monotonic(at);
        let origin = self.origin.as_mut().expect("there is one");
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        let fetches = &mut leader.fetches;
        let is_stored = |id: &u64| fetches.storing.values().any(|storing| storing == id);
        let under_way: Vec<u64> = fetches.running.keys().copied().filter(|id| !is_stored(id)).collect();
        if under_way.is_empty() {
            return Ok(());
        }
        let id = *origin.random.pick(&under_way);
        let failure = match origin.random.below(100) {
            0..60 => None,
            60..80 => Some(FetchFailure::NotFound),
            80..90 => Some(FetchFailure::TimedOut),
            _ => Some(FetchFailure::Failed("503".into())),
        };
        origin.given += 1;
        let (given, kept_ms) = (origin.given, origin.rules.kept_ms());
        let end = fetches.core.ended(id, failure.as_ref(), now);
        let written = |key: &str| fetches.written.get(key).copied().unwrap_or(0);
        let running = fetches.running.get_mut(&id).expect("it is under way");
        let key = running.order.key.key.to_string();
        let is_current = running.written == written(&key);
        if failure.is_some() && is_current {
            fetches.failed.insert(key.clone(), (now, running.written));
        }
        let asks = match (end, &failure) {
            (FetchEnd::Store, None) => {
                let value = format!("{key} {given}");
                running.value = Some(value.clone());
                let value: Arc<[u8]> = value.into_bytes().into();
                Asks::Put { value, content_type: "", counts: false, ttl_ms: Some(kept_ms) }
            }
            (FetchEnd::Remove, Some(FetchFailure::NotFound)) => Asks::Remove,
            (FetchEnd::Nothing, Some(_)) => {
                let answered = fetches.settle(id)?;
                self.note(format_args!("fetch {id} of {at} failed: {failure:?}, {answered} wait"));
                self.tally("fetches that failed");
                return Ok(());
            }
            (end, failure) => return Err(format!("fetch {id} has ended with {failure:?}: {end:?}")),
        };
        let needs = Needs::Unwritten(running.lease.clone());
        let entry = EntryWish { kind: CollectionKind::Cache, key, asks, needs };
        let attempt = self.next_attempt;
        fetches.storing.insert(attempt, id);
        self.clients
            .wishes
            .push(Wish { entries: [entry].into(), ..Wish::new("words", WriteOp::Add, Vec::new(), None) });
        self.send_at(at, self.clients.wishes.len() - 1, Some(AckLevel::Leader));
        Ok(())
    }

    /// A value was stored, or was not: who waits for it has it all the same.
    pub fn fetch_is_stored(
        &mut self,
        at: Place,
        attempt: usize,
        answer: &Result<WriteReceipt, WriteError>,
    ) -> Result<(), String> {
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        let Some(id) = leader.fetches.storing.remove(&attempt) else { return Ok(()) };
        let answered = leader.fetches.settle(id)?;
        self.note(format_args!("fetch {id} of {at} is over, {answered} wait"));
        self.tally(match answer {
            Ok(_) => "values of the origin stored",
            Err(WriteError::PreconditionFailed) => "values of the origin that a write has overtaken",
            Err(_) => "values of the origin not stored",
        });
        Ok(())
    }
}
