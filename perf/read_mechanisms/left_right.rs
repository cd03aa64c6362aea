//! Left-right: two sides of every count, readers on one, the writer on the other.
//!
//! A reader marks itself inside, learns which side is shown, and reads that side: it never waits and never repeats. The
//! writer prepares a record on the hidden side, shows it, waits until no reader is left on the other side, and brings
//! that one up to date.

use crate::{
    Mechanism,
    layout::{ArenaLayout, Layout, Place, TableLayout},
    workload::hasher,
};
use crossbeam_utils::CachePadded;
use memdb::data::counts::word_counts::WordCounts;
use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering, fence},
};
use thread_local::ThreadLocal;

/// How both sides of a count lie in its cells.
pub trait Form: Default + Send + Sync {
    /// The count on one side.
    fn read<L: Layout>(layout: &L, place: Place, side: u64) -> i64;
    /// Sets the hidden side `side` only.
    fn stage<L: Layout>(layout: &L, place: Place, side: u64, count: i64);
    /// Makes the other side equal to `side`, on which the count was staged.
    fn fold<L: Layout>(layout: &L, place: Place, side: u64);
}

/// Both sides in one cell, from the top bit down: side, escape, delta (20 bits, signed), base (42 bits, signed). The
/// named side is base + delta, the other one base. What does not fit escapes: the cell then tells where a pair lies.
#[derive(Default)]
pub struct Packed;

const SIDE_SHIFT: u32 = 63;
const ESCAPE: u64 = 1 << 62;
const BASE_BITS: u32 = 42;
const DELTA_BITS: u32 = 20;
const BASE_MASK: u64 = (1 << BASE_BITS) - 1;
const DELTA_MASK: u64 = (1 << DELTA_BITS) - 1;

fn fits(value: i64, bits: u32) -> bool {
    (value << (64 - bits)) >> (64 - bits) == value
}

fn base_of(cell: u64) -> i64 {
    (cell << (64 - BASE_BITS)).cast_signed() >> (64 - BASE_BITS)
}

fn delta_of(cell: u64) -> i64 {
    (cell << (64 - BASE_BITS - DELTA_BITS)).cast_signed() >> (64 - DELTA_BITS)
}

fn pack(side: u64, delta: i64, base: i64) -> u64 {
    side << SIDE_SHIFT | (delta.cast_unsigned() & DELTA_MASK) << BASE_BITS | base.cast_unsigned() & BASE_MASK
}

fn pair_of<L: Layout>(layout: &L, place: Place, cell: u64) -> Place {
    layout.pair_place(place, (cell & BASE_MASK) as usize)
}

impl Form for Packed {
    #[inline]
    fn read<L: Layout>(layout: &L, place: Place, side: u64) -> i64 {
        // Acquire: an escape's pair was written before its cell.
        let cell = layout.cell(place, 0).load(Ordering::Acquire);
        if cell & ESCAPE != 0 {
            return Pair::read(layout, pair_of(layout, place, cell), side);
        }
        base_of(cell) + if cell >> SIDE_SHIFT == side { delta_of(cell) } else { 0 }
    }

    #[inline]
    fn stage<L: Layout>(layout: &L, place: Place, side: u64, count: i64) {
        let cell = layout.cell(place, 0);
        let old = cell.load(Ordering::Relaxed);
        if old & ESCAPE != 0 {
            return Pair::stage(layout, pair_of(layout, place, old), side, count);
        }
        let base = base_of(old);
        if fits(count, BASE_BITS) && fits(count.wrapping_sub(base), DELTA_BITS) {
            cell.store(pack(side, count - base, base), Ordering::Relaxed);
        } else {
            let offset = layout.pair(place);
            let pair = layout.pair_place(place, offset);
            Pair::stage(layout, pair, side, count);
            Pair::stage(layout, pair, 1 - side, base);
            cell.store(ESCAPE | offset as u64, Ordering::Release);
        }
    }

    #[inline]
    fn fold<L: Layout>(layout: &L, place: Place, side: u64) {
        let cell = layout.cell(place, 0);
        let old = cell.load(Ordering::Relaxed);
        if old & ESCAPE != 0 {
            Pair::fold(layout, pair_of(layout, place, old), side);
        } else {
            cell.store(pack(side, 0, base_of(old) + delta_of(old)), Ordering::Relaxed);
        }
    }
}

/// A cell of 64 bits for each side.
#[derive(Default)]
pub struct Pair;

