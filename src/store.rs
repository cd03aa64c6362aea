//! STUB, being replaced: same interface, naive inside (one lock).
#![allow(missing_docs)]
use crate::{hash::WordHasher, position::Position};
use parking_lot::{RwLock, RwLockReadGuard};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Default)]
pub struct Inner {
    pub position: Position,
    pub names: BTreeMap<String, BTreeMap<String, i64>>,
}

/// Reads a store from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    pub inner: Arc<RwLock<Inner>>,
    hasher: WordHasher,
}

/// A view of one position. Not `Send`: never held across an await. Hold it for microseconds.
pub struct Guard<'a> {
    inner: RwLockReadGuard<'a, Inner>,
}

/// A walk over one namespace in pieces; each piece is read under a guard of its own.
pub struct Scan {
    words: Vec<(String, i64)>,
    at: usize,
}

impl Reader {
    pub fn new(hasher: WordHasher) -> Self {
        Self { inner: Arc::default(), hasher }
    }
    pub fn hasher(&self) -> WordHasher {
        self.hasher
    }
    /// Wait-free.
    pub fn read(&self) -> Guard<'_> {
        Guard { inner: self.inner.read() }
    }
    /// `None` for a namespace that does not exist.
    pub fn scan(&self, namespace: &str) -> Option<Scan> {
        let inner = self.inner.read();
        let words = inner.names.get(namespace)?.iter().map(|(w, c)| (w.clone(), *c)).collect();
        Some(Scan { words, at: 0 })
    }
}

impl Guard<'_> {
    pub fn position(&self) -> Position {
        self.inner.position
    }
    /// The digest of everything.
    pub fn digest(&self) -> u64 {
        0
    }
    /// 0 for a word, or a namespace, that is not there.
    pub fn count(&self, namespace: &str, word: &str) -> i64 {
        self.inner.names.get(namespace).and_then(|n| n.get(word)).copied().unwrap_or(0)
    }
    /// The `n` largest counts, descending, ties by word.
    pub fn top(&self, namespace: &str, n: usize) -> Vec<(String, i64)> {
        let mut all: Vec<_> =
            self.inner.names.get(namespace).into_iter().flatten().map(|(w, c)| (w.clone(), *c)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(n);
        all
    }
    /// Every namespace with its number of distinct words.
    pub fn namespaces(&self) -> Vec<(String, u64)> {
        self.inner.names.iter().map(|(n, w)| (n.clone(), w.len() as u64)).collect()
    }
}

impl Scan {
    /// Reads the next piece (at most `limits::WALK_ENTRIES` words); `false` when nothing is left.
    pub fn step(&mut self, mut each: impl FnMut(&str, i64)) -> bool {
        let end = (self.at + crate::limits::WALK_ENTRIES).min(self.words.len());
        for (word, count) in &self.words[self.at..end] {
            each(word, *count);
        }
        self.at = end;
        end < self.words.len()
    }
}
