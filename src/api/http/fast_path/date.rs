//! The `Date` of responses.

use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The last lines of every head, made anew when the second changes.
pub(super) struct DateHeader {
    line: Vec<u8>,
    until: Option<Instant>,
}

impl Default for DateHeader {
    fn default() -> Self {
        Self { line: Vec::with_capacity(48), until: None }
    }
}

impl DateHeader {
    /// The lines as they are now.
    #[inline]
    pub(super) fn at(&mut self, now: Instant) -> &[u8] {
        if self.until.is_none_or(|until| now >= until) {
            self.renew(now);
        }
        &self.line
    }

    /// The lines as they were last.
    pub(super) fn last(&self) -> &[u8] {
        &self.line
    }

    #[allow(clippy::disallowed_methods, reason = "what HTTP calls Date is the wall clock")]
    fn renew(&mut self, now: Instant) {
        let wall = SystemTime::now();
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(1).saturating_sub(Duration::from_nanos(u64::from(since.subsec_nanos())));
        self.until = Some(now + left);
        self.line.clear();
        self.line.extend_from_slice(b"\r\ndate: ");
        self.line.extend_from_slice(httpdate::fmt_http_date(wall).as_bytes());
        self.line.extend_from_slice(b"\r\n\r\n");
    }
}
