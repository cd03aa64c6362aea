//! The bounded queue in front of the Writer.

use crate::base::limits;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// Bounds of the queue in front of the Writer.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Batches.
    pub batches: usize,
    /// Bytes of their words.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { batches: limits::DEFAULT_QUEUE_BATCHES, bytes: limits::DEFAULT_QUEUE_BYTES }
    }
}

/// A queue that many put into and one takes everything out of.
pub(crate) struct BoundedQueue<E> {
    state: Mutex<QueueState<E>>,
    arrived: Condvar,
    most_items: usize,
    most_bytes: usize,
}

struct QueueState<E> {
    events: VecDeque<E>,
    /// Of the events in the queue, those that count against the bounds.
    items: usize,
    bytes: usize,
    /// Counts each time that everything is taken out, from a number that no other queue comes to.
    takes: u64,
    taker_waits: bool,
    closed: bool,
}

impl<E> BoundedQueue<E> {
    pub(crate) fn new(most_items: usize, most_bytes: usize) -> Self {
        let state = QueueState {
            events: VecDeque::new(),
            items: 0,
            bytes: 0,
            takes: first_take(),
            taker_waits: false,
            closed: false,
        };
        Self { state: Mutex::new(state), arrived: Condvar::new(), most_items, most_bytes }
    }

    /// Puts an event in if the bounds allow it, those of `usage` first. One event fits an empty queue whatever its
    /// size, so that no write is refused for ever.
    ///
    /// # Errors
    /// [`Full::Share`] if whoever offers it holds its share, [`Full::Queue`] if all is held, or the queue is closed.
    pub(crate) fn try_push(&self, event: E, bytes: usize, usage: Option<QueueShare<'_>>) -> Result<(), Full> {
        let mut state = self.state.lock();
        let full = state.items > 0 && (state.items >= self.most_items || state.bytes + bytes > self.most_bytes);
        if usage.is_some_and(|share| !share.has_room(bytes, state.takes)) {
            return Err(Full::Share);
        }
        if full || state.closed {
            return Err(Full::Queue);
        }
        if let Some(QueueShare { usage, .. }) = usage {
            usage.add(bytes);
        }
        state.items += 1;
        state.bytes += bytes;
        self.put(state, event);
        Ok(())
    }

    /// Puts an event in that must not be refused: there are only ever a few of these.
    pub(crate) fn push(&self, event: E) {
        self.put(self.state.lock(), event);
    }

    /// Moves all events to `into`; waits up to `patience` for the first.
    pub(crate) fn take(&self, into: &mut VecDeque<E>, patience: Option<Duration>) {
        let mut state = self.await_first(patience);
        // All is taken at once: the lock is taken once for a whole group, and what comes meanwhile makes the next one.
        state.items = 0;
        state.bytes = 0;
        state.takes += 1;
        // An empty buffer goes back in: in the steady state nothing is allocated.
        std::mem::swap(&mut state.events, into);
    }

    /// Waits up to `patience` for an event, and leaves it there.
    pub(crate) fn wait(&self, patience: Option<Duration>) {
        drop(self.await_first(patience));
    }

    /// Returns whether there is no event of any kind.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().events.is_empty()
    }

    fn await_first(&self, patience: Option<Duration>) -> MutexGuard<'_, QueueState<E>> {
        let mut state = self.state.lock();
        if state.events.is_empty() {
            state.taker_waits = true;
            match patience {
                Some(patience) => {
                    self.arrived.wait_for(&mut state, patience);
                }
                None => self.arrived.wait(&mut state),
            }
            state.taker_waits = false;
        }
        state
    }

    /// Takes nothing more in, and gives what is left.
    pub(crate) fn close(&self) -> VecDeque<E> {
        let mut state = self.state.lock();
        state.closed = true;
        std::mem::take(&mut state.events)
    }

    /// Events that count against the bound.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().items
    }

    /// Gives the number of events that may count against the bound.
    pub(crate) fn bound(&self) -> usize {
        self.most_items
    }

    fn put(&self, mut state: MutexGuard<'_, QueueState<E>>, event: E) {
        state.events.push_back(event);
        // A wake-up is a system call, so it is made only where the taker waits for one.
        let wake = std::mem::take(&mut state.taker_waits);
        // Unlocked first: the thread that is woken needs the lock.
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }
}

/// Where a queue begins to count its takes: a usage may have been counted in another queue before.
fn first_take() -> u64 {
    static QUEUES: AtomicU64 = AtomicU64::new(1);
    QUEUES.fetch_add(1, Ordering::Relaxed) << 40
}

/// The reason for which an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Whoever offered it has its share of the queue.
    Share,
    /// The queue is full, or closed.
    Queue,
}

