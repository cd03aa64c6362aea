//! Waiting for what another thread or process does.

use std::time::{Duration, Instant};

/// How long a test waits for what takes milliseconds: only a test that fails waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks every few milliseconds until there is an answer.
///
/// # Panics
///
/// Where there is none within [`PATIENCE`]: names what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_for_within(PATIENCE, what, ask)
}

/// Asks every few milliseconds until it is so.
///
/// # Panics
///
/// As [`wait_for`].
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Asks every few milliseconds until there is an answer, for at most `patience`.
///
/// # Panics
///
/// Where there is none within that time: names what was waited for.
#[track_caller]
pub fn wait_for_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
