//! Values from an origin: the leader's decisions, with a real Writer behind them, in every order of events.

use crate::writer::node::{Node, Options, add};
use memdb::{
    base::clock::{LoggedTime, Monotonic},
    base::failpoint::{Defect, inject_defect},
    base::limits::{ORIGIN_FAILURE_MS, ORIGIN_FETCHES_AT_ONCE},
    data::command::WriteBatch,
    data::entries::{CollectionId, CollectionKind, Entry, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition},
    engine::leader::{
        FetchEnd, FetchFailure, FetchOrder, KeptValue, OriginDecision, OriginFetches, OriginKey, OriginRules,
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};
use testkit::{Random, env::number_from};

const KEYS: [&str; 3] = ["a", "b", "c"];
const RULES: OriginRules = OriginRules { ttl_ms: 400, stale_while_revalidate_ms: 300, stale_if_error_ms: 600 };

fn key_of(key: &str) -> OriginKey {
    OriginKey { namespace: "data".into(), key: key.into() }
}

fn change(key: &str, op: EntryOp, condition: WriteCondition) -> WriteBatch {
    let write = EntryWrite { kind: CollectionKind::Cache, key: key.into(), op, condition };
    WriteBatch { namespace: "data".into(), entries: vec![write], ..add(&[]) }
}

fn put(key: &str, value: &str, expiry: Expiry, condition: WriteCondition) -> WriteBatch {
    let value = NewValue::new(value.to_owned().into_bytes().into(), "text/plain");
    change(key, EntryOp::Put(value, expiry), condition)
}

/// One who asked for a key, at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asker {
    key: &'static str,
    at: usize,
}

/// A fetch under way.
struct Fetch {
    order: FetchOrder,
    /// The step at which it began.
    at: usize,
    /// The answer that was brought, once it is.
    brought: Option<Result<String, FetchFailure>>,
}

/// What waits for the Writer.
enum Queued {
    /// A client's write of a key, begun at a step.
    Client(WriteBatch, &'static str, usize),
    /// The value of the fetch of this number.
    Fetched(WriteBatch, u64),
}

/// A leader's fetches, its Writer, its clients and its origin.
struct History {
    random: Random,
    node: Node,
    fetches: OriginFetches<Asker>,
    under_way: Vec<Fetch>,
    queue: VecDeque<Queued>,
    /// The last step at which a client has begun to write a key, and at which a write of a client was stored.
    write_begun: BTreeMap<&'static str, usize>,
    write_stored: BTreeMap<&'static str, usize>,
    failed: BTreeMap<&'static str, (u64, FetchFailure)>,
    waiting: Vec<Asker>,
    step: usize,
    answered: usize,
}

impl History {
    fn new(seed: u64) -> Self {
        let (under_way, queue, write_begun, write_stored, failed, waiting) = Default::default();
        Self {
            random: Random::new(seed),
            node: Node::new(Options::default()),
            fetches: OriginFetches::default(),
            under_way,
            queue,
            write_begun,
            write_stored,
            failed,
            waiting,
            step: 0,
            answered: 0,
        }
    }

    fn held(&self, key: &str) -> Option<Entry> {
        let collection = CollectionId::new(CollectionKind::Cache, "data");
        self.node.store().reader().read().entry(collection, key)
    }

    fn kept(&self, key: &str) -> Option<KeptValue> {
        let now = LoggedTime::from_ms(self.node.now_ms); // the clocks of the node begin alike
        let entry = self.held(key).filter(|entry| !entry.has_expired(now))?;
        let left_ms = entry.expires().map(|expires| expires.since_ms(now));
        Some(KeptValue { version: entry.version(), stale_since_ms: RULES.stale_since_ms(left_ms) })
    }

    fn ask(&mut self) {
        let key = *self.random.pick(&KEYS);
        let asker = Asker { key, at: self.step };
        let kept = self.kept(key);
        let now = Monotonic::from_ms(self.node.now_ms);
        let decision = self.fetches.ask(&RULES, (&key_of(key), kept), now, || asker);
        let is_stale = kept.is_some_and(|kept| kept.stale_since_ms.is_some());
        match decision {
            OriginDecision::ServeFresh => assert!(kept.is_some() && !is_stale, "{key} is fresh"),
            OriginDecision::ServeStale => assert!(is_stale, "{key} is stale"),
            OriginDecision::Wait => self.waiting.push(asker),
            OriginDecision::ServeStaleAndFetch(order) => {
                assert!(is_stale, "{key} is stale");
                self.begin(key, order);
            }
            OriginDecision::Fetch(order) => {
                self.waiting.push(asker);
                self.begin(key, order);
            }
            OriginDecision::Failed(failure) => {
                let (at_ms, last) = self.failed.get(key).expect("it has failed before");
                assert!(*last == failure && self.node.now_ms - at_ms < ORIGIN_FAILURE_MS, "{key}: {failure}");
            }
            OriginDecision::TooMany => panic!("three keys are few"),
        }
    }