/// The part of a leader's queue that some of those who write hold. It is read and changed under the lock of the queue,
/// so that a write costs no lock of its own.
#[derive(Debug, Default)]
pub struct QueueUsage {
    /// The take of a queue before which the numbers were counted: it has taken all of that.
    takes: AtomicU64,
    items: AtomicUsize,
    bytes: AtomicUsize,
}

impl QueueUsage {
    fn add(&self, bytes: usize) {
        self.items.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A part of a leader's queue, with the most that it may be.
#[derive(Clone, Copy, Debug)]
pub struct QueueShare<'a> {
    /// The part.
    pub usage: &'a QueueUsage,
    /// Its bounds.
    pub most: QueueLimits,
}

impl QueueShare<'_> {
    fn has_room(self, bytes: usize, takes: u64) -> bool {
        let Self { usage, most } = self;
        if usage.takes.swap(takes, Ordering::Relaxed) != takes {
            usage.items.store(0, Ordering::Relaxed);
            usage.bytes.store(0, Ordering::Relaxed);
        }
        let (items, held) = (usage.items.load(Ordering::Relaxed), usage.bytes.load(Ordering::Relaxed));
        items == 0 || (items < most.batches && held + bytes <= most.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_who_offers_has_its_share_until_the_next_take() {
        let queue = BoundedQueue::new(6, 100);
        let most = QueueLimits { batches: 2, bytes: 10 };
        let usages = [QueueUsage::default(), QueueUsage::default(), QueueUsage::default()];
        let [one, other, third] = usages.each_ref().map(|usage| QueueShare { usage, most });
        let mut taken = VecDeque::new();
        for _ in 0..2 {
            assert_eq!(queue.try_push("large", 50, Some(one)), Ok(()), "one event always fits");
            assert_eq!(queue.try_push("more", 1, Some(one)), Err(Full::Share));
            assert_eq!(queue.try_push("a", 5, Some(other)), Ok(()));
            assert_eq!(queue.try_push("too large", 6, Some(other)), Err(Full::Share));
            assert_eq!(queue.try_push("b", 5, Some(other)), Ok(()));
            assert_eq!(queue.try_push("third", 0, Some(other)), Err(Full::Share));
            assert_eq!(queue.try_push("of nobody", 40, None), Ok(()));
            assert_eq!(queue.try_push("all is held", 1, Some(third)), Err(Full::Queue));
            queue.take(&mut taken, None);
            assert_eq!(taken.drain(..).collect::<Vec<_>>(), ["large", "a", "b", "of nobody"]);
        }
    }

    #[test]
    fn refuses_beyond_either_bound_and_takes_in_order() {
        let queue = BoundedQueue::new(2, 10);
        assert_eq!(queue.bound(), 2);
        assert_eq!(queue.try_push("large", 99, None), Ok(()), "one event always fits");
        assert_eq!(queue.try_push("second", 1, None), Err(Full::Queue));
        let mut taken = VecDeque::new();
        queue.take(&mut taken, None);
        assert_eq!(taken.drain(..).collect::<Vec<_>>(), ["large"]);
        assert_eq!((queue.try_push("a", 5, None), queue.try_push("b", 5, None)), (Ok(()), Ok(())));
        assert_eq!(queue.try_push("c", 0, None), Err(Full::Queue));
        queue.push("always");
        assert_eq!(queue.len(), 2);
        queue.take(&mut taken, None);
        assert_eq!(taken, ["a", "b", "always"]);
    }

    #[test]
    fn a_waiting_taker_is_woken() {
        let queue = BoundedQueue::new(2, 10);
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let mut taken = VecDeque::new();
                while taken.is_empty() {
                    queue.take(&mut taken, None);
                }
                taken
            });
            queue.push(7);
            assert_eq!(taker.join().expect("it ends"), [7]);
        });
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_what_is_left() {
        let queue = BoundedQueue::new(2, 10);
        queue.push(1);
        assert_eq!(queue.close(), [1]);
        assert_eq!(queue.try_push(2, 1, None), Err(Full::Queue));
    }

    #[test]
    fn patience_ends() {
        let queue = BoundedQueue::<u8>::new(2, 10);
        let mut taken = VecDeque::new();
        queue.take(&mut taken, Some(Duration::from_millis(1)));
        assert!(taken.is_empty());
    }

    #[test]
    fn a_waiting_thread_takes_nothing_from_a_queue() {
        let queue = BoundedQueue::new(2, 10);
        queue.wait(Some(Duration::ZERO));
        assert!(queue.is_empty());
        queue.push(1);
        queue.wait(None);
        assert!(!queue.is_empty(), "an event that counts against no bound is one");
        let mut taken = VecDeque::new();
        queue.take(&mut taken, Some(Duration::ZERO));
        assert!(taken == [1] && queue.is_empty());
    }
}
