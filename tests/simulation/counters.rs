//! What clients ask of counters: increments, and now and then a counter is taken away.

use memdb::{data::counters::CounterLimits, data::counts::WriteOp};
use testkit::Random;

/// Of a hundred histories, in so many clients increment counters.
pub const WITH_COUNTERS: usize = 40;
/// Counters that nobody takes away: what they have gained is known from the answers alone.
pub const KEPT_KEYS: [&str; 2] = ["a", "A"];
/// Counters that are taken away now and then.
const REMOVED_KEYS: [&str; 2] = ["b:/?\n", "北"];

/// Who increments counters.
pub struct CounterClients {
    pub random: Random,
}

impl CounterClients {
    /// The limits of a history: so small that increments are set aside and refused, and workers have something to do
    /// for some time.
    pub fn limits(&mut self) -> CounterLimits {
        let random = &mut self.random;
        let bound = |random: &mut Random| *random.pick(&[1, 3, 10, 100, u64::MAX]);
        CounterLimits {
            main: bound(random),
            spillover: bound(random),
            key_rate: *random.pick(&[None, Some(1), Some(3), Some(10)]),
            stale_ms: *random.pick(&[None, Some(100), Some(1_000), Some(5_000)]),
            workers: random.between(1, 3) as u32,
            worker_rate: *random.pick(&[None, Some(1), Some(5), Some(50)]),
        }
    }

    /// What is asked next, and of which counter.
    pub fn next(&mut self) -> (WriteOp, &'static str) {
        let random = &mut self.random;
        match random.below(100) {
            0..60 => (WriteOp::Increment, *random.pick(&KEPT_KEYS)),
            60..92 => (WriteOp::Increment, *random.pick(&REMOVED_KEYS)),
            _ => (WriteOp::RemoveCounter, *random.pick(&REMOVED_KEYS)),
        }
    }
}
