//! What the service manager of the system is told: that the node serves, reads its settings anew, lives, and stops
//! (`Type=notify` of systemd, [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/sd_notify.html)). Where
//! no service manager listens, nothing happens.

use sd_notify::NotifyState;
use std::time::Duration;

/// Says that the node serves.
pub(super) fn tell_ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that settings are read anew; [`tell_ready`] says that it is done.
pub(super) fn tell_reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now_us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    tell(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now_us)]);
}

/// Says that the node stops, which may take a while.
pub(super) fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the node lives.
pub(super) fn tell_alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Gives the interval at which the service manager wants to hear from the node, halved; `None` if it does not.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
