//! Counters: their reads as queries, and the batches of their writes.

use super::{ReadQuery, command::fingerprint};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits::MAX_COUNTER_KEY_BYTES,
    base::position::PositionToken,
    data::command::{IdempotencyKey, WriteBatch},
    data::counters::{COUNTERS, COUNTERS_STORED},
    data::counts::{WriteOp, word_counts::WordCounts},
    engine::view::ServedDatabase,
};

/// The value of one counter; 0 where there is none. What waits for it is not part of it yet.
#[derive(Clone, Copy, Debug)]
pub struct CounterOf<'a> {
    /// The key, which is not folded.
    pub key: &'a str,
}

impl ReadQuery for CounterOf<'_> {
    type Answer = i64;

    fn answer(self, current: &ServedDatabase) -> Option<(i64, PositionToken)> {
        let guard = current.reader.read();
        let (value, position) = (guard.count(COUNTERS_STORED, self.key), guard.position());
        drop(guard);
        Some((value, current.identity.token(position)))
    }
}

/// Refuses what is no key of a counter.
///
/// # Errors
/// [`ErrorKind::InvalidParameter`] if it is empty or longer than [`MAX_COUNTER_KEY_BYTES`].
pub fn check_counter_key(key: &str) -> Result<(), ApiError> {
    match key.len() {
        1..=MAX_COUNTER_KEY_BYTES => Ok(()),
        bytes => {
            let detail = format!("a counter's key has 1 to {MAX_COUNTER_KEY_BYTES} bytes, and this one has {bytes}");
            Err(ApiError::new(ErrorKind::InvalidParameter, detail))
        }
    }
}

/// The batch that has an increment of a counter wait.
pub(super) fn increment(current: &ServedDatabase, key: &str, once: Option<IdempotencyKey>) -> WriteBatch {
    of_counter(current, key, WriteOp::Increment, once, 1)
}

/// The batch that takes a counter away.
pub(super) fn removal(current: &ServedDatabase, key: &str, once: Option<IdempotencyKey>) -> WriteBatch {
    of_counter(current, key, WriteOp::RemoveCounter, once, 0)
}

fn of_counter(
    current: &ServedDatabase,
    key: &str,
    op: WriteOp,
    once: Option<IdempotencyKey>,
    words: u64,
) -> WriteBatch {
    let mut counts = WordCounts::new(current.identity.hasher());
    counts.add(key, 1).expect("it is the only word");
    let verb: &[u8] = if op == WriteOp::Increment { b"increment" } else { b"remove counter" };
    let fingerprint = fingerprint(once.as_ref(), &[COUNTERS.as_bytes(), verb, key.as_bytes()]);
    let namespace = COUNTERS.into();
    let (entries, left_out, is_post) = (Vec::new(), 0, false);
    WriteBatch { namespace, op, is_post, counts, entries, words, left_out, key: once, fingerprint }
}
