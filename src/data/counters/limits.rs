//! The bounds of the queues, and the pace of the workers.

/// The rules by which increments wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterLimits {
    /// Increments that the main queue holds.
    pub main: u64,
    /// Increments that each of the queues EXCESS and STALE holds.
    pub spillover: u64,
    /// Increments of one key that are admitted within [`crate::base::limits::KEY_WINDOW_MS`]; `None`: any number.
    pub key_rate: Option<u64>,
    /// The age in milliseconds beyond which an increment leaves the main queue for STALE; `None`: never.
    pub stale_ms: Option<u64>,
    /// Workers.
    pub workers: u32,
    /// Increments that each worker adds in a second; `None`: as many as there are.
    pub worker_rate: Option<u32>,
}

impl Default for CounterLimits {
    fn default() -> Self {
        Self { main: 100, spillover: 100, key_rate: Some(50), stale_ms: Some(5_000), workers: 1, worker_rate: None }
    }
}
