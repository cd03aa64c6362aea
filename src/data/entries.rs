//! Entries: keys with values of any bytes, and perhaps a time at which they expire. The second kind of data.
//!
//! `entry` is one of them as it lies in memory, `table` those of a collection as readers find them, `stored` those of
//! all collections, `eviction_order` the order in which they leave. `admission` decides which changes a record states.

mod collection;
mod write;

pub use collection::{CollectionId, CollectionKind};
pub use write::{EntryOp, EntryWrite, Expiry, NewValue, WriteCondition};
