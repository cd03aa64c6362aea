//! Facts about a record beside what it says, for whoever applies it, and the reasons why it is not applied.

use crate::{
    base::position::Position,
    data::counts::stored::WordLookups,
    data::entries::stored::{CollectionOverflow, EntryLookup},
};

/// The reason why a record was not applied: this copy is not the leader's, or the file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The state that the record leads to did not have the digest that the record states.
    #[error("record {position} leads to digest {found:016x}, not {stated:016x} as it states")]
    DigestMismatch {
        /// The record.
        position: Position,
        /// The digest it states.
        stated: u64,
        /// The digest it led to here.
        found: u64,
    },
    /// It names more collections of entries than any leader makes.
    #[error(transparent)]
    Collections(#[from] CollectionOverflow),
}

/// Facts about the changes of a record that its Writer has found out already.
#[derive(Default)]
pub(crate) struct RecordLookups<'a> {
    /// Of each change of counts, in their order.
    pub(crate) words: Vec<WordLookups<'a>>,
    /// Of each change of entries, in their order.
    pub(crate) entries: Vec<EntryLookup<'a>>,
}
