//! The bounded queue in front of the Writer.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::{collections::VecDeque, time::Duration};

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
    taker_waits: bool,
    closed: bool,
}

impl<E> BoundedQueue<E> {
    pub(crate) fn new(most_items: usize, most_bytes: usize) -> Self {
        let state = QueueState { events: VecDeque::new(), items: 0, bytes: 0, taker_waits: false, closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new(), most_items, most_bytes }
    }

    /// Puts an event in if the bounds allow it; gives it back otherwise. One event fits an empty queue whatever its
    /// size, so that no write is refused for ever.
    pub(crate) fn try_push(&self, event: E, bytes: usize) -> Result<(), E> {
        let mut state = self.state.lock();
        let full = state.items > 0 && (state.items >= self.most_items || state.bytes + bytes > self.most_bytes);
        if full || state.closed {
            return Err(event);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_beyond_either_bound_and_takes_in_order() {
        let queue = BoundedQueue::new(2, 10);
        assert_eq!(queue.bound(), 2);
        assert_eq!(queue.try_push("large", 99), Ok(()), "one event always fits");
        assert_eq!(queue.try_push("second", 1), Err("second"));
        let mut taken = VecDeque::new();
        queue.take(&mut taken, None);
        assert_eq!(taken.drain(..).collect::<Vec<_>>(), ["large"]);
        assert_eq!(
            (queue.try_push("a", 5), queue.try_push("b", 5), queue.try_push("c", 0)),
            (Ok(()), Ok(()), Err("c"))
        );
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
        assert_eq!(queue.try_push(2, 1), Err(2));
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
