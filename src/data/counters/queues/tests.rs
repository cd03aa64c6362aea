//! The queues and their workers, in made-up time.

use super::*;
use std::collections::BTreeMap;

const START_MS: u64 = 1_796_071_234_500;

/// Queues with the counters that their workers add to.
struct QueueModel {
    queues: CounterQueues,
    limits: CounterLimits,
    counters: BTreeMap<Arc<str>, u64>,
    /// What a store would hold.
    words: BTreeMap<String, i64>,
    sidelined: Vec<SidelinedIncrements>,
}

fn at(ms: u64) -> LoggedTime {
    LoggedTime::from_ms(START_MS + ms)
}

impl QueueModel {
    fn new(limits: CounterLimits) -> Self {
        let queues = CounterQueues::of_words(limits, []);
        Self { queues, limits, counters: BTreeMap::new(), words: BTreeMap::new(), sidelined: Vec::new() }
    }

    fn take(&mut self, step: &QueueMove) {
        for (queue, tick_ms, amount) in &step.changes {
            let word = WaitingKey { queue: *queue, tick_ms: *tick_ms, key: &step.key }.to_string();
            *self.words.entry(word).or_default() += amount;
        }
        self.words.retain(|_, amount| *amount != 0);
        self.queues.apply(step);
        *self.counters.entry(Arc::clone(&step.key)).or_default() += step.counted;
        self.sidelined.extend(step.sidelined.clone());
    }

    fn increment(&mut self, key: &str, ms: u64) -> Result<(), QueueRefusal> {
        let step = self.queues.admission(key, at(ms))?;
        self.take(&step);
        Ok(())
    }

    /// Lets the workers work off what they may, `credit` increments at most.
    fn work(&mut self, ms: u64, mut credit: u64) {
        while let Some(step) = self.queues.next_move(at(ms), credit) {
            credit -= step.counted;
            self.take(&step);
        }
    }

    fn accepted(&mut self, key: &str, increments: usize, ms: u64) -> usize {
        (0..increments).filter(|_| self.increment(key, ms).is_ok()).count()
    }

    fn lengths(&self) -> [u64; 3] {
        self.queues.totals().lengths.map(|length| length.increments)
    }

    fn counted(&self, key: &str) -> u64 {
        self.counters.get(key).copied().unwrap_or(0)
    }
}

#[test]
fn of_two_hundred_increments_at_once_fifty_are_within_the_rate_and_a_hundred_wait() {
    let mut counting = QueueModel::new(CounterLimits::default());
    assert_eq!(counting.accepted("foo", 200, 0), 150);
    assert_eq!(counting.lengths(), [50, 100, 0]);
    assert_eq!(counting.sidelined.len(), 100);
    assert_eq!(counting.increment("foo", 1), Err(QueueRefusal::ExcessFull));
    counting.work(1, u64::MAX);
    assert_eq!((counting.counted("foo"), counting.lengths()), (50, [0, 100, 0]));
    counting.work(9_000, u64::MAX);
    assert_eq!(counting.counted("foo"), 50, "the window has no room yet");
    counting.work(10_200, u64::MAX);
    assert_eq!(counting.counted("foo"), 100);
    counting.work(20_400, u64::MAX);
    assert_eq!((counting.counted("foo"), counting.lengths()), (150, [0, 0, 0]));
}

#[test]
fn no_window_ever_holds_more_than_the_rate_whenever_increments_come() {
    let mut counting = QueueModel::new(CounterLimits { key_rate: Some(5), spillover: 0, ..CounterLimits::default() });
    let mut times: Vec<u64> = Vec::new();
    for ms in (0..60_000).step_by(37) {
        counting.work(ms, u64::MAX);
        if counting.increment("foo", ms).is_ok() {
            times.push(ms);
        }
    }
    for (at, first) in times.iter().enumerate() {
        let within = times[at..].iter().filter(|time| **time < first + limits::KEY_WINDOW_MS).count();
        assert!(within <= 5, "{within} from {first} on");
    }
    assert!(times.len() >= 25, "the rate is used: {}", times.len());
}

#[test]
fn a_full_main_queue_refuses_and_other_keys_have_rates_of_their_own() {
    let mut counting = QueueModel::new(CounterLimits { main: 60, ..CounterLimits::default() });
    assert_eq!(counting.accepted("a", 50, 0), 50);
    assert_eq!(counting.accepted("b", 50, 0), 10);
    assert_eq!(counting.increment("b", 0), Err(QueueRefusal::MainFull));
    assert_eq!(counting.increment("a", 0), Ok(()), "beyond its rate it waits in EXCESS, which has room");
    assert_eq!(counting.lengths(), [60, 1, 0]);
}

