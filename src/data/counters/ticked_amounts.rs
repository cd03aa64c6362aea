//! Amounts by key and tick, the oldest first.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// The amounts of one queue. Ticks are milliseconds of logged time.
#[derive(Clone, Debug, Default)]
pub(super) struct TickedAmounts {
    in_order: BTreeSet<(u64, Arc<str>)>,
    of_keys: HashMap<Arc<str>, KeyAmounts>,
    total: u128,
}

#[derive(Clone, Debug, Default)]
struct KeyAmounts {
    ticks: BTreeMap<u64, u64>,
    sum: u128,
}

impl TickedAmounts {
    /// Adds an amount, or takes one away that is there.
    pub(super) fn add(&mut self, tick_ms: u64, key: &Arc<str>, amount: i64) {
        // One allocation for a key, however many ticks it has.
        let known = self.of_keys.get_key_value(key).map_or(key, |(known, _)| known);
        let key = Arc::clone(known);
        let of_key = self.of_keys.entry(Arc::clone(&key)).or_default();
        // A file may hold any amounts: their sums are wider, so that they stay exact. What is taken away was looked at
        // before.
        let sum = |old: u128| old.saturating_add_signed(amount.into());
        let at_tick = of_key.ticks.entry(tick_ms).or_insert_with(|| {
            self.in_order.insert((tick_ms, Arc::clone(&key)));
            0
        });
        *at_tick = at_tick.saturating_add_signed(amount);
        (of_key.sum, self.total) = (sum(of_key.sum), sum(self.total));
        // Nothing stays behind of a key that is done: keys are the clients' to choose, and there is no end of them.
        if *at_tick == 0 {
            of_key.ticks.remove(&tick_ms);
            if of_key.sum == 0 {
                self.of_keys.remove(&key);
            }
            self.in_order.remove(&(tick_ms, key));
        }
    }

    /// The oldest amount: its tick, its key, and how much it is.
    pub(super) fn first(&self) -> Option<(u64, &Arc<str>, u64)> {
        let (tick_ms, key) = self.in_order.first()?;
        Some((*tick_ms, key, self.of_keys[key].ticks[tick_ms]))
    }

    /// The oldest amount of a key.
    pub(super) fn first_of(&self, key: &str) -> Option<(u64, &Arc<str>, u64)> {
        let (key, of_key) = self.of_keys.get_key_value(key)?;
        of_key.ticks.first_key_value().map(|(tick_ms, amount)| (*tick_ms, key, *amount))
    }

    /// All amounts of a key, with their ticks.
    pub(super) fn of_key(&self, key: &str) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ticks = self.of_keys.get(key).into_iter().flat_map(|of_key| &of_key.ticks);
        ticks.map(|(tick_ms, amount)| (*tick_ms, *amount))
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
        assert_eq!((amounts.first(), amounts.total(), amounts.len(), amounts.of_keys.len()), (None, 0, 0, 0));
    }
}
