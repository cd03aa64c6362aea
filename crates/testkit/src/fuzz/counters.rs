//! Counters: the key in the path of an increment, and words of the namespace of what waits, whatever they and their
//! amounts are.

use memdb::{
    api::http::fuzz_api::{entries as api, incremented_counter},
    base::clock::LoggedTime,
    base::limits::{MAX_COUNTER_KEY_BYTES, MAX_WORD_BYTES},
    data::counters::{CounterLimits, CounterQueue, CounterQueues, WaitingKey},
};
use std::collections::BTreeMap;

/// The time at which what was read is worked off: behind every tick that a word can tell of.
const LATE: LoggedTime = LoggedTime::from_ms(1 << 61);
const STEPS: usize = 10_000;

/// The first byte: a path, or words with their amounts.
pub fn counters(data: &[u8]) {
    let Some((&which, rest)) = data.split_first() else { return };
    if which.is_multiple_of(2) {
        if let Ok(path) = std::str::from_utf8(rest) {
            key(path);
        }
    } else {
        queues(rest);
    }
}

/// A key is what the path says by everybody's rules, is passed on as the same key, and is a word in each queue.
fn key(path: &str) {
    let Some(key) = incremented_counter(path) else { return };
    super::accepted();
    assert!((1..=MAX_COUNTER_KEY_BYTES).contains(&key.len()));
    let encoded = path.strip_prefix("/counter/").and_then(|path| path.strip_suffix("/increment")).expect("its path");
    assert!(percent_encoding::percent_decode_str(encoded).eq(key.bytes()), "{encoded:?}");
    let passed = api::passed_path(encoded).expect("it is a key");
    assert_eq!(incremented_counter(&format!("/counter/{passed}/increment")), Some(key.clone()));
    for queue in [CounterQueue::Main, CounterQueue::Excess, CounterQueue::Stale, CounterQueue::Window] {
        let waiting = WaitingKey { queue, tick_ms: 0xfff_ffff_ffff, key: &key };
        let word = waiting.to_string();
        assert!(word.len() <= MAX_WORD_BYTES);
        assert_eq!(WaitingKey::of_word(&word), Some(waiting));
    }
}

/// Each word is a byte for its length, eight for its amount, and itself. What is read of them is worked off in the end,
/// and no step takes more than is there.
fn queues(mut bytes: &[u8]) {
    let mut words: BTreeMap<String, i64> = BTreeMap::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let (word, rest) = rest.split_at(rest.len().min(usize::from(head[0])));
        let amount = i64::from_le_bytes(head[1..].try_into().expect("eight bytes"));
        words.insert(String::from_utf8_lossy(word).into_owned(), amount);
        bytes = rest;
    }
    let limits = CounterLimits { key_rate: Some(3), spillover: 5, ..CounterLimits::default() };
    let mut queues = CounterQueues::of_words(limits, words.iter().map(|(word, amount)| (word.as_str(), *amount)));
    let mut there = waiting(&words);
    if !there.is_empty() {
        super::accepted();
    }
    for early in [LoggedTime::ZERO, LATE] {
        for key in there.keys().map(|(_, _, key)| key).chain([&"a".to_owned()]) {
            let (quota, _) = (queues.quota(key, early), queues.admission(key, early));
            assert!(quota.is_some_and(|quota| quota.remaining <= quota.limit), "{quota:?}");
        }
        let _ = (queues.next_due(early), queues.totals());
    }
    for _ in 0..STEPS {
        let Some(step) = queues.next_move(LATE, u64::MAX) else {
            // Of a key that is beyond its rate by what is in the future, excess stays.
            assert!(there.keys().all(|(queue, ..)| matches!(queue, CounterQueue::Excess | CounterQueue::Window)));
            return;
        };
        for (queue, tick_ms, amount) in &step.changes {
            let place = (*queue, *tick_ms, step.key.to_string());
            let left = there.remove(&place).unwrap_or(0) + i128::from(*amount);
            assert!(left >= 0, "{step:?} takes more than there is");
            if left > i128::from(i64::MAX) {
                return; // no count is as large: the store refuses the step
            }
            if left > 0 {
                there.insert(place, left);
            }
        }
        queues.apply(&step);
    }
    panic!("there is no end of the steps over {words:?}");
}

/// Reads the amounts that wait by these words as their description has it, and not by the code: the letter of a queue,
/// eleven hexadecimal digits, and the key; for ticks that need more digits the capital letter and fifteen.
fn waiting(words: &BTreeMap<String, i64>) -> BTreeMap<(CounterQueue, u64, String), i128> {
    let read = |(word, amount): (&String, &i64)| {
        let is_long = word.starts_with(|letter: char| letter.is_ascii_uppercase());
        let (prefix, key) = word.split_at_checked(if is_long { 16 } else { 12 })?;
        let (letter, tick) = prefix.split_at_checked(1)?;
        let queue = match &*letter.to_ascii_lowercase() {
            "m" => CounterQueue::Main,
            "e" => CounterQueue::Excess,
            "s" => CounterQueue::Stale,
            "w" => CounterQueue::Window,
            _ => return None,
        };
        let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        let tick_ms = tick.bytes().all(is_digit).then(|| u64::from_str_radix(tick, 16).expect("digits"))?;
        if is_long && tick_ms < 1 << 44 {
            return None; // a tick has one spelling
        }
        (*amount > 0).then(|| ((queue, tick_ms, key.to_owned()), i128::from(*amount)))
    };
    words.iter().filter_map(read).collect()
}
