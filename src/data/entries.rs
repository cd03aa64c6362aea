//! Entries: keys with values of any bytes, and perhaps a time at which they expire. The second kind of data.
//!
//! `entry` is one of them as it lies in memory, `table` those of a collection as readers find them, `stored` those of
//! all collections, `eviction_order` the order in which they leave. `admission` decides which changes a record states.

pub(crate) mod admission;
mod collection;
pub(crate) mod entry;
mod eviction_order;
mod lease;
pub(crate) mod stored;
mod table;
mod totals;
pub(crate) mod view;
mod write;

pub use admission::EntriesRefusal;
pub use collection::{CollectionId, CollectionKind};
pub use entry::{Entry, hash_of, key_hash};
pub use lease::WriteLease;
pub use totals::{CollectionTotals, EntryTotals};
pub use view::EntryPage;
pub use write::{EntryOp, EntryWrite, Expiry, NewValue, WriteCondition};

/// The number of a collection in one process: short, and given again once the collection is gone.
pub(crate) type CollectionNumber = u16;
