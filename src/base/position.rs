//! Positions in the history of a database: an epoch, and a sequence that never has a gap.
//!
//! Every leadership is a new [`Epoch`]; every record takes the next sequence, which goes on over
//! epochs. So a [`Position`] `3-1042` reads: record 1042 of this database, written in the third epoch. Outside of it a
//! position carries a tag of the database: [`PositionToken`]. The [`EpochTable`] remembers where each past epoch ended,
//! which is what decides whether a position somebody else holds is part of this history.

mod token;

pub use token::{DatabaseTag, ParsePositionError, PositionToken};

use bincode::{Decode, Encode};
use std::fmt;

/// A leadership: 1 for the first of a database. A start takes the next; a promotion takes the next, or one of the
/// million behind it where a node that may take the next could not be asked
/// (`docs/decisions/0009-promotion-by-promise.md`).
pub type Epoch = u64;
/// The number of a record: 1 for the first of a database, then one more each.
pub type Sequence = u64;

/// The place of one record in the history of a database. Ordered by epoch, then sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Position {
    /// The epoch that wrote the record.
    pub epoch: Epoch,
    /// The record's sequence.
    pub sequence: Sequence,
}

impl Position {
    /// Before the first record.
    pub const ZERO: Position = Position { epoch: 0, sequence: 0 };

    /// A position from its two parts.
    pub const fn new(epoch: Epoch, sequence: Sequence) -> Self {
        Self { epoch, sequence }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

/// The relation of a position that a client or another node names to this history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionStatus {
    /// It is part of this history and already applied here.
    Reached,
    /// It may become part of this history; it is not applied here yet.
    Ahead,
    /// It was once promised and this history went on without it: it will never be reached.
    Lost,
    /// It is of another database.
    OtherDatabase,
}

/// Past epochs with the last sequence of each, in order; older ones are forgotten beyond a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct EpochTable {
    ended: Vec<Position>,
}

impl EpochTable {
    /// Adds an epoch that has ended at `last`. An epoch that wrote nothing ends where the one before it did.
    ///
    /// # Panics
    /// If `last` is not after every epoch the table holds, or its sequence goes back: the caller mixed two histories.
    pub fn end(&mut self, last: Position) {
        if let Some(previous) = self.ended.last() {
            assert!(last.epoch > previous.epoch, "epoch {} ended after {}", last.epoch, previous.epoch);
            assert!(last.sequence >= previous.sequence, "the sequence went back from {previous} to {last}");
        }
        self.ended.push(last);
        if self.ended.len() > crate::base::limits::EPOCHS_REMEMBERED {
            self.ended.remove(0);
        }
    }

    /// The last sequence of a past epoch; `None` for the current one, a future one, or one forgotten.
    pub fn last_of(&self, epoch: Epoch) -> Option<Sequence> {
        let at = self.ended.binary_search_by_key(&epoch, |ended| ended.epoch).ok()?;
        Some(self.ended[at].sequence)
    }

    /// The epochs that have ended, oldest first, each with its last sequence.
    pub fn ended(&self) -> &[Position] {
        &self.ended
    }

    /// Classifies `asked` for a node that has applied `applied`.
    ///
    /// `Memdb-Min-Position` (e, s) is met if e is current and s applied, or e is older and s was written in it; a
    /// sequence beyond the end of its epoch is lost. A position before everything is always reached.
    pub fn position_status(&self, asked: Position, applied: Position) -> PositionStatus {
        if asked.sequence == 0 {
            return PositionStatus::Reached;
        }
        if asked.epoch > applied.epoch {
            return PositionStatus::Ahead;
        }
        if asked.epoch == applied.epoch {
            return if asked.sequence <= applied.sequence { PositionStatus::Reached } else { PositionStatus::Ahead };
        }
        match self.last_of(asked.epoch) {
            Some(last) if asked.sequence <= last => PositionStatus::Reached,
            _ => PositionStatus::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_epoch_then_sequence() {
        assert!(Position::new(2, 1) > Position::new(1, 100));
        assert!(Position::new(2, 2) > Position::new(2, 1));
        assert!(Position::ZERO < Position::new(0, 1));
    }

    #[test]
    fn standing_knows_reached_ahead_and_lost() {
        let mut table = EpochTable::default();
        table.end(Position::new(1, 10));
        table.end(Position::new(2, 10)); // wrote nothing
        table.end(Position::new(4, 25));
        let applied = Position::new(5, 30);
        let cases = [
            (Position::new(5, 30), PositionStatus::Reached),
            (Position::new(5, 31), PositionStatus::Ahead),
            (Position::new(6, 1), PositionStatus::Ahead),
            (Position::new(1, 10), PositionStatus::Reached),
            (Position::new(1, 11), PositionStatus::Lost),
            (Position::new(4, 26), PositionStatus::Lost),
            (Position::new(3, 5), PositionStatus::Lost), // an epoch this history never had
            (Position::ZERO, PositionStatus::Reached),
        ];
        for (asked, expected) in cases {
            assert_eq!(table.position_status(asked, applied), expected, "{asked}");
        }
    }

    #[test]
    fn table_forgets_the_oldest_beyond_its_bound() {
        let mut table = EpochTable::default();
        for epoch in 1..=(crate::base::limits::EPOCHS_REMEMBERED as u64 + 3) {
            table.end(Position::new(epoch, epoch));
        }
        assert_eq!(table.ended().len(), crate::base::limits::EPOCHS_REMEMBERED);
        assert_eq!(table.last_of(3), None);
        assert_eq!(table.last_of(4), Some(4));
    }

    #[test]
    #[should_panic(expected = "the sequence went back")]
    fn table_refuses_a_sequence_that_goes_back() {
        let mut table = EpochTable::default();
        table.end(Position::new(1, 10));
        table.end(Position::new(2, 9));
    }
}
