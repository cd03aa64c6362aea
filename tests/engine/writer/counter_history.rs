//! Histories of increments drawn from seeds: restarts, appends that fail, deletes. What was accepted is counted once,
//! and no window holds more than the rate. Planted defects are found.

use super::node::{Node, Options, batch};
use memdb::{
    base::failpoint::{Defect, inject_defect},
    base::limits::KEY_WINDOW_MS,
    data::counters::{COUNTERS_STORED, CounterLimits, CounterQueue, QUEUES_STORED, WaitingKey},
    data::counts::WriteOp,
    engine::leader::{WriteError, WriterSettings},
};
use std::{collections::BTreeMap, sync::atomic::Ordering};
use testkit::Random;

const KEYS: [&str; 4] = ["a", "A", "b:/?\n", "北"];
const STEPS: usize = 120;

/// What is known of a key from the answers to its increments.
#[derive(Clone, Debug, Default)]
struct KnownKey {
    accepted: i64,
    /// Of unknown outcome.
    unknown: i64,
    /// What it held when it was taken away.
    removed: i64,
    /// What of that had not passed the rate.
    removed_excess: i64,
    /// How many had passed the rate by a time.
    passed: Vec<(u64, i64)>,
}

struct CounterHistory {
    node: Option<Node>,
    random: Random,
    options: Options,
    keys: BTreeMap<&'static str, KnownKey>,
}

/// What a key holds: its counter, and what waits in each of the queues.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    counted: i64,
    main: i64,
    excess: i64,
    stale: i64,
}

impl Held {
    fn of(node: &Node, key: &str) -> Self {
        let reader = node.store().reader();
        let mut held = Self { counted: reader.read().count(COUNTERS_STORED, key), ..Self::default() };
        if let Some(mut scan) = reader.scan(QUEUES_STORED) {
            let mut each = |word: &str, amount: i64| {
                let waiting = WaitingKey::of_word(word).expect("nothing else is there");
                assert!(amount > 0, "{word}: {amount}");
                match waiting.queue {
                    _ if waiting.key != key => {}
                    CounterQueue::Main => held.main += amount,
                    CounterQueue::Excess => held.excess += amount,
                    CounterQueue::Stale => held.stale += amount,
                    CounterQueue::Window => {}
                }
            };
            while scan.step(&mut each) {}
        }
        held
    }

    fn total(self) -> i64 {
        self.counted + self.main + self.excess + self.stale
    }
}

impl CounterHistory {
    fn new(seed: u64) -> Self {
        let mut random = Random::at_step(seed, 0);
        let bound = |random: &mut Random| *random.pick(&[1, 3, 10, 100, u64::MAX]);
        let counters = CounterLimits {
            main: bound(&mut random),
            spillover: bound(&mut random),
            key_rate: *random.pick(&[None, Some(1), Some(3), Some(10)]),
            stale_ms: *random.pick(&[None, Some(1_000), Some(5_000)]),
            workers: random.between(1, 3) as u32,
            worker_rate: *random.pick(&[None, Some(1), Some(5), Some(50)]),
        };
        let options =
            Options { writer: WriterSettings { counters, ..WriterSettings::default() }, ..Options::default() };
        Self { node: Some(Node::new(options)), random, options, keys: BTreeMap::new() }
    }

    fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("it runs")
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..45 => self.increment(false),
            45..53 => self.increment(true),
            53..90 => {
                let wait_ms = *self.random.pick(&[1, 7, 50, 400, 3_000, 11_000]);
                self.node().now_ms += wait_ms;
                self.node().tick();
            }
            90..97 => {
                let (node, options) = (self.node.take().expect("it runs"), self.options);
                self.node = Some(node.restart(options));
            }
            _ => self.remove(),
        }
        self.check()
    }

    fn increment(&mut self, fails: bool) {
        let named: Vec<&'static str> = (0..self.random.between(1, 20)).map(|_| *self.random.pick(&KEYS)).collect();
        let room = if fails { self.random.below(60) } else { usize::MAX };
        let node = self.node.as_mut().expect("it runs");
        node.disk.faults.room.store(room, Ordering::Relaxed);
        let answers = node.group(named.iter().map(|key| batch("counters", WriteOp::Increment, &[(*key, 1)])));
        node.disk.faults.room.store(usize::MAX, Ordering::Relaxed);
        for (key, answer) in named.into_iter().zip(answers) {
            let known = self.keys.entry(key).or_default();
            match answer {
                Ok(_) => known.accepted += 1,
                Err(WriteError::OutcomeUnknown) => known.unknown += 1,
                Err(_) => {}
            }
        }
    }

    fn remove(&mut self) {
        let key = *self.random.pick(&KEYS);
        let held = Held::of(self.node(), key);
        if self.node().one(batch("counters", WriteOp::RemoveCounter, &[(key, 1)])).is_ok() {
            let known = self.keys.entry(key).or_default();
            (known.removed, known.removed_excess) = (known.removed + held.total(), known.removed_excess + held.excess);
        }
    }

    /// Looks at every key: nothing is lost, nothing is doubled, and the rate holds.
    fn check(&mut self) -> Result<(), String> {
        let rate = self.options.writer.counters.key_rate;
        let node = self.node.as_ref().expect("it runs");
        for (key, known) in &mut self.keys {
            let held = Held::of(node, key);
            let (total, least) = (held.total() + known.removed, known.accepted);
            if total < least || total > least + known.unknown {
                return Err(format!("{key:?} holds {held:?}, and has had {known:?}"));
            }
            let passed = total - held.excess - known.removed_excess;
            let begin = node.now_ms.saturating_sub(KEY_WINDOW_MS - 1);
            let before = known.passed.iter().rev().find(|(at_ms, _)| *at_ms < begin).map_or(0, |(_, passed)| *passed);
            if rate.is_some_and(|rate| passed - before > rate as i64) {
                return Err(format!("{} of {key:?} have passed within a window: {known:?}", passed - before));
            }
            known.passed.push((node.now_ms, passed));
        }
        Ok(())
    }

    /// Lets everything be worked off.
    fn end(&mut self) -> Result<(), String> {
        for _ in 0..5_000 {
            let rests = self.node().store().reader().scan(QUEUES_STORED).is_none();
            if rests {
                return Ok(());
            }
            self.node().now_ms += 700;
            self.node().tick();
            self.check()?;
        }
        Err("increments wait for ever".to_owned())
    }
}

fn run(seed: u64) -> Result<(), String> {
    let mut history = CounterHistory::new(seed);
    (0..STEPS).try_for_each(|_| history.step())?;
    history.end()
}

#[test]
fn what_was_accepted_is_counted_once_in_every_history() {
    for seed in 0..300 {
        run(seed).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

#[test]
fn planted_defects_of_counters_are_found() {
    for defect in [
        Defect::LosesWhatTurnsStale,
        Defect::WorksWithoutTaking,
        Defect::AdmitsOneTooMany,
        Defect::CountsExcessBesideItsWindow,
        Defect::ForgetsWhatWaits,
        Defect::KeepsStepsOfAFailedAppend,
        Defect::RemovesTheCounterAlone,
    ] {
        let _injected = inject_defect(Some(defect));
        // A defect may be found by the product itself, which takes no more from a queue than there is.
        let holds = |seed: &u64| matches!(std::panic::catch_unwind(|| run(*seed)), Ok(Ok(())));
        let found = (0..300).find(|seed| !holds(seed));
        assert!(found.is_some(), "{defect:?} is not found within 300 seeds");
    }
}
