//! Facts about a record beside what it says, for whoever applies it.

use crate::data::{counts::stored::WordLookups, entries::stored::EntryLookup};

/// Facts about the changes of a record that its Writer has found out already.
#[derive(Default)]
pub(crate) struct RecordLookups<'a> {
    /// Of each change of counts, in their order.
    pub(crate) words: Vec<WordLookups<'a>>,
    /// Of each change of entries, in their order.
    pub(crate) entries: Vec<EntryLookup<'a>>,
}
