//! The order in which entries leave: by their time, or where room is needed.

use super::entry::Entry;
use crate::base::{clock::LoggedTime, failpoint::inject};
use std::collections::BTreeMap;

/// Behind every time: entries that never expire, by the record that wrote them.
const AFTER_ALL_TIMES: u64 = 1 << 63;
/// Entries of a chunk at most: a pointer each, so that looking through one takes some dozen nanoseconds.
const CHUNK_ENTRIES: usize = 256;

/// The place of an entry: its time and the hash of its key, by which entries of one time have an order that is the same
/// wherever they lie.
type Place = (u64, u64);

/// Entries in the order in which they leave: what expires next comes first, then, of what never expires, what was
/// least recently written.
///
/// They lie in chunks, each a list of pointers without an order, so that an entry costs here little more than its
/// pointer. The first chunk is in order, since it is looked at again and again: backwards, so that taking the first to
/// leave moves no other.
#[derive(Default)]
pub(super) struct EvictionOrder {
    /// Each chunk by the least place that may lie in it.
    chunks: BTreeMap<Place, Vec<Entry>>,
}

fn place(entry: &Entry, hash: u64) -> Place {
    let mut written = entry.version();
    inject!(EvictsTheYoungest, written = !AFTER_ALL_TIMES - written);
    (entry.expires().map_or(AFTER_ALL_TIMES | written, LoggedTime::as_ms), hash)
}

impl EvictionOrder {
    /// Puts an entry in, the hash of whose key is `hash`. `hash_of` works out those of others.
    pub(super) fn insert(&mut self, hash: u64, entry: &Entry, hash_of: impl Fn(&Entry) -> u64) {
        let place = place(entry, hash);
        let is_last = self.chunks.last_key_value().is_none_or(|(least, _)| *least <= place);
        let least = self.chunks.range(..=place).next_back().map(|(least, _)| *least).unwrap_or_else(|| {
            // In front of all: the first chunk begins earlier from now on.
            let first = self.chunks.pop_first().map(|(_, chunk)| chunk);
            self.chunks.insert(place, first.unwrap_or_default());
            place
        });
        let is_first = self.chunks.first_key_value().is_some_and(|(first, _)| *first == least);
        let chunk = self.chunks.get_mut(&least).expect("it was just found");
        let at = match is_first {
            true => chunk.partition_point(|there| self::place(there, hash_of(there)) > place),
            false => chunk.len(),
        };
        chunk.insert(at, entry.clone());
        if chunk.len() > CHUNK_ENTRIES {
            self.split(least, is_last, hash_of);
        }
    }

    /// Takes an entry out that was put in, the very one, with the same hash.
    pub(super) fn remove(&mut self, hash: u64, entry: &Entry, hash_of: impl Fn(&Entry) -> u64) {
        let Some((&least, chunk)) = self.chunks.range_mut(..=place(entry, hash)).next_back() else { return };
        // From the end, where the first to leave lies.
        let Some(at) = chunk.iter().rposition(|there| there.is_same(entry)) else { return };
        // Those behind move up, so that the first chunk stays in order.
        chunk.remove(at);
        if chunk.len() * 4 < chunk.capacity() {
            chunk.shrink_to(chunk.len() * 2);
        }
        if chunk.is_empty() {
            self.chunks.remove(&least);
            if let Some(mut first) = self.chunks.first_entry() {
                sort(first.get_mut(), hash_of);
                first.get_mut().reverse();
            }
        }
    }

    /// Cuts a chunk in two.
    fn split(&mut self, least: Place, is_last: bool, hash_of: impl Fn(&Entry) -> u64) {
        let chunk = self.chunks.get_mut(&least).expect("it is there");
        sort(chunk, &hash_of);
        // Most entries come behind all others: chunks that nothing comes to any more are left nearly full.
        let at = if is_last { CHUNK_ENTRIES * 7 / 8 } else { CHUNK_ENTRIES / 2 };
        let first = place(&chunk[at], hash_of(&chunk[at]));
        // Entries of one place stay together, since looking for either begins at the same chunk.
        if first > least {
            let upper = chunk.split_off(at);
            chunk.shrink_to_fit();
            self.chunks.insert(first, upper);
        }
        if let Some(mut first) = self.chunks.first_entry().filter(|first| *first.key() == least) {
            first.get_mut().reverse();
        }
    }

