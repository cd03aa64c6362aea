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
/// hexadecimal digits, and the key. From the year 2527 on, which a clock that is wrong may tell of, it is the capital
/// letter and fifteen digits.
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
/// The same of a tick that needs more digits: as many as a word has room for beside the longest key.
const LONG_PREFIX_BYTES: usize = 16;
/// The first tick that needs more.
const FIRST_LONG_TICK_MS: u64 = 1 << (4 * (PREFIX_BYTES - 1));
/// The last tick that is told apart: later ones are this one, in some 36 million years.
const LAST_TICK_MS: u64 = (1 << (4 * (LONG_PREFIX_BYTES - 1))) - 1;

impl<'a> WaitingKey<'a> {
    /// Reads a word; `None` if it is none of these.
    pub fn of_word(word: &'a str) -> Option<Self> {
        let letter = *word.as_bytes().first()?;
        let prefix_bytes = if letter.is_ascii_uppercase() { LONG_PREFIX_BYTES } else { PREFIX_BYTES };
        let (prefix, key) = word.split_at_checked(prefix_bytes)?;
        let queue = CounterQueue::of_letter(letter.to_ascii_lowercase())?;
        Some(Self { queue, tick_ms: u64::from_str_radix(prefix.get(1..)?, 16).ok()?, key })
    }
}

impl fmt::Display for WaitingKey<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.queue.letter(), self.tick_ms) {
            (letter, tick_ms @ 0..FIRST_LONG_TICK_MS) => write!(to, "{letter}{tick_ms:011x}{}", self.key),
            (letter, tick_ms) => {
                write!(to, "{}{:015x}{}", letter.to_ascii_uppercase(), tick_ms.min(LAST_TICK_MS), self.key)
            }
        }
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
                // Of today, and around the year 2527, whose ticks need one digit more.
                for tick_ms in [0, 1_796_071_234_560, FIRST_LONG_TICK_MS - 10, FIRST_LONG_TICK_MS, LAST_TICK_MS] {
                    let waiting = WaitingKey { queue, tick_ms, key };
                    let word = waiting.to_string();
                    assert_eq!(WaitingKey::of_word(&word), Some(waiting), "{word}");
                    assert!(word.len() <= limits::MAX_WORD_BYTES);
                }
            }
        }
    }

    #[test]
    fn other_words_are_no_waiting_keys() {
        for word in [
            "",
            "m",
            "M",
            "M00000000001a",
            "X00000000000001a",
            "x00000000001a",
            "m0000000000ga",
            "mmmmmmmmmmmm北",
            "0000000000000000",
        ] {
            assert_eq!(WaitingKey::of_word(word), None, "{word}");
        }
    }
}