    fn begin(&mut self, key: &'static str, order: FetchOrder) {
        assert_eq!(order.key, key_of(key));
        let written = self.write_begun.get(key).copied().unwrap_or_default();
        let others = self.under_way.iter().filter(|fetch| fetch.order.key == order.key && fetch.at > written);
        assert_eq!(others.count(), 0, "{key} is fetched twice at once");
        if let Some((at_ms, failure)) = self.failed.get(key) {
            let since_ms = self.node.now_ms - at_ms;
            assert!(since_ms >= ORIGIN_FAILURE_MS, "{key} is fetched {since_ms} ms after it failed: {failure}");
        }
        self.under_way.push(Fetch { order, at: self.step, brought: None });
    }

    /// The origin answers a fetch.
    fn bring(&mut self) {
        let open: Vec<usize> = (0..self.under_way.len()).filter(|&at| self.under_way[at].brought.is_none()).collect();
        if open.is_empty() {
            return;
        }
        let Fetch { order, at, brought } = &mut self.under_way[*self.random.pick(&open)];
        let key = KEYS.iter().find(|key| ***key == *order.key.key).expect("a key");
        let answer = match self.random.below(10) {
            0 => Err(FetchFailure::NotFound),
            1 => Err(FetchFailure::TimedOut),
            2 => Err(FetchFailure::Failed("down".into())),
            _ => Ok(format!("{key}@{at}")),
        };
        let now = Monotonic::from_ms(self.node.now_ms);
        let failure = answer.as_ref().err();
        let is_current = self.write_begun.get(key).copied().unwrap_or_default() < *at;
        if let Some(failure) = failure.filter(|_| is_current) {
            self.failed.insert(key, (self.node.now_ms, failure.clone()));
        }
        let leased = || WriteCondition::Leased(order.lease.clone());
        let batch = match self.fetches.ended(order.id, failure, now) {
            FetchEnd::Store => {
                let value = answer.clone().unwrap_or_else(|failure| failure.to_string());
                Some(put(key, &value, Expiry::AfterMs(RULES.kept_ms()), leased()))
            }
            FetchEnd::Remove => Some(change(key, EntryOp::Remove, leased())),
            FetchEnd::Nothing => None,
        };
        let id = order.id;
        *brought = Some(answer);
        match batch {
            Some(batch) => self.queue.push_back(Queued::Fetched(batch, id)),
            None => self.settle(id),
        }
    }

    /// A client begins to write a key.
    fn write(&mut self) {
        let key = *self.random.pick(&KEYS);
        self.fetches.written(&key_of(key));
        self.write_begun.insert(key, self.step);
        self.failed.remove(key);
        let batch = match self.random.percent(30) {
            true => put(key, &format!("{key}@{}", self.step), Expiry::AfterMs(5_000), WriteCondition::Always),
            false => change(key, EntryOp::Remove, WriteCondition::Always),
        };
        self.queue.push_back(Queued::Client(batch, key, self.step));
    }

    /// The Writer takes what is next in its queue.
    fn take(&mut self) {
        match self.queue.pop_front() {
            None => {}
            Some(Queued::Client(batch, key, at)) => {
                self.node.one(batch).expect("nothing forbids it");
                self.write_stored.insert(key, at);
            }
            Some(Queued::Fetched(batch, id)) => {
                let _ = self.node.one(batch); // its lease may have ended
                self.settle(id);
            }
        }
        for key in KEYS {
            let Some(entry) = self.held(key) else { continue };
            let value = String::from_utf8(entry.value().into_owned()).expect("text");
            let (of, at) = value.split_once('@').unwrap_or_else(|| panic!("{key} holds what is no value: {value}"));
            assert_eq!(of, key, "a value of another key");
            let deleted = self.write_stored.get(key).copied().unwrap_or_default();
            assert!(at.parse::<usize>().expect("a step") >= deleted, "{key} holds {value}, written over at {deleted}");
        }
    }

    fn settle(&mut self, id: u64) {
        let at = self.under_way.iter().position(|fetch| fetch.order.id == id).expect("it is under way");
        let fetch = self.under_way.remove(at);
        for asker in self.fetches.settled(id) {
            assert_eq!(*asker.key, *fetch.order.key.key, "whoever asks for one key gets the answer of another");
            let at = self.waiting.iter().position(|waiting| *waiting == asker).expect("it waits, and is answered once");
            self.waiting.remove(at);
            self.answered += 1;
            let written = self.write_begun.get(asker.key).copied().unwrap_or_default();
            assert!(
                asker.at < written || fetch.at > written,
                "{asker:?} asked behind a write of what was fetched before"
            );
        }
    }

