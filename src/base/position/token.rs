//! A position as clients see it: with a tag of its database.
//!
//! Two databases have positions of the same numbers, so outside a database a position is nothing without it. This is
//! the one grammar, parse and display; nothing else in the program reads a position from text.

use super::{Epoch, Position, Sequence};
use std::{cmp::Ordering, fmt, str::FromStr};

/// The short name of a database in its positions: the last eight hexadecimal digits of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatabaseTag(u32);

impl DatabaseTag {
    /// Digits of its text form.
    const DIGITS: usize = 8;

    /// The tag of a database.
    pub const fn of(database_id: u128) -> Self {
        Self(database_id as u32)
    }

    /// The tag as a number, to seed hashes that must differ between databases.
    pub const fn number(self) -> u32 {
        self.0
    }

    fn digits(self) -> [u8; Self::DIGITS] {
        std::array::from_fn(|at| b"0123456789abcdef"[(self.0 >> (4 * (Self::DIGITS - 1 - at))) as usize & 15])
    }
}

impl fmt::Display for DatabaseTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A position of a database, written `epoch-sequence-tag`, such as `3-1042-5f2a9c01`. Opaque to clients.
///
/// The grammar leaves room for `3-1042-5f2a9c01@7.812` (shard and slot) and for several of them with commas between. No
/// database of this release is sharded, so both are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PositionToken {
    /// The place in the history of that database.
    pub position: Position,
    /// The database.
    pub database: DatabaseTag,
}

impl PositionToken {
    /// A position of the database with this id.
    pub const fn of(database_id: u128, position: Position) -> Self {
        Self { position, database: DatabaseTag::of(database_id) }
    }

    /// The later of two positions, of which there may be no first. Of two databases it is that of `told`, which is
    /// asked for last.
    pub fn later(known: Option<Self>, told: Self) -> Self {
        known.filter(|known| *known >= told).unwrap_or(told)
    }

    /// Writes the text form. As [`Display`](fmt::Display), without its detours: every answer has one.
    #[inline]
    pub fn write_to(self, into: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        into.extend_from_slice(number.format(self.position.epoch).as_bytes());
        into.push(b'-');
        into.extend_from_slice(number.format(self.position.sequence).as_bytes());
        into.push(b'-');
        into.extend_from_slice(&self.database.digits());
    }
}

/// Positions of one database are ordered as they are in it; those of different databases are not ordered.
impl PartialOrd for PositionToken {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.database == other.database).then(|| self.position.cmp(&other.position))
    }
}

impl fmt::Display for PositionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.position, self.database)
    }
}

/// The reason why a text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePositionError {
    /// It has another form.
    #[error("a position has the form 3-1042-5f2a9c01: send it as an answer of this database gave it")]
    Malformed,
    /// It is an epoch and a sequence only, as positions of earlier releases were.
    #[error(
        "it does not say of which database it is, and every database has such a position: send it as an answer gave it, with \
         the tag at its end, such as 3-1042-5f2a9c01"
    )]
    Untagged,
    /// It names a shard, or several positions.
    #[error("it names a shard, or several positions, and no database of this release is sharded")]
    Sharded,
}

impl FromStr for PositionToken {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((first, _)) = text.split_once(['@', ',']) {
            return first.parse::<Self>().and(Err(ParsePositionError::Sharded));
        }
        let mut parts = text.split('-');
        let mut number = || parts.next().and_then(number).ok_or(ParsePositionError::Malformed);
        let (epoch, sequence): (Epoch, Sequence) = (number()?, number()?);
        let tag = parts.next().ok_or(ParsePositionError::Untagged)?;
        let database = tag_of(tag).filter(|_| parts.next().is_none()).ok_or(ParsePositionError::Malformed)?;
        Ok(Self { position: Position::new(epoch, sequence), database })
    }
}

/// A number in its one spelling: `u64::from_str` takes a leading '+' and zeros too.
fn number(text: &str) -> Option<u64> {
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_canonical { text.parse().ok() } else { None }
}

fn tag_of(text: &str) -> Option<DatabaseTag> {
    let is_canonical =
        text.len() == DatabaseTag::DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_canonical { u32::from_str_radix(text, 16).ok().map(DatabaseTag) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ParsePositionError::{Malformed, Sharded, Untagged};
    use proptest::prelude::*;

    #[test]
    fn a_position_shows_the_last_digits_of_its_database() {
        let token = PositionToken::of(0xfeed_0000_5f2a_9c01, Position::new(3, 1042));
        assert_eq!(token.to_string(), "3-1042-5f2a9c01");
        assert_eq!(PositionToken::of(7, Position::ZERO).to_string(), "0-0-00000007");
    }

    #[test]
    fn a_wrong_position_is_refused_with_what_to_send_instead() {
        for (text, why) in [
            ("3-1042", Untagged),
            ("0-0", Untagged),
            ("", Malformed),
            ("3", Malformed),
            ("-", Malformed),
            ("3-", Malformed),
            ("-1042-5f2a9c01", Malformed),
            ("+3-1042-5f2a9c01", Malformed),
            ("03-1042-5f2a9c01", Malformed),
            ("3-01-5f2a9c01", Malformed),
            ("3-1042-", Malformed),
            ("3-1042-5f2a9c0", Malformed),
            ("3-1042-5f2a9c011", Malformed),
            ("3-1042-5F2A9C01", Malformed),
            ("3-1042-+f2a9c01", Malformed),
            ("3-1042-5f2a9c01 ", Malformed),
            ("3-1042-5f2a9c01-", Malformed),
            ("3-1042-5f2a9c01-7", Malformed),
            ("3-18446744073709551616-5f2a9c01", Malformed),
            ("3-1042-5f2a9c01@7.812", Sharded),
            ("3-1042-5f2a9c01,3-7-5f2a9c01", Sharded),
            ("3-1042@7.812", Untagged),
            ("seven,", Malformed),
        ] {
            assert_eq!(text.parse::<PositionToken>(), Err(why), "{text:?}");
        }
        let told = Untagged.to_string();
        assert!(told.contains("of which database") && told.contains("3-1042-5f2a9c01"), "{told}");
    }

    #[test]
    fn positions_of_different_databases_are_not_ordered() {
        let at = |database, sequence| PositionToken::of(database, Position::new(1, sequence));
        assert!(at(7, 1) < at(7, 2));
        assert_eq!(at(7, 1).partial_cmp(&at(8, 2)), None);
        assert_ne!(at(7, 1), at(8, 1));
    }

    proptest! {
        #[test]
        fn every_position_has_one_text_form_and_comes_back(database: u128, epoch: u64, sequence: u64) {
            let token = PositionToken::of(database, Position::new(epoch, sequence));
            let mut text = Vec::new();
            token.write_to(&mut text);
            prop_assert_eq!(String::from_utf8(text), Ok(token.to_string()));
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }
    }
}
