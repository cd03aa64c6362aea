//! The queue in front of the hashes of passwords: some are made at once, and nobody waits without a bound.
//!
//! A hash is slow on purpose, so wrong passwords from many addresses could keep everybody out. Addresses therefore take
//! turns, however many passwords each sends, and those that have shown no wrong one of late go first: a guess from such
//! an address is its last one there.

use crate::base::limits::{PASSWORD_PATIENCE_MS, PASSWORDS_AT_ONCE};
use parking_lot::Mutex;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// The niceness of threads that hash: as long as others have work, they get a tenth of a processor.
const HASHER_NICE: i32 = 10;

/// Has a password hashed on a thread that gives way to those that serve; `None` if there is no thread for it.
pub(super) async fn on_own_thread<T: Send + 'static>(hash: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // A thread costs some 50 µs, a hash some 20 ms; and the niceness of a thread cannot be taken back.
    let (done, hashed) = oneshot::channel();
    let run = move || {
        // On Linux of this thread alone. Without it the hash is as urgent as a read.
        let _ = rustix::process::nice(HASHER_NICE);
        let _ = done.send(hash()); // whoever has asked may have gone
    };
    std::thread::Builder::new().name("memdb-passwords".into()).spawn(run).ok()?;
    hashed.await.ok()
}

/// The queue of those whose passwords are to be hashed.
#[derive(Debug)]
pub(super) struct HasherQueue(Mutex<HasherLine>);

/// The right to hash a password. The next one has it once this one is dropped.
#[derive(Debug)]
pub(super) struct HasherTurn {
    queue: Arc<HasherQueue>,
    address: IpAddr,
}

#[derive(Debug)]
struct HasherLine {
    /// Hashes that may be begun; none as long as somebody waits.
    free: usize,
    /// The highest round of those who have had their turn.
    round: u64,
    /// Numbers those who wait, in the order in which they came.
    next_number: u64,
    /// At most some of each address, which `GuessThrottle` sees to.
    waiting: Vec<WaitingHash>,
}

#[derive(Debug)]
struct WaitingHash {
    address: IpAddr,
    has_failed: bool,
    /// Each address has one place in a round.
    round: u64,
    number: u64,
    turn: oneshot::Sender<HasherTurn>,
}

/// A place in the line, which is left when this is dropped.
struct LinePlace {
    queue: Arc<HasherQueue>,
    number: u64,
    turn: oneshot::Receiver<HasherTurn>,
}

impl HasherQueue {
    pub(super) fn new() -> Self {
        Self(Mutex::new(HasherLine { free: PASSWORDS_AT_ONCE, round: 0, next_number: 0, waiting: Vec::new() }))
    }

    /// Waits for a turn; none if that takes too long. `has_failed`: the address has shown a wrong password of late.
    pub(super) async fn turn(self: &Arc<Self>, address: IpAddr, has_failed: bool) -> Option<HasherTurn> {
        let mut place = {
            let mut line = self.0.lock();
            if line.free > 0 {
                line.free -= 1;
                return Some(HasherTurn { queue: Arc::clone(self), address });
            }
            let (given, turn) = oneshot::channel();
            let number = line.enter(address, has_failed, given);
            LinePlace { queue: Arc::clone(self), number, turn }
        };
        timeout(Duration::from_millis(PASSWORD_PATIENCE_MS), &mut place.turn).await.ok()?.ok()
    }
}

impl HasherTurn {
    /// Notes that the password was wrong: what else waits of the address goes behind all others.
    pub(super) fn note_failure(&self) {
        let mut line = self.queue.0.lock();
        line.waiting.iter_mut().filter(|waiting| waiting.address == self.address).for_each(|waiting| {
            waiting.has_failed = true;
        });
    }
}

impl Drop for HasherTurn {
    fn drop(&mut self) {
        let next = self.queue.0.lock().next();
        if let Some(WaitingHash { address, turn, .. }) = next {
            // Whoever has gone away meanwhile drops it, and so passes it on.
            drop(turn.send(HasherTurn { queue: Arc::clone(&self.queue), address }));
        }
    }
}