    fn run(mut self, steps: usize) -> usize {
        for step in 1..=steps {
            self.step = step;
            match self.random.below(100) {
                0..45 => self.ask(),
                45..60 => self.bring(),
                60..70 => self.write(),
                70..90 => self.take(),
                _ => {
                    self.node.now_ms += self.random.below(250) as u64;
                    self.node.tick();
                }
            }
        }
        while !self.under_way.is_empty() || !self.queue.is_empty() {
            self.step += 1;
            self.bring();
            self.take();
        }
        assert_eq!((self.fetches.load(), self.waiting.len()), ((0, 0), 0), "everyone was answered");
        self.answered
    }
}

fn seeds() -> u64 {
    number_from("MEMDB_SIM_SEEDS").unwrap_or(60)
}

#[test]
fn a_key_is_fetched_once_and_nothing_is_stored_behind_a_write_in_any_order_of_events() {
    let answered: usize = (0..seeds()).map(|seed| History::new(seed).run(400)).sum();
    assert!(answered as u64 > 10 * seeds(), "reads wait for fetches: {answered}");
}

#[test]
fn defects_of_the_fetches_are_found() {
    for defect in [
        Defect::FetchesTwice,
        Defect::StoresBehindADelete,
        Defect::KeepsAFailureAsAValue,
        Defect::ServesAnotherKeysAnswer,
        Defect::ForgetsFailures,
    ] {
        let _injected = inject_defect(Some(defect));
        let is_found = |seed| catch_unwind(AssertUnwindSafe(|| History::new(seed).run(400))).is_err();
        assert!((0..seeds()).any(is_found), "{defect:?} is not found");
    }
}

#[test]
fn fetches_and_failures_are_bounded() {
    let mut fetches = OriginFetches::<usize>::default();
    let ask = |fetches: &mut OriginFetches<usize>, number: usize, ms| {
        let key = key_of(&number.to_string());
        fetches.ask(&RULES, (&key, None), Monotonic::from_ms(ms), || number)
    };
    let mut orders = Vec::new();
    for number in 0..ORIGIN_FETCHES_AT_ONCE {
        let OriginDecision::Fetch(order) = ask(&mut fetches, number, 0) else { panic!("{number} has a place") };
        orders.push(order);
    }
    assert!(matches!(ask(&mut fetches, ORIGIN_FETCHES_AT_ONCE, 0), OriginDecision::TooMany));
    assert!(matches!(ask(&mut fetches, 0, 0), OriginDecision::Wait), "one under way has room for others");
    assert_eq!(fetches.ended(orders[0].id, Some(&FetchFailure::TimedOut), Monotonic::from_ms(5)), FetchEnd::Nothing);
    assert_eq!(fetches.settled(orders[0].id), [0, 0]);
    assert_eq!(fetches.settled(orders[0].id), [0; 0], "once");
    assert!(matches!(ask(&mut fetches, 0, 4 + ORIGIN_FAILURE_MS), OriginDecision::Failed(FetchFailure::TimedOut)));
    assert!(matches!(ask(&mut fetches, 0, 5 + ORIGIN_FAILURE_MS), OriginDecision::Fetch(_)));
}

#[test]
fn a_stale_value_is_served_as_long_as_its_rules_say() {
    let rules = OriginRules { ttl_ms: 100, stale_while_revalidate_ms: 10, stale_if_error_ms: 50 };
    assert_eq!((rules.kept_ms(), rules.stale_ms()), (150, 50));
    assert_eq!(
        [Some(51), Some(50), Some(1), None].map(|left| rules.stale_since_ms(left)),
        [None, Some(0), Some(49), None]
    );
    let none = OriginRules { stale_while_revalidate_ms: 0, stale_if_error_ms: 0, ..rules };
    assert_eq!([Some(1), None].map(|left| none.stale_since_ms(left)), [None, None]);
    let key = key_of("a");
    let kept = |since| Some(KeptValue { version: 1, stale_since_ms: Some(since) });
    let now = Monotonic::from_ms(0);
    let mut fetches = OriginFetches::<()>::default();
    let OriginDecision::ServeStaleAndFetch(order) = fetches.ask(&rules, (&key, kept(9)), now, || ()) else {
        panic!("it is served while it is fetched")
    };
    assert!(matches!(fetches.ask(&rules, (&key, kept(9)), now, || ()), OriginDecision::ServeStale));
    assert!(matches!(fetches.ask(&rules, (&key, kept(10)), now, || ()), OriginDecision::Wait));
    fetches.ended(order.id, Some(&FetchFailure::TimedOut), now);
    fetches.settled(order.id);
    assert!(matches!(fetches.ask(&rules, (&key, kept(49)), now, || ()), OriginDecision::ServeStale));
    assert!(matches!(fetches.ask(&rules, (&key, kept(50)), now, || ()), OriginDecision::Failed(_)));
    fetches.written(&key);
    let OriginDecision::Fetch(order) = fetches.ask(&rules, (&key, kept(10)), now, || ()) else { panic!("forgotten") };
    assert_eq!(
        fetches.ended(order.id, Some(&FetchFailure::NotFound), now),
        FetchEnd::Remove,
        "the origin has it no more"
    );
    fetches.settled(order.id);
    assert!(matches!(fetches.ask(&rules, (&key, kept(5)), now, || ()), OriginDecision::Failed(FetchFailure::NotFound)));
}
