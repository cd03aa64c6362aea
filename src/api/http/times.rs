//! The times of an HTTP/1 connection that depend on the client alone, kept once for fast path and guard.

use super::settings::HttpSettings;
use crate::{
    api::error::{ApiError, ErrorKind},
    net::timer::Timer,
};
use std::{
    io,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// The patience with one client: with its silence, with a slow head, with answers that it does not take.
pub(super) struct ConnectionTimes {
    settings: HttpSettings,
    /// The end of the wait for the next head, or for the rest of the one that has begun. None: no head is waited for.
    head_deadline: Option<Instant>,
    head_timer: Timer,
    /// The end of the wait for a client that takes nothing.
    write_deadline: Option<Instant>,
    write_timer: Timer,
}

impl ConnectionTimes {
    /// The times of a connection that has just been opened: its first head has begun.
    pub(super) fn new(settings: HttpSettings) -> Self {
        Self {
            head_deadline: Some(Instant::now() + settings.header_timeout),
            settings,
            head_timer: Timer::default(),
            write_deadline: None,
            write_timer: Timer::default(),
        }
    }

    /// The end of the wait for a head that has begun, or is waited for.
    pub(super) fn head_deadline(&self) -> Instant {
        self.head_deadline.unwrap_or_else(Instant::now)
    }

    /// A head has begun: it has its time from now on.
    pub(super) fn head_begins(&mut self, now: Instant) {
        self.head_deadline = Some(now + self.settings.header_timeout);
    }

    /// A head is not whole yet: it has its time from its first byte on, and that begins now unless it has begun.
    pub(super) fn head_goes_on(&mut self, now: Instant) {
        let header_timeout = self.settings.header_timeout;
        self.head_deadline.get_or_insert_with(|| now + header_timeout);
    }

    /// A head is whole; what follows it has its time where it is read.
    pub(super) fn head_ends(&mut self) {
        self.head_deadline = None;
    }

    /// All that was whole is answered: from now on the head that `has_begun` has its time, or silence has.
    pub(super) fn answered(&mut self, now: Instant, has_begun: bool) {
        let settings = &self.settings;
        let patience = if has_begun { settings.header_timeout } else { settings.idle_timeout };
        self.head_deadline = Some(now + patience);
    }

    /// Nothing comes: waits for the end of the patience with that.
    pub(super) fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle_timeout = self.settings.idle_timeout;
        let deadline = *self.head_deadline.get_or_insert_with(|| Instant::now() + idle_timeout);
        self.head_timer.poll(cx, deadline)
    }

    /// The client has taken some of its answers.
    pub(super) fn taken(&mut self) {
        self.write_deadline = None;
    }

    /// The client takes nothing: waits for the end of the patience with that.
    pub(super) fn poll_not_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let write_timeout = self.settings.write_timeout;
        let deadline = *self.write_deadline.get_or_insert_with(|| Instant::now() + write_timeout);
        ready!(self.write_timer.poll(cx, deadline));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer"))
    }

    /// Returns whether the client takes nothing.
    #[cfg(test)]
    pub(super) fn is_not_taken(&self) -> bool {
        self.write_deadline.is_some()
    }

    /// The answer to a head that was not whole in time.
    pub(super) fn too_slow(&self) -> ApiError {
        let detail = format!("the head was not whole after {} ms", self.settings.header_timeout.as_millis());
        ApiError::new(ErrorKind::RequestTimeout, detail)
    }
}
