//! The clocks of the machine.

use crate::base::clock::{Clock, Monotonic, WallClock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads the clocks of the machine it runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineClock;

impl Clock for MachineClock {
    /// On Linux it counts the time in which the machine was suspended, too: what was written before is older by that.
    fn monotonic(&self) -> Monotonic {
        use rustix::time::{ClockId, clock_gettime};
        #[cfg(target_os = "linux")]
        const ID: ClockId = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const ID: ClockId = ClockId::Monotonic;
        let now = clock_gettime(ID);
        Monotonic::from_ms(now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000)
    }

    #[allow(clippy::disallowed_methods, reason = "the shell reads the clock and hands the time in")]
    fn wall(&self) -> WallClock {
        WallClock::from_ms(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_time_goes_forward_and_at_the_pace_of_the_systems_own() {
        let begun = tokio::time::Instant::now();
        let (first, mut last) = (MachineClock.monotonic(), MachineClock.monotonic());
        while begun.elapsed().as_millis() < 20 {
            let next = MachineClock.monotonic();
            assert!(next >= last, "{next:?} after {last:?}");
            last = next;
        }
        // Only a machine that is suspended just now makes it more.
        assert!(last.since_ms(first) >= 19, "{first:?} to {last:?}");
    }
}
