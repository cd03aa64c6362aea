//! Waits between repeats of a request: longer each time, at random, at least as long as the node asked.
//!
//! Pure: no clock, no source of randomness of its own.

use std::time::Duration;

/// The first wait is at most this.
const FIRST: Duration = Duration::from_millis(50);
/// No wait of our own choice is longer.
const LONGEST: Duration = Duration::from_secs(2);

/// The waits between repeats of one request.
#[derive(Clone, Debug)]
pub struct RetryBackoff {
    random: u64,
    most: Duration,
}

impl RetryBackoff {
    /// Waits drawn from `seed`. Requests with different seeds do not come back in step.
    pub fn new(seed: u64) -> Self {
        RetryBackoff { random: seed | 1, most: FIRST }
    }

    /// Begins with short waits again.
    pub fn restart(&mut self) {
        self.most = FIRST;
    }

    /// The next wait. With a node's `Retry-After` it is that, and up to a quarter more; without, anything up to twice
    /// the bound before ("full jitter").
    pub fn wait(&mut self, retry_after: Option<Duration>) -> Duration {
        let most = self.most;
        self.most = (most * 2).min(LONGEST);
        match retry_after {
            Some(asked) => asked + self.part_of(asked / 4),
            None => self.part_of(most),
        }
    }

    /// A random part of `whole`.
    fn part_of(&mut self, whole: Duration) -> Duration {
        // xorshift64: good enough to spread clients over time, and there is nothing to guess.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        whole.mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ() {
        let mut backoff = RetryBackoff::new(42);
        let waits: Vec<_> = (0..64).map(|_| backoff.wait(None)).collect();
        assert!(waits[0] <= FIRST && waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits[16..].iter().any(|wait| *wait > LONGEST / 2), "the bound is reached");
        assert!(waits[16..].iter().any(|wait| *wait < LONGEST / 4), "and the wait is not always the bound");
        assert_ne!(RetryBackoff::new(1 << 20).wait(None), RetryBackoff::new(1 << 30).wait(None));
    }

    #[test]
    fn the_node_s_own_wish_is_kept() {
        let asked = Duration::from_secs(7);
        let mut backoff = RetryBackoff::new(3);
        for _ in 0..100 {
            let wait = backoff.wait(Some(asked));
            assert!(wait >= asked && wait <= asked + asked / 4, "{wait:?}");
        }
    }
}
