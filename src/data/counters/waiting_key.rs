//! The words under which increments wait: queue, tick of arrival, key.

use std::fmt;

/// A queue of increments, or the windows of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CounterQueue {
    /// The queue that the workers work off first.
    Main,
    /// Increments beyond their key's rate, which wait for its window.
    Excess,
    /// Increments that have waited in the main queue for too long.
    Stale,
    /// Increments that the rate of their key counts.
    Window,
}

impl CounterQueue {
    /// The queues, without the windows.
    pub const QUEUES: [Self; 3] = [Self::Main, Self::Excess, Self::Stale];

    /// The name in logs, metrics and `/status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "MAIN_QUEUE",
            Self::Excess => "EXCESS_QUEUE",
            Self::Stale => "STALE_QUEUE",
            Self::Window => "WINDOW",
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Main => 'm',
            Self::Excess => 'e',
            Self::Stale => 's',
            Self::Window => 'w',
        }
    }

    fn of_letter(letter: u8) -> Option<Self> {
        [Self::Main, Self::Excess, Self::Stale, Self::Window].into_iter().find(|kind| kind.letter() as u8 == letter)
    }
}

/// Increments that came to one queue in one tick for one key. As a word it is the queue's letter, the tick in eleven
/// hexadecimal digits, and the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingKey<'a> {
    /// The queue.
    pub queue: CounterQueue,
    /// The beginning of the tick, in milliseconds of logged time.
    pub tick_ms: u64,
    /// The counter's key.
    pub key: &'a str,
}

/// Bytes of a word in front of the key.
const PREFIX_BYTES: usize = 12;

impl<'a> WaitingKey<'a> {
    /// Reads a word; `None` if it is none of these.
    pub fn of_word(word: &'a str) -> Option<Self> {
        let (prefix, key) = word.split_at_checked(PREFIX_BYTES)?;
        let queue = CounterQueue::of_letter(*prefix.as_bytes().first()?)?;
        Some(Self { queue, tick_ms: u64::from_str_radix(prefix.get(1..)?, 16).ok()?, key })
    }
}

impl fmt::Display for WaitingKey<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}{:011x}{}", self.queue.letter(), self.tick_ms, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits;

    #[test]
    fn a_waiting_key_comes_back_from_its_word() {
        for queue in [CounterQueue::Main, CounterQueue::Excess, CounterQueue::Stale, CounterQueue::Window] {
            for key in ["a", "A:/?\n", "北京", &"k".repeat(limits::MAX_COUNTER_KEY_BYTES)] {
                let waiting = WaitingKey { queue, tick_ms: 1_796_071_234_560, key };
                let word = waiting.to_string();
                assert_eq!(WaitingKey::of_word(&word), Some(waiting), "{word}");
                assert!(word.len() <= limits::MAX_WORD_BYTES);
            }
        }
    }

    #[test]
    fn other_words_are_no_waiting_keys() {
        for word in ["", "m", "x00000000001a", "m0000000000ga", "mmmmmmmmmmmm北", "0000000000000000"] {
            assert_eq!(WaitingKey::of_word(word), None, "{word}");
        }
    }
}
