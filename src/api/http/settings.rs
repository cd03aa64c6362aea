//! The bounds of the HTTP server, each with its reason.

use crate::base::limits;
use std::time::Duration;

/// Bounds and time-outs of the server. The defaults suit a server on a trusted network; tests make the times short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Serving threads, each with a runtime of its own. Default: one per core.
    pub threads: usize,
    /// Connections open at once. One more is answered 503 and closed at once, rather than left waiting unseen.
    pub max_connections: usize,
    /// Of these, from one client address. One more is answered 429 and closed at once. `None`: a quarter of them, and
    /// no bound for loopback. Of every other budget an address has half, or as large a part as of the connections if
    /// that is more.
    pub max_connections_per_address: Option<usize>,
    /// Bytes of one request body as sent, before any decoding. More is 413.
    pub max_body_bytes: usize,
    /// Bytes of one value of an entry. More is 413.
    pub max_value_bytes: usize,
    /// Bytes of all request bodies that are held in more than one piece at once, so that many slow uploads are bounded
    /// together. More is 503.
    pub max_upload_bytes: usize,
    /// Reads that wait for a position at once. One more is 503 without a wait.
    pub max_waiting_reads: usize,
    /// Streams of events open at once. One more is 503.
    pub max_watchers: usize,
    /// Requests that take longer are logged. `None`: none are.
    pub slow_request: Option<Duration>,
    /// Bytes of a request's head. More is 431, or 414 if the request line alone is longer.
    pub max_head_bytes: usize,
    /// Time from a head's first byte (on a new connection: from its opening) to its last. Then 408.
    pub header_timeout: Duration,
    /// Time for a whole request body. Then 408.
    pub body_timeout: Duration,
    /// Time that a connection may stay open between requests.
    pub idle_timeout: Duration,
    /// Time in which a client must take some of an answer that waits for it. Then the connection is dropped.
    pub write_timeout: Duration,
    /// Time that a read with `Memdb-Min-Position` waits for that position. Then it is answered with 503.
    pub position_wait: Duration,
    /// After an answer that ends a connection: how long what the client still sends is taken and thrown away, so that
    /// the answer is not lost to a reset.
    pub linger_timeout: Duration,
    /// True if the plainest requests are answered without hyper and warp. Only tests, which compare both, set it to
    /// false.
    pub fast_path: bool,
}

/// Headers in one request. More is 431.
pub(super) const MAX_HEADERS: usize = 64;
/// Requests at once on one HTTP/2 connection.
pub(super) const MAX_STREAMS: u32 = 128;
/// Bytes of request bodies that an HTTP/2 connection may have sent and no route has read yet.
pub(super) const HTTP2_RECEIVE_BYTES: u32 = 1 << 20;
/// Bytes of an answer that wait for an HTTP/2 client to take them. All of a connection's answers may: 4 MiB at most.
pub(super) const HTTP2_SEND_BYTES: usize = 32 << 10;
/// HTTP/2 requests taken back before they were looked at, or reset by the server, that are still remembered. One more
/// ends the connection: no client in its senses comes here (CVE-2023-44487).
pub(super) const MAX_TAKEN_BACK: usize = 64;
/// A silent HTTP/2 client is asked this often whether it is still there …
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(20);
/// … and is given up after this time.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes gathered of a `/sync` before they are handed on.
pub(super) const SYNC_CHUNK_BYTES: usize = 32 << 10;
/// Value of `Retry-After`, in seconds.
pub(super) const RETRY_AFTER_SECONDS: u32 = 1;

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            max_connections: 10_000,
            max_connections_per_address: None,
            max_body_bytes: limits::DEFAULT_MAX_BODY_BYTES,
            max_value_bytes: limits::DEFAULT_MAX_VALUE_BYTES,
            max_upload_bytes: 256 << 20,
            max_waiting_reads: limits::MAX_WAITING_READS,
            max_watchers: 5_000,
            slow_request: Some(Duration::from_secs(1)),
            max_head_bytes: 16 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            position_wait: Duration::from_secs(1),
            linger_timeout: Duration::from_secs(1),
            fast_path: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_that_are_no_settings_are_in_the_documentation() {
        let page = include_str!("../../../docs/limits.md");
        for row in [
            format!("| headers of a request | | {MAX_HEADERS} |"),
            format!("| HTTP/2: requests at once on a connection | | {MAX_STREAMS} |"),
            format!(
                "| HTTP/2: bytes of a connection's bodies that no route has read | | {} MiB |",
                HTTP2_RECEIVE_BYTES >> 20
            ),
            format!("| HTTP/2: bytes of an answer that wait for the client | | {} KiB |", HTTP2_SEND_BYTES >> 10),
            format!("| HTTP/2: requests taken back at once, unseen | | {MAX_TAKEN_BACK} |"),
            format!(
                "| HTTP/2: time for the answer to a ping, asked every {} s | | {} s |",
                PING_INTERVAL.as_secs(),
                PING_TIMEOUT.as_secs()
            ),
        ] {
            assert!(page.contains(&row), "docs/limits.md has no row {row}");
        }
    }
}