    /// All of them, the first to leave first.
    pub(super) fn iter<'a>(&'a self, hash_of: impl Fn(&Entry) -> u64 + 'a) -> impl Iterator<Item = &'a Entry> {
        self.chunks.values().enumerate().flat_map(move |(number, chunk)| {
            let mut entries: Vec<&Entry> = chunk.iter().collect();
            match number {
                0 => entries.reverse(),
                _ => entries.sort_by_cached_key(|entry| place(entry, hash_of(entry))),
            }
            entries
        })
    }

    /// The time of the first that expires.
    pub(super) fn next_expiry(&self) -> Option<LoggedTime> {
        self.chunks.first_key_value().and_then(|(_, chunk)| chunk.last()?.expires())
    }
}

fn sort(chunk: &mut [Entry], hash_of: impl Fn(&Entry) -> u64) {
    chunk.sort_by_cached_key(|entry| place(entry, hash_of(entry)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::record::{EntryValue, ValueEncoding};

    fn entry(number: u64, expires: Option<u64>) -> Entry {
        let value = EntryValue {
            content_type: "",
            expires: expires.map(LoggedTime::from_ms),
            counted: false,
            encoding: ValueEncoding::Plain,
            raw_bytes: 0,
            hash: &[],
            bytes: &[],
        };
        Entry::new(0, &number.to_string(), &value, number)
    }

    fn hash_of(entry: &Entry) -> u64 {
        entry.version().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The place is that of all entries, of some, or of one.
    #[test]
    fn entries_come_in_the_order_of_their_times_while_some_come_and_some_go() {
        let time_of: [fn(u64) -> Option<u64>; 6] = [
            |_| Some(7),
            |n| Some(n % 50),
            |n| Some(n),
            |n| Some(9_000 - n),
            |_| None,
            |n| n.is_multiple_of(2).then_some(n * 31 % 997),
        ];
        for time_of in time_of {
            let (mut order, mut model) = (EvictionOrder::default(), BTreeMap::new());
            let add = |number: u64, order: &mut EvictionOrder, model: &mut BTreeMap<Place, Entry>| {
                let entry = entry(number, time_of(number));
                order.insert(hash_of(&entry), &entry, hash_of);
                model.insert(place(&entry, hash_of(&entry)), entry);
            };
            for number in 0..3_000 {
                add(number, &mut order, &mut model);
                if number % 3 == 2 {
                    let place = *model.keys().nth(model.len() / 3).expect("some are there");
                    let gone = model.remove(&place).expect("it is there");
                    order.remove(hash_of(&gone), &gone, hash_of);
                }
            }
            while !model.is_empty() {
                let found: Vec<u64> = order.iter(hash_of).map(Entry::version).collect();
                assert_eq!(found, model.values().map(Entry::version).collect::<Vec<_>>());
                assert_eq!(order.next_expiry(), model.values().next().and_then(Entry::expires));
                for _ in 0..150.min(model.len()) {
                    let (_, gone) = model.pop_first().expect("it is not empty");
                    order.remove(hash_of(&gone), &gone, hash_of);
                }
            }
            assert!(order.chunks.is_empty());
        }
    }

    #[test]
    fn an_order_that_was_filled_takes_little_more_than_a_pointer_for_each_entry() {
        let capacity = |order: &EvictionOrder| order.chunks.values().map(Vec::capacity).sum::<usize>();
        for time_of in [|_| None, |n: u64| Some(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)] {
            let mut order = EvictionOrder::default();
            let entries: Vec<Entry> = (0..20_000).map(|number| entry(number, time_of(number))).collect();
            entries.iter().for_each(|entry| order.insert(hash_of(entry), entry, hash_of));
            assert!(capacity(&order) < 2 * entries.len(), "{}", capacity(&order));
            for gone in entries.iter().filter(|entry| !entry.version().is_multiple_of(100)) {
                order.remove(hash_of(gone), gone, hash_of);
            }
            assert!(capacity(&order) < 5 * 200, "{}", capacity(&order));
        }
    }
}
