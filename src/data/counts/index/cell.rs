//! One count in one `u64`, with a value for each of two sides.
//!
//! ```text
//! bit 63      1: the counts live in a pair of units, whose offset in the arena is in the low 32 bits
//! bit 62      the side that reads base + delta
//! bits 42-61  delta, signed: what the record in flight adds
//! bits 0-41   base, signed: the count on the other side
//! ```
//!
//! The Writer stores a cell twice a record: first with the new count on the side that nobody reads, then, once every
//! reader has moved to that side, folded: base is the new count and delta is 0, the same on both sides. Each is one
//! store, so a reader sees a whole count whatever it meets. Counts beyond ±2.2 × 10^12, and steps beyond ±524,287,
//! live in a pair of `i64` instead, for as long as the entry stays where it is.

/// One of the two sides a count has: readers are on one, the Writer prepares the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side(pub(crate) bool);

impl Side {
    /// The other side.
    pub const fn other(self) -> Side {
        Side(!self.0)
    }

    /// 0 or 1, to index a pair.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

const WIDE: u64 = 1 << 63;
const SIDE: u64 = 1 << 62;
const DELTA_BITS: u32 = 20;
const BASE_BITS: u32 = 42;

/// The decoded content of a raw cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountCell {
    /// The count on the asked side.
    Count(i64),
    /// The counts are in the pair at this offset.
    Wide(u32),
}

/// Reads a raw cell on one side.
#[inline]
pub(super) const fn decode(raw: u64, side: Side) -> CountCell {
    if raw & WIDE != 0 {
        return CountCell::Wide(raw as u32);
    }
    // Shift each field to the top and back, so that its sign is carried.
    let base = (raw << (64 - BASE_BITS)).cast_signed() >> (64 - BASE_BITS);
    let delta = (raw << (64 - BASE_BITS - DELTA_BITS)).cast_signed() >> (64 - DELTA_BITS);
    let written_side = raw & SIDE != 0;
    CountCell::Count(if written_side == side.0 { base + delta } else { base })
}

/// The cell that reads `new` on `side` and `old` on the other; `None` if they do not fit.
#[inline]
pub(super) const fn in_flight(side: Side, new: i64, old: i64) -> Option<u64> {
    let Some(delta) = new.checked_sub(old) else { return None };
    // The new count has to fit although it is not stored here: it becomes the base once both sides are made equal, and
    // that step must not fail. A delta that fits is not enough.
    if !fits(old, BASE_BITS) || !fits(delta, DELTA_BITS) || !fits(new, BASE_BITS) {
        return None;
    }
    // Two bits of the cell lie in front of the delta.
    let delta_field = (delta.cast_unsigned() << (64 - DELTA_BITS)) >> 2;
    let base_field = (old.cast_unsigned() << (64 - BASE_BITS)) >> (64 - BASE_BITS);
    Some((if side.0 { SIDE } else { 0 }) | delta_field | base_field)
}

/// The cell that reads `count` on both sides; `None` if it does not fit.
#[inline]
pub(super) const fn folded(count: i64) -> Option<u64> {
    in_flight(Side(false), count, count)
}

/// The cell whose counts are in the pair at `offset`.
pub(super) const fn wide(offset: u32) -> u64 {
    WIDE | offset as u64
}

const fn fits(value: i64, bits: u32) -> bool {
    let shift = 64 - bits;
    (value << shift) >> shift == value
}

const _: () = assert!(DELTA_BITS + BASE_BITS + 2 == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEFT: Side = Side(false);
    const RIGHT: Side = Side(true);
    const BASE_MAX: i64 = (1 << 41) - 1;
    const DELTA_MAX: i64 = (1 << 19) - 1;

    #[test]
    fn a_fresh_cell_is_zero_on_both_sides() {
        assert_eq!((decode(0, LEFT), decode(0, RIGHT)), (CountCell::Count(0), CountCell::Count(0)));
    }

    #[test]
    fn a_count_that_does_not_fit_its_cell_is_refused() {
        assert!(in_flight(LEFT, BASE_MAX, BASE_MAX).is_some());
        assert!(in_flight(LEFT, BASE_MAX + 1, BASE_MAX).is_none());
        assert!(in_flight(LEFT, -BASE_MAX - 1, -BASE_MAX - 1).is_some());
        assert!(in_flight(LEFT, -BASE_MAX - 2, -BASE_MAX - 1).is_none());
        assert!(in_flight(RIGHT, DELTA_MAX, 0).is_some());
        assert!(in_flight(RIGHT, DELTA_MAX + 1, 0).is_none());
        assert!(in_flight(RIGHT, i64::MAX, i64::MIN).is_none());
    }

    proptest! {
        #[test]
        fn each_side_reads_its_own_count(
            base in -BASE_MAX - 1..=BASE_MAX, delta in -DELTA_MAX - 1..=DELTA_MAX, right: bool,
        ) {
            let (side, new) = (Side(right), base + delta);
            match in_flight(side, new, base) {
                Some(raw) => {
                    prop_assert_eq!(decode(raw, side), CountCell::Count(new));
                    prop_assert_eq!(decode(raw, side.other()), CountCell::Count(base));
                }
                None => prop_assert!(!fits(new, BASE_BITS)),
            }
        }

        #[test]
        fn a_wide_cell_gives_back_its_offset(offset: u32) {
            prop_assert_eq!(decode(wide(offset), LEFT), CountCell::Wide(offset));
            prop_assert_eq!(decode(wide(offset), RIGHT), CountCell::Wide(offset));
        }
    }
}
