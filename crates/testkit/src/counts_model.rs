//! The counts of a database, kept the obvious way: what the store is held to.

use memdb::{
    base::hash::{WordHasher, weight},
    data::record::NamespaceChange,
    data::store::Store,
};
use std::collections::BTreeMap;

/// Namespaces of words with their counts; neither ever empty or zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountsModel {
    pub namespaces: BTreeMap<String, BTreeMap<String, i64>>,
}

impl CountsModel {
    /// All that a store holds, by walking it.
    ///
    /// # Panics
    /// If a walk gives a word twice, or another number of words than the store states.
    pub fn of(store: &Store) -> Self {
        let reader = store.reader();
        let names = reader.read().namespaces();
        let mut namespaces = BTreeMap::new();
        for (namespace, distinct) in names {
            let mut words = BTreeMap::new();
            let mut scan = reader.scan(&namespace).expect("it was just named");
            while scan.step(|word, count| {
                assert_eq!(words.insert(word.to_owned(), count), None, "{word:?} twice in {namespace:?}");
            }) {}
            assert_eq!(words.len() as u64, distinct, "distinct words of {namespace:?}");
            namespaces.insert(namespace, words);
        }
        Self { namespaces }
    }

    /// Sets what a record or an image says.
    pub fn apply(&mut self, changes: &[NamespaceChange<'_>]) {
        for change in changes {
            if change.dropped {
                self.namespaces.remove(change.namespace);
            }
            let words = self.namespaces.entry(change.namespace.to_owned()).or_default();
            for counted in &change.counts {
                match counted.count {
                    0 => words.remove(counted.word),
                    count => words.insert(counted.word.to_owned(), count),
                };
            }
            if words.is_empty() {
                self.namespaces.remove(change.namespace);
            }
        }
    }

    pub fn count(&self, namespace: &str, word: &str) -> i64 {
        self.namespaces.get(namespace).and_then(|words| words.get(word)).copied().unwrap_or(0)
    }

    /// The sum of hash times count, times the namespace's factor: worked out from nothing, where the store keeps it up
    /// as it goes.
    pub fn digest(&self, hasher: WordHasher) -> u64 {
        let of_words = |words: &BTreeMap<String, i64>| {
            words.iter().fold(0u64, |sum, (word, &count)| sum.wrapping_add(weight(hasher.hash(word), count)))
        };
        let parts =
            self.namespaces.iter().map(|(name, words)| of_words(words).wrapping_mul(hasher.namespace_factor(name)));
        parts.fold(0, u64::wrapping_add)
    }

    /// The `n` largest, descending, ties by word.
    pub fn top(&self, namespace: &str, n: usize) -> Vec<(String, i64)> {
        let mut words: Vec<_> = self.namespaces.get(namespace).cloned().unwrap_or_default().into_iter().collect();
        words.sort_by(|(word, count), (other, others)| others.cmp(count).then_with(|| word.cmp(other)));
        words.truncate(n);
        words
    }
}

/// The sum of what the entries of a store add to its digest, each worked out anew.
pub fn entries_digest(store: &Store) -> u64 {
    let reader = store.reader();
    let (mut scan, mut digest) = (reader.scan_entries(), 0_u64);
    while scan.step(|collection, entry| {
        digest = digest.wrapping_add(entry.digest_weight(reader.hasher(), collection));
    }) {}
    digest
}
