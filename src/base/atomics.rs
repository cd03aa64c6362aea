//! The shared memory of the Writer and the readers: atomics, and types built of them.
//!
//! `data/store` and `data/counts` take these from here and from nowhere else, so that `tests/interleavings`, which
//! compiles their very sources, can put a model of each in its place and go through the orders in which threads may see
//! each other's stores.

pub(crate) use arc_swap::{ArcSwap, ArcSwapAny, ArcSwapOption};
pub(crate) use crossbeam_utils::Backoff;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use thread_local::ThreadLocal;

use zerocopy::FromZeros;

/// Zeros from the allocator: fresh pages of many are not touched until they are used. `None` without memory for them.
pub(crate) fn zeros(count: usize) -> Option<Box<[AtomicU64]>> {
    <[AtomicU64]>::new_box_zeroed_with_elems(count).ok()
}
