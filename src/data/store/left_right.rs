//! Left-right: readers on one side, the Writer on the other, without a lock.
//!
//! From the technique of Ramalhete and Correia ("Left-Right: A Concurrency Control Technique with Wait-Free
//! Population Oblivious Reads", 2015), with one indicator per thread. A reader marks its slot odd, then reads which
//! side is current; the Writer flips the side, then waits until every slot is even or has moved on. Both do their
//! store before their load in the one order of sequentially consistent operations, so either the reader sees the flip
//! or the Writer sees the reader.
//!
//! A read never waits. The Writer waits, once for each thread, for reads that were inside at the flip or came while it
//! looked: nanoseconds, or, if such a reader was preempted, until it runs again. So readers hold a guard for
//! microseconds and never across an await.

use crate::{
    base::atomics::{AtomicU64, Backoff, Ordering, ThreadLocal, fence},
    data::counts::index::Side,
};
use crossbeam_utils::CachePadded;
use std::marker::PhantomData;

// A cache line each: readers that write to neighbouring slots would take the line from each other at every read.
type ReaderSlot = CachePadded<AtomicU64>;

#[derive(Default)]
pub(super) struct LeftRight {
    // A count, not the side alone: `peek` has to notice two flips that lead back to the same side.
    flips: CachePadded<AtomicU64>,
    slots: ThreadLocal<ReaderSlot>,
}

/// A reader on one side, which keeps the Writer from storing there. Not `Send`: its slot is its thread's.
pub(super) struct SideGuard<'a> {
    slot: &'a AtomicU64,
    pub(super) side: Side,
    not_send: PhantomData<*const ()>,
}

impl LeftRight {
    /// Registers this thread as a reader of the current side; wait-free.
    ///
    /// # Panics
    /// If this thread holds a guard already: one at a time keeps the Writer's wait short.
    #[inline]
    pub(super) fn enter(&self) -> SideGuard<'_> {
        let slot: &AtomicU64 = self.slots.get().unwrap_or_else(|| {
            let slot = self.slots.get_or_default();
            // The thread's first visit: the slot is published before the side is read below.
            fence(Ordering::SeqCst);
            slot
        });
        // Relaxed: no other thread writes to this slot.
        let visits = slot.load(Ordering::Relaxed);
        assert!(visits.is_multiple_of(2), "a thread holds one read guard at a time");
        // SeqCst for this store and the load behind it: under Release and Acquire the store may become visible after
        // the load, and the Writer would overlook a reader that is still on the old side.
        slot.store(visits + 1, Ordering::SeqCst);
        let side = side_of(self.flips.load(Ordering::SeqCst));
        SideGuard { slot, side, not_send: PhantomData }
    }

    /// Reads without registering, so that the Writer never waits for it: `None` if readers were moved meanwhile, since
    /// what was read may then be of two positions.
    ///
    /// What the Writer stores after a flip comes behind that flip's fence, so whoever saw any of it sees the flip too.
    pub(super) fn peek<T>(&self, look: impl FnOnce(Side) -> T) -> Option<T> {
        // Acquire: what this look sees of the side is not older than the flip that led to it.
        let flips = self.flips.load(Ordering::Acquire);
        let seen = look(side_of(flips));
        // Without the fence the second load of the flips might come before the loads of the look.
        fence(Ordering::Acquire);
        (self.flips.load(Ordering::Relaxed) == flips).then_some(seen)
    }

    /// The side readers are on. For the Writer, who alone changes it.
    pub(super) fn side(&self) -> Side {
        side_of(self.flips.load(Ordering::Relaxed))
    }

    /// Moves readers to the other side, and returns once none is left on the old one.
    pub(super) fn flip(&self) {
        let flips = self.flips.load(Ordering::Relaxed);
        // The other half of the order in `enter`: the flip is stored before any slot is read. The fence serves a thread
        // on its first visit, whose slot may not be among those that are read, and keeps the Writer's later stores
        // behind the flip, which `peek` relies on.
        self.flips.store(flips + 1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for slot in self.slots.iter() {
            let visits = slot.load(Ordering::SeqCst);
            // Nobody is inside. Who comes later reads the flip and goes to the new side.
            if visits.is_multiple_of(2) {
                continue;
            }
            // A slot counts visits and is no flag, so the Writer waits for the visit that it met and for no later one:
            // a thread that reads all the time cannot keep it waiting.
            let patience = Backoff::new();
            // Acquire, with the Release of the guard's drop: the reader's loads come before what the Writer stores
            // next. The wait gives up its core after a few turns, since the reader may have lost its own.
            while slot.load(Ordering::Acquire) == visits {
                patience.snooze();
            }
        }
    }
}

impl Drop for SideGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: what was read inside was read before the Writer sees the reader gone.
        self.slot.store(self.slot.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

const fn side_of(flips: u64) -> Side {
    Side(!flips.is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_waits_for_the_reader_inside_and_shows_later_ones_the_new_side() {
        let gate = LeftRight::default();
        let (inside, entered) = std::sync::mpsc::sync_channel(1);
        let (leave, left) = std::sync::mpsc::sync_channel::<()>(1);
        let flipped = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (gate, flipped) = (&gate, &flipped);
            scope.spawn(move || {
                let guard = gate.enter();
                inside.send(guard.side).expect("the test listens");
                left.recv().expect("the test tells");
                assert!(!flipped.load(Ordering::SeqCst), "the Writer went on while a reader was on the old side");
                drop(guard);
            });
            assert_eq!(entered.recv().expect("it entered"), Side(false));
            let writer = scope.spawn(move || {
                gate.flip();
                flipped.store(true, Ordering::SeqCst);
            });
            while gate.side() == Side(false) {
                std::thread::yield_now();
            }
            let later = gate.enter();
            assert_eq!(later.side, Side(true));
            drop(later); // the Writer may have met this one too, and waits for it as well
            leave.send(()).expect("the reader waits");
            writer.join().expect("the flip ends");
        });
    }

    #[test]
    fn a_look_from_outside_counts_only_if_no_flip_came() {
        let gate = LeftRight::default();
        assert_eq!(gate.peek(|side| side), Some(Side(false)));
        assert_eq!(gate.peek(|_| gate.flip()), None);
        assert_eq!(gate.peek(|side| side), Some(Side(true)));
    }

    #[test]
    #[should_panic(expected = "one read guard at a time")]
    fn a_second_guard_on_a_thread_is_refused() {
        let gate = LeftRight::default();
        let _first = gate.enter();
        let _second = gate.enter();
    }
}