impl Drop for LinePlace {
    fn drop(&mut self) {
        self.queue.0.lock().waiting.retain(|waiting| waiting.number != self.number);
    }
}

impl HasherLine {
    fn enter(&mut self, address: IpAddr, has_failed: bool, turn: oneshot::Sender<HasherTurn>) -> u64 {
        let rounds = self.waiting.iter().filter(|waiting| waiting.address == address).map(|waiting| waiting.round + 1);
        let (round, number) = (rounds.max().unwrap_or(0).max(self.round), self.next_number);
        self.next_number += 1;
        self.waiting.push(WaitingHash { address, has_failed, round, number, turn });
        number
    }

    fn next(&mut self) -> Option<WaitingHash> {
        let rank = |&at: &usize| {
            let WaitingHash { has_failed, round, number, .. } = self.waiting[at];
            (has_failed, round, number)
        };
        let Some(first) = (0..self.waiting.len()).min_by_key(rank) else {
            self.free += 1;
            return None;
        };
        let next = self.waiting.swap_remove(first);
        self.round = self.round.max(next.round);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, future::join_all};
    use std::{cell::Cell, net::Ipv4Addr, pin::pin};
    use tokio::time::{Instant, sleep};

    const HASH: Duration = Duration::from_millis(20);

    fn at(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    /// Eight wrong passwords from each of some addresses, and then one from another. Gives how many hashes were begun
    /// before that one.
    async fn begun_before_another(addresses: u32, has_failed: bool) -> usize {
        let (queue, begun) = (Arc::new(HasherQueue::new()), Cell::new(0));
        let wrong = (0..8 * addresses).map(|number| {
            let (queue, begun) = (&queue, &begun);
            async move {
                let turn = queue.turn(at(number / 8), has_failed).await;
                begun.set(begun.get() + 1);
                sleep(HASH).await;
                turn.expect("it is soon").note_failure();
            }
        });
        let mut wrong = pin!(join_all(wrong));
        assert_eq!((&mut wrong).now_or_never(), None, "all of them wait");
        let other = async {
            assert!(queue.turn(at(1_000), false).await.is_some());
            begun.get()
        };
        tokio::join!(other, wrong).0
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_waits_for_one_hash_of_each_other_and_for_none_of_those_that_have_failed() {
        let before = begun_before_another(30, false).await;
        assert!(before <= 30 + PASSWORDS_AT_ONCE, "{before} of 240 hashes came first");
        let before = begun_before_another(30, true).await;
        assert!(before <= 2 * PASSWORDS_AT_ONCE, "{before} of 240 hashes came first");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_have_failed_take_turns_too() {
        let queue = Arc::new(HasherQueue::new());
        // One hash at a time: the other turns stay taken.
        let mut all = join_all((0..PASSWORDS_AT_ONCE).map(|_| queue.turn(at(1), true))).await;
        let order = Mutex::new(Vec::new());
        let waiting = [1, 1, 1, 2, 2, 3].map(|number| {
            let (queue, order) = (&queue, &order);
            async move {
                let _turn = queue.turn(at(number), true).await;
                order.lock().push(number);
                sleep(HASH).await;
            }
        });
        let end = async {
            sleep(HASH).await;
            all.pop();
        };
        tokio::join!(join_all(waiting), end);
        assert_eq!(*order.lock(), [1, 2, 3, 1, 2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_told_and_who_has_gone_leaves_no_trace() {
        let queue = Arc::new(HasherQueue::new());
        let all = join_all((0..PASSWORDS_AT_ONCE).map(|_| queue.turn(at(1), false))).await;
        let begun = Instant::now();
        assert!(join_all((2..50).map(|number| queue.turn(at(number), false))).await.iter().all(Option::is_none));
        assert_eq!(begun.elapsed(), Duration::from_millis(PASSWORD_PATIENCE_MS));
        assert!(queue.0.lock().waiting.is_empty());
        // One that goes away with the turn that it was just given.
        let mut gone = Box::pin(queue.turn(at(2), false));
        assert!((&mut gone).now_or_never().is_none());
        drop(all);
        drop(gone);
        let line = queue.0.lock();
        assert_eq!((line.free, line.waiting.len()), (PASSWORDS_AT_ONCE, 0));
    }
}
