//! What comes from the machine: clocks, random bits, the identity of its boot.

use crate::{
    base::clock::{Clock, Monotonic, WallClock},
    storage::recovery::NodeRun,
};
use std::{
    io,
    time::{SystemTime, UNIX_EPOCH},
};

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

/// 128 random bits from the system.
#[allow(clippy::disallowed_methods, reason = "the shell draws what is random and hands it in")]
pub(super) fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u128::from_le_bytes(bytes))
}

/// Gives the identity of this boot of the machine. Where the system has none, every start counts as one.
#[allow(clippy::disallowed_methods, reason = "a file of the system, none of the database")]
pub(super) fn boot_id() -> io::Result<String> {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(boot) => Ok(boot.trim().to_owned()),
        Err(_) => Ok(format!("unknown-{:032x}", random()?)),
    }
}

/// Gives a run of the node of this name that begins now.
pub(super) fn node_run(name: &str) -> io::Result<NodeRun> {
    Ok(NodeRun { name: name.to_owned(), boot_id: boot_id()?, random: Some(random()? as u64) })
}

/// Draws a name for a node that has none.
pub(super) fn draw_name() -> io::Result<String> {
    Ok(format!("n-{:08x}", random()? as u32))
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
        // Read once more: the thread may have been away since the last look.
        let last = MachineClock.monotonic();
        assert!(last.since_ms(first) >= 19, "{first:?} to {last:?}");
    }
}
