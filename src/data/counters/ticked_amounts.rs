//! Amounts by key and tick, the oldest first.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

/// Bytes of a key beside its text: its place in the map, which may be half empty, and two allocations.
const KEY_BYTES: usize = 224;
/// Bytes of an amount: its place among all, whose nodes are half empty where ticks come in order, and in its key's.
const AMOUNT_BYTES: usize = 72;
/// Places for amounts that a key keeps though it does not need them.
const SPARE_AMOUNTS: usize = 16;

/// The amounts of one queue. Ticks are milliseconds of logged time.
#[derive(Clone, Debug, Default)]
pub(super) struct TickedAmounts {
    in_order: BTreeSet<(u64, Arc<str>)>,
    of_keys: HashMap<Arc<str>, KeyAmounts>,
    total: u128,
    /// Bytes of the keys' text.
    text_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct KeyAmounts {
    /// The amount of each tick, in order: nearly all come at the end and go at the front.
    ticks: VecDeque<(u64, u64)>,
    sum: u128,
}

impl TickedAmounts {
    /// Adds an amount, or takes one away that is there.
    pub(super) fn add(&mut self, tick_ms: u64, key: &Arc<str>, amount: i64) {
        // One allocation for a key, however many ticks it has.
        let known = self.of_keys.get_key_value(key).map_or(key, |(known, _)| known);
        let key = Arc::clone(known);
        let of_key = self.of_keys.entry(Arc::clone(&key)).or_insert_with(|| {
            self.text_bytes += key.len();
            KeyAmounts::default()
        });
        // A file may hold any amounts: their sums are wider, so that they stay exact. What is taken away was looked at
        // before.
        let sum = |old: u128| old.saturating_add_signed(amount.into());
        let place = of_key.ticks.binary_search_by_key(&tick_ms, |(tick_ms, _)| *tick_ms).unwrap_or_else(|place| {
            of_key.ticks.insert(place, (tick_ms, 0));
            self.in_order.insert((tick_ms, Arc::clone(&key)));
            place
        });
        let at_tick = &mut of_key.ticks[place].1;
        *at_tick = at_tick.saturating_add_signed(amount);
        let is_done = *at_tick == 0;
        (of_key.sum, self.total) = (sum(of_key.sum), sum(self.total));
        // Nothing stays behind of a key that is done: keys are the clients' to choose, and there is no end of them.
        if is_done {
            of_key.ticks.remove(place);
            if of_key.ticks.len() + SPARE_AMOUNTS < of_key.ticks.capacity() / 4 {
                of_key.ticks.shrink_to(of_key.ticks.len() * 2);
            }
            if of_key.sum == 0 {
                self.of_keys.remove(&key);
                self.text_bytes -= key.len();
            }
            self.in_order.remove(&(tick_ms, key));
        }
    }

    /// Bytes of memory that they take, about.
    pub(super) fn bytes(&self) -> usize {
        self.of_keys.len() * KEY_BYTES + self.text_bytes + self.in_order.len() * AMOUNT_BYTES
    }

    /// The oldest amount: its tick, its key, and how much it is.
    pub(super) fn first(&self) -> Option<(u64, &Arc<str>, u64)> {
        let (tick_ms, key) = self.in_order.first()?;
        let of_key = &self.of_keys[key].ticks;
        let place = of_key.binary_search_by_key(tick_ms, |(tick_ms, _)| *tick_ms).expect("both have each amount");
        Some((*tick_ms, key, of_key[place].1))
    }

    /// The oldest amount of a key.
    pub(super) fn first_of(&self, key: &str) -> Option<(u64, &Arc<str>, u64)> {
        let (key, of_key) = self.of_keys.get_key_value(key)?;
        of_key.ticks.front().map(|(tick_ms, amount)| (*tick_ms, key, *amount))
    }

    /// All amounts of a key, with their ticks.
    pub(super) fn of_key(&self, key: &str) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.of_keys.get(key).into_iter().flat_map(|of_key| &of_key.ticks).copied()
    }

    /// The sum of a key.
    pub(super) fn sum_of(&self, key: &str) -> u64 {
        self.of_keys.get(key).map_or(0, |of_key| narrowed(of_key.sum))
    }

    /// The sum of all keys.
    pub(super) fn total(&self) -> u64 {
        narrowed(self.total)
    }

    /// Counts the amounts that are told apart.
    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }
}

/// A sum as far as 64 bits tell it.
fn narrowed(sum: u128) -> u64 {
    sum.try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_found_by_age_and_by_key_and_leave_nothing_behind() {
        let (mut amounts, a, b) = (TickedAmounts::default(), Arc::from("a"), Arc::from("b"));
        amounts.add(20, &a, 2);
        amounts.add(10, &b, 1);
        amounts.add(20, &a, 3);
        amounts.add(30, &b, 1);
        assert_eq!(amounts.first(), Some((10, &b, 1)));
        assert_eq!(amounts.first_of("a"), Some((20, &a, 5)));
        assert_eq!((amounts.sum_of("a"), amounts.sum_of("b"), amounts.sum_of("c"), amounts.total()), (5, 2, 0, 7));
        assert_eq!(amounts.of_key("b").collect::<Vec<_>>(), [(10, 1), (30, 1)]);
        for (tick_ms, key, amount) in [(10, &b, -1), (20, &a, -5), (30, &b, -1)] {
            amounts.add(tick_ms, key, amount);
        }
        assert_eq!((amounts.first(), amounts.total(), amounts.len(), amounts.bytes()), (None, 0, 0, 0));
    }
}
