//! Sliding windows, by which the rate of a key is limited.

use super::ticked_amounts::TickedAmounts;
use crate::{base::clock::LoggedTime, base::failpoint::inject, base::limits};
use std::sync::Arc;

/// The amounts that came within the last [`limits::KEY_WINDOW_MS`], by key. They leave in ticks of
/// [`limits::WINDOW_TICK_MS`].
#[derive(Clone, Debug, Default)]
pub struct KeyWindows {
    pub(super) amounts: TickedAmounts,
}

/// The rate of a key, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateQuota {
    /// Increments in a window.
    pub limit: u64,
    /// Increments that are left of them.
    pub remaining: u64,
    /// The time until the window has more room, in milliseconds; 0 if it is empty.
    pub reset_ms: u64,
}

impl KeyWindows {
    /// Counts one more of `key` in, at `now`.
    pub fn add(&mut self, key: &str, now: LoggedTime) {
        self.amounts.add(tick_of(now), &Arc::from(key), 1);
    }

    /// Forgets what has left the windows by `now`.
    pub fn forget(&mut self, now: LoggedTime) {
        while let Some((tick_ms, key, amount)) = self.left(now) {
            self.amounts.add(tick_ms, &key, -(amount as i64));
        }
    }

    /// The oldest amount, if it has left its window by `now`: its tick, its key, and how much it is.
    pub(super) fn left(&self, now: LoggedTime) -> Option<(u64, Arc<str>, u64)> {
        let (tick_ms, key, amount) = self.amounts.first().filter(|(tick_ms, ..)| has_left(*tick_ms, now))?;
        Some((tick_ms, Arc::clone(key), amount))
    }

    /// Gives the time at which the oldest amount leaves; `None`: there is none.
    pub(super) fn next_left(&self) -> Option<LoggedTime> {
        self.amounts.first().map(|(tick_ms, ..)| left_at(tick_ms))
    }

    /// Bytes of memory that they take, about.
    pub fn bytes(&self) -> usize {
        self.amounts.bytes()
    }

    /// Returns whether as many amounts are kept as may be.
    pub fn is_full(&self) -> bool {
        self.amounts.len() >= limits::MAX_KEY_WINDOWS
    }

    /// The part of `rate` that a key has left at `now`.
    pub(super) fn room_of(&self, key: &str, rate: u64, now: LoggedTime) -> u64 {
        // What has left the window and is not taken out yet lies in front.
        let left = self.amounts.of_key(key).take_while(|(tick_ms, _)| has_left(*tick_ms, now));
        let left = left.fold(0_u64, |left, (_, amount)| left.saturating_add(amount));
        let mut used = self.amounts.sum_of(key).saturating_sub(left);
        inject!(AdmitsOneTooMany, used = used.saturating_sub(1));
        rate.saturating_sub(used)
    }

    /// What is left of a key's rate at `now`.
    pub fn quota(&self, key: &str, rate: u64, now: LoggedTime) -> RateQuota {
        let oldest = self.amounts.of_key(key).find(|(tick_ms, _)| !has_left(*tick_ms, now));
        let reset_ms = oldest.map_or(0, |(tick_ms, _)| left_at(tick_ms).since_ms(now));
        RateQuota { limit: rate, remaining: self.room_of(key, rate, now), reset_ms }
    }
}

/// The tick of the windows that `now` lies in.
pub(super) const fn tick_of(now: LoggedTime) -> u64 {
    now.as_ms() / limits::WINDOW_TICK_MS * limits::WINDOW_TICK_MS
}

/// The time at which a tick has left the window as a whole, so that no window ever holds more than the rate.
const fn left_at(tick_ms: u64) -> LoggedTime {
    LoggedTime::from_ms(tick_ms.saturating_add(limits::WINDOW_TICK_MS + limits::KEY_WINDOW_MS))
}

fn has_left(tick_ms: u64, now: LoggedTime) -> bool {
    left_at(tick_ms) <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_is_over_is_forgotten() {
        let (mut windows, at) = (KeyWindows::default(), LoggedTime::from_ms);
        windows.add("a", at(1_000));
        windows.add("a", at(1_050));
        windows.add("b", at(2_000));
        assert_eq!(windows.quota("a", 2, at(2_000)), RateQuota { limit: 2, remaining: 0, reset_ms: 9_100 });
        windows.forget(at(11_099));
        assert_eq!(windows.amounts.len(), 2);
        windows.forget(at(11_100));
        assert_eq!((windows.amounts.len(), windows.quota("a", 2, at(11_100)).remaining), (1, 2));
    }
}
