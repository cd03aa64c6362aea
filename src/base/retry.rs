//! Waits between repeats: longer each time, at random ("full jitter"), at least as long as the other side asked.
//!
//! Pure: no clock, no source of randomness of its own. What is drawn is handed in, or comes from a seed.

use super::limits;
use std::time::Duration;

/// How long to wait between repeats at most.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The first wait is at most this, in milliseconds.
    pub first_ms: u64,
    /// No wait of our own choice is longer, in milliseconds.
    pub longest_ms: u64,
}

impl RetryPolicy {
    /// Of requests of a client: a node that is busy is free again within a moment.
    pub const REQUESTS: Self = Self { first_ms: 50, longest_ms: 2_000 };
    /// Of exchanges with another node, which is asked again for as long as it is away.
    pub const PEERS: Self = Self { first_ms: limits::RETRY_MIN_MS, longest_ms: limits::RETRY_MAX_MS };

    /// The most to wait, in milliseconds, after so many failures in a row before this one.
    pub const fn most_ms(&self, failures: u32) -> u64 {
        let doubled = self.first_ms << if failures < 16 { failures } else { 16 };
        if doubled < self.longest_ms { doubled } else { self.longest_ms }
    }

    /// The wait, in milliseconds; `random` is any number.
    pub const fn wait_ms(&self, failures: u32, random: u64) -> u64 {
        random % (self.most_ms(failures) + 1)
    }
}

/// The waits between repeats of one request.
#[derive(Clone, Debug)]
pub struct RetryBackoff {
    random: u64,
    failures: u32,
}

impl RetryBackoff {
    /// Waits drawn from `seed`. Requests with different seeds do not come back in step.
    pub fn new(seed: u64) -> Self {
        RetryBackoff { random: seed | 1, failures: 0 }
    }

    /// Begins with short waits again.
    pub fn restart(&mut self) {
        self.failures = 0;
    }

    /// The next wait. With a node's `Retry-After` it is that, and up to a quarter more; without, as
    /// [`RetryPolicy::REQUESTS`] has it.
    pub fn wait(&mut self, retry_after: Option<Duration>) -> Duration {
        let random = self.draw();
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        match retry_after {
            Some(asked) => {
                let more_ms = random % (asked.as_millis() as u64 / 4 + 1);
                asked.saturating_add(Duration::from_millis(more_ms))
            }
            None => Duration::from_millis(RetryPolicy::REQUESTS.wait_ms(failures, random)),
        }
    }

    /// xorshift64: good enough to spread clients over time, and there is nothing to guess. Its high bits are the better
    /// ones.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ() {
        let RetryPolicy { first_ms, longest_ms } = RetryPolicy::REQUESTS;
        let longest = Duration::from_millis(longest_ms);
        let mut backoff = RetryBackoff::new(42);
        let waits: Vec<_> = (0..64).map(|_| backoff.wait(None)).collect();
        assert!(waits[0] <= Duration::from_millis(first_ms) && waits.iter().all(|wait| *wait <= longest));
        assert!(waits[16..].iter().any(|wait| *wait > longest / 2), "the bound is reached");
        assert!(waits[16..].iter().any(|wait| *wait < longest / 4), "and the wait is not always the bound");
        backoff.restart();
        assert!(backoff.wait(None) <= Duration::from_millis(first_ms));
        let waits = |seed| {
            let mut backoff = RetryBackoff::new(seed);
            std::array::from_fn::<_, 8, _>(|_| backoff.wait(None))
        };
        assert_ne!(waits(1 << 20), waits(1 << 30));
    }

    #[test]
    fn the_bound_of_each_policy_doubles_from_its_first_to_its_longest() {
        for policy in [RetryPolicy::REQUESTS, RetryPolicy::PEERS] {
            assert_eq!(policy.most_ms(0), policy.first_ms);
            assert_eq!(policy.most_ms(1), 2 * policy.first_ms);
            for failures in [16, 17, u32::MAX] {
                assert_eq!(policy.most_ms(failures), policy.longest_ms);
                assert_eq!(policy.wait_ms(failures, policy.longest_ms), policy.longest_ms);
                assert_eq!(policy.wait_ms(failures, policy.longest_ms + 1), 0);
            }
        }
    }

    #[test]
    fn the_node_s_own_wish_is_kept() {
        let asked = Duration::from_secs(7);
        let mut backoff = RetryBackoff::new(3);
        for _ in 0..100 {
            let wait = backoff.wait(Some(asked));
            assert!(wait >= asked && wait <= asked + asked / 4, "{wait:?}");
        }
        assert_eq!(backoff.wait(Some(Duration::MAX)), Duration::MAX);
    }
}
