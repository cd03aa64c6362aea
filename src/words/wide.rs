//! Pairs of counts too large for a cell.

use super::cell::Side;
use std::sync::{
    OnceLock,
    atomic::{AtomicI64, Ordering},
};

const FIRST_CHUNK: u32 = 16;
const CHUNKS: usize = 28;

/// Pairs by index, in chunks that double and never move.
#[derive(Debug, Default)]
pub(super) struct WidePairs {
    chunks: [OnceLock<Box<[[AtomicI64; 2]]>>; CHUNKS],
}

impl WidePairs {
    #[inline]
    pub(super) fn read(&self, index: u32, side: Side) -> i64 {
        self.place(index, side).load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn write(&self, index: u32, side: Side, count: i64) {
        self.place(index, side).store(count, Ordering::Relaxed);
    }

    fn place(&self, index: u32, side: Side) -> &AtomicI64 {
        let chunk = (index / FIRST_CHUNK + 1).ilog2();
        let start = ((1 << chunk) - 1) * FIRST_CHUNK;
        let pairs = self.chunks[chunk as usize]
            .get_or_init(|| (0..FIRST_CHUNK << chunk).map(|_| [AtomicI64::new(0), AtomicI64::new(0)]).collect());
        &pairs[(index - start) as usize][side.index()]
    }
}

/// Which pairs are in use. A pair that is given back rests until no reader can still look at it.
#[derive(Debug, Default)]
pub(super) struct WideLedger {
    next: u32,
    resting: Vec<u32>,
    free: Vec<u32>,
}

impl WideLedger {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, index: u32) {
        self.resting.push(index);
    }

    /// Every reader that was inside at an earlier call has left.
    pub(super) fn readers_left(&mut self) {
        self.free.append(&mut self.resting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let pairs = WidePairs::default();
        for index in 0..1_000 {
            pairs.write(index, Side(false), i64::from(index));
            pairs.write(index, Side(true), -i64::from(index));
        }
        for index in 0..1_000 {
            assert_eq!(pairs.read(index, Side(false)), i64::from(index));
            assert_eq!(pairs.read(index, Side(true)), -i64::from(index));
        }
    }

    #[test]
    fn a_pair_given_back_is_used_again_only_after_its_rest() {
        let mut ledger = WideLedger::default();
        let first = ledger.take();
        ledger.give_back(first);
        assert_ne!(ledger.take(), first);
        ledger.readers_left();
        assert_eq!(ledger.take(), first);
    }
}
