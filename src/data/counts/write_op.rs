//! The operations of a write on words.

/// The operation of a batch on its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Adds each amount to the word's count, up to the 64-bit range: text.
    Add,
    /// Adds each amount to the word's count, up to [`crate::base::limits::MAX_GIVEN_COUNT`] either side of zero:
    /// amounts given by hand. A count that is beyond already may only be moved toward zero.
    AddGiven,
    /// Adds each amount to the word's count, the positive ones as [`WriteOp::Add`] does; a negative one must not take
    /// the count below zero: a post is replaced or deleted.
    Exchange,
    /// Has an increment of each word wait, which is the raw key of a counter ([`crate::data::counters`]).
    Increment,
    /// Takes counters away, and what waits for them.
    RemoveCounter,
    /// Takes the words away, whatever their counts.
    RemoveWords,
    /// Takes the whole namespace away; there are no words with it.
    DropNamespace,
}