#[test]
fn what_waits_for_too_long_turns_stale_and_is_worked_off_behind_the_main_queue() {
    let mut counting = QueueModel::new(CounterLimits { spillover: 2, ..CounterLimits::default() });
    (0..3).for_each(|_| counting.increment("old", 0).expect("there is room"));
    counting.work(5_000, 0);
    assert_eq!(counting.lengths(), [3, 0, 0], "not older than the threshold");
    counting.work(5_012, 0);
    assert_eq!(counting.lengths(), [1, 0, 2], "one finds STALE full, and stays");
    let [line] = &counting.sidelined[..] else { panic!("{:?}", counting.sidelined) };
    assert_eq!((line.queue, line.increments, line.age_ms / 10), (CounterQueue::Stale, 2, 501));
    counting.increment("new", 5_012).expect("there is room");
    counting.work(5_013, 2);
    assert_eq!((counting.counted("old"), counting.counted("new")), (1, 1), "the main queue first");
    counting.work(5_014, u64::MAX);
    assert_eq!((counting.counted("old"), counting.lengths()), (3, [0, 0, 0]));
}

#[test]
fn excess_never_turns_stale_and_waits_for_its_own_key_alone() {
    let mut counting = QueueModel::new(CounterLimits { key_rate: Some(1), ..CounterLimits::default() });
    for (key, ms) in [("a", 0), ("a", 10), ("b", 5_000), ("b", 5_010)] {
        counting.increment(key, ms).expect("there is room");
        counting.work(ms, u64::MAX);
    }
    counting.work(10_200, u64::MAX);
    assert_eq!((counting.counted("a"), counting.counted("b"), counting.lengths()), (2, 1, [0, 1, 0]));
    counting.work(15_200, u64::MAX);
    assert_eq!((counting.counted("b"), counting.lengths()), (2, [0, 0, 0]));
    assert!(counting.sidelined.iter().all(|line| line.queue == CounterQueue::Excess));
}

#[test]
fn queues_read_from_their_words_go_on_where_they_were() {
    let mut counting = QueueModel::new(CounterLimits { spillover: 5, ..CounterLimits::default() });
    for (key, increments, ms) in [("a", 52, 0), ("b:/?\n", 3, 20), ("a", 9, 30)] {
        counting.accepted(key, increments, ms);
    }
    counting.work(6_000, 7);
    let words: Vec<(String, i64)> = counting.words.clone().into_iter().collect();
    let read = CounterQueues::of_words(counting.limits, words.iter().map(|(word, amount)| (&**word, *amount)));
    assert_eq!(read.totals(), counting.queues.totals());
    for ms in [6_000, 10_100, 10_200, 30_000] {
        assert_eq!(read.next_move(at(ms), 9), counting.queues.next_move(at(ms), 9));
        assert_eq!(read.quota("a", at(ms)), counting.queues.quota("a", at(ms)));
    }
}

#[test]
fn nothing_is_due_before_the_time_that_is_told() {
    let mut counting = QueueModel::new(CounterLimits { key_rate: Some(2), ..CounterLimits::default() });
    assert_eq!(counting.queues.next_due(at(0)), None);
    counting.accepted("a", 5, 0);
    assert_eq!(counting.queues.next_due(at(3)), Some(at(3)), "the workers");
    counting.work(3, u64::MAX);
    let mut ms = 3;
    while counting.lengths() != [0, 0, 0] {
        let due = counting.queues.next_due(at(ms)).expect("increments wait for their window");
        assert!(due > at(ms), "nothing is left that could be done now");
        assert_eq!(counting.queues.next_move(LoggedTime::from_ms(due.as_ms() - 1), u64::MAX), None);
        ms = due.as_ms() - START_MS;
        counting.work(ms, u64::MAX);
    }
    assert_eq!(counting.counted("a"), 5);
    let last = counting.queues.next_due(at(ms)).expect("the window has to be emptied");
    counting.work(last.as_ms() - START_MS, u64::MAX);
    assert_eq!((counting.words.len(), counting.queues.next_due(last)), (0, None), "nothing is left of them");
}

#[test]
fn a_removal_takes_all_that_waits_of_one_key() {
    let mut counting = QueueModel::new(CounterLimits { key_rate: Some(2), ..CounterLimits::default() });
    counting.accepted("a", 5, 0);
    counting.accepted("b", 1, 0);
    let step = counting.queues.removal("a");
    counting.take(&step);
    assert_eq!((counting.lengths(), counting.queues.waiting("a"), counting.queues.waiting("b")), ([1, 0, 0], 0, 1));
    assert_eq!(counting.increment("a", 1), Ok(()), "its rate is used up all the same");
    assert_eq!(counting.lengths(), [1, 1, 0]);
    counting.work(30_000, u64::MAX);
    assert_eq!((counting.counted("a"), counting.counted("b")), (1, 1));
}

#[test]
fn a_quota_tells_what_is_left_and_when_there_is_more() {
    let mut counting = QueueModel::new(CounterLimits { key_rate: Some(3), ..CounterLimits::default() });
    assert_eq!(counting.queues.quota("a", at(0)), Some(RateQuota { limit: 3, remaining: 3, reset_ms: 0 }));
    counting.accepted("a", 2, 0);
    let quota = counting.queues.quota("a", at(33)).expect("there is a rate");
    assert_eq!((quota.remaining, quota.reset_ms), (1, 10_100 - 33));
    assert_eq!(counting.queues.quota("a", at(10_100)).map(|quota| quota.remaining), Some(3));
    assert_eq!(
        CounterQueues::of_words(CounterLimits { key_rate: None, ..CounterLimits::default() }, []).quota("a", at(0)),
        None
    );
}