impl Form for Pair {
    #[inline]
    fn read<L: Layout>(layout: &L, place: Place, side: u64) -> i64 {
        layout.cell(place, side as usize).load(Ordering::Relaxed).cast_signed()
    }

    #[inline]
    fn stage<L: Layout>(layout: &L, place: Place, side: u64, count: i64) {
        layout.cell(place, side as usize).store(count.cast_unsigned(), Ordering::Relaxed);
    }

    #[inline]
    fn fold<L: Layout>(layout: &L, place: Place, side: u64) {
        let count = Self::read(layout, place, side);
        Self::stage(layout, place, 1 - side, count);
    }
}

/// Which side is shown, and who is reading.
#[derive(Default)]
struct Indicator {
    flips: CachePadded<AtomicU64>,
    /// One slot per reader thread, odd while it is inside.
    slots: ThreadLocal<CachePadded<AtomicU64>>,
}

/// A reader inside: the side it reads stays as it is until this is dropped.
struct Inside<'a> {
    slot: &'a AtomicU64,
    entered: u64,
    side: u64,
}

impl Indicator {
    #[inline]
    fn enter(&self) -> Inside<'_> {
        let slot = match self.slots.get() {
            Some(slot) => slot,
            None => self.register(),
        };
        let entered = slot.load(Ordering::Relaxed) + 1;
        // SeqCst, as the writer's store and fence: either the writer sees this slot odd, or this reader sees the flip.
        slot.store(entered, Ordering::SeqCst);
        Inside { slot, entered, side: self.flips.load(Ordering::SeqCst) & 1 }
    }

    #[cold]
    fn register(&self) -> &CachePadded<AtomicU64> {
        let slot = self.slots.get_or_default();
        // The slot is published by a Release store inside `ThreadLocal`; the fence keeps it ahead of the load of
        // `flips` that follows, so a writer that does not find the slot has not flipped before this reader looks.
        fence(Ordering::SeqCst);
        slot
    }

    /// Shows the hidden side and waits until nobody reads the other one.
    fn flip(&self) {
        self.flips.store(self.flips.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for slot in &self.slots {
            let seen = slot.load(Ordering::Acquire);
            let mut tries = 0;
            while seen & 1 == 1 && slot.load(Ordering::Acquire) == seen {
                // A reader is inside for a fraction of a microsecond, unless its thread was preempted there.
                tries += 1;
                if tries < 128 { std::hint::spin_loop() } else { std::thread::yield_now() }
            }
        }
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.slot.store(self.entered + 1, Ordering::Release);
    }
}

/// Left-right over a layout, in one of the two forms.
#[derive(Default)]
pub struct LeftRight<L, F> {
    layout: L,
    indicator: Indicator,
    form: PhantomData<F>,
}

/// What the writer of a [`LeftRight`] keeps to itself.
#[derive(Default)]
pub struct Writer<W> {
    layout: W,
    touched: Vec<Place>,
}

/// Mechanism 1, layout 1.
pub type PackedArena = LeftRight<ArenaLayout<1>, Packed>;
/// Mechanism 2, layout 1.
pub type PairArena = LeftRight<ArenaLayout<2>, Pair>;
/// Mechanism 1, layout 2.
pub type PackedTable = LeftRight<TableLayout, Packed>;

impl<L: Layout, F: Form> Mechanism for LeftRight<L, F> {
    type Writer = Writer<L::Writer>;

    fn new() -> (Self, Self::Writer) {
        Default::default()
    }

    fn apply(&self, writer: &mut Self::Writer, record: &WordCounts) {
        let Writer { layout: own, touched } = writer;
        touched.clear();
        let shown = self.indicator.flips.load(Ordering::Relaxed) & 1;
        let hidden = 1 - shown;
        for counted in record.iter() {
            let place = self.layout.find_or_insert(own, counted.hash, counted.word);
            let count = F::read(&self.layout, place, shown) + counted.amount;
            F::stage(&self.layout, place, hidden, count);
            touched.push(place);
        }
        self.indicator.flip();
        for &place in &*touched {
            F::fold(&self.layout, place, hidden);
        }
    }

    #[inline]
    fn read<const N: usize>(&self, words: [&str; N], _retries: &mut u64) -> [i64; N] {
        let hashes = words.map(|word| hasher().hash(word));
        let inside = self.indicator.enter();
        std::array::from_fn(|at| {
            let place = self.layout.find(hashes[at], words[at]);
            place.map_or(0, |place| F::read(&self.layout, place, inside.side))
        })
    }
}
