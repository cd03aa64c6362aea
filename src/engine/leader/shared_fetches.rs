//! The fetches of a leader as its serving threads share them, with the answers that wait for them.

use super::{FetchFailure, OriginFetches, OriginKey};
use crate::{
    base::position::Position,
    data::command::WriteBatch,
    data::entries::{CollectionKind, Entry},
};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The answer of a fetch. Whoever waits hears nothing if the leader's time ends before.
#[derive(Clone, Debug)]
pub enum FetchAnswer {
    /// The value, and a position at which it holds.
    Value(Entry, Position),
    /// The origin has given none.
    Failed(FetchFailure),
}

/// The channel of an answer.
pub type FetchReply = oneshot::Sender<FetchAnswer>;

/// The fetches of a leader, for all serving threads.
#[derive(Default)]
pub struct SharedFetches(Mutex<OriginFetches<FetchReply>>);

impl SharedFetches {
    /// The fetches, for one decision.
    pub fn lock(&self) -> MutexGuard<'_, OriginFetches<FetchReply>> {
        self.0.lock()
    }

    /// A batch is about to be handed to the Writer: fetches of the keys that it writes store nothing.
    pub fn before_write(&self, batch: &WriteBatch) {
        let mut fetches = self.lock();
        // Most writes find no fetch at all, and make no key to look for one.
        if fetches.is_idle() {
            return;
        }
        for write in batch.entries.iter().filter(|write| write.kind == CollectionKind::Cache) {
            fetches.written(&OriginKey { namespace: batch.namespace.clone(), key: write.key.clone() });
        }
    }
}

/// A fetch that is being made. Dropped without an answer, which a runtime that ends does, it lets go who waits for it.
pub struct FetchInProgress {
    fetches: Arc<SharedFetches>,
    id: u64,
}

impl FetchInProgress {
    /// The fetch of this number.
    pub fn new(fetches: Arc<SharedFetches>, id: u64) -> Self {
        Self { fetches, id }
    }

    /// Answers everyone who waits for it. Its value must be in the store, if it is to be there.
    pub fn answer(self, answer: &FetchAnswer) {
        let waiting = self.fetches.lock().settled(self.id);
        for reply in waiting {
            let _ = reply.send(answer.clone()); // who has gone away needs none
        }
    }
}

impl Drop for FetchInProgress {
    fn drop(&mut self) {
        let unanswered = self.fetches.lock().settled(self.id);
        drop(unanswered);
    }
}
