//! The numbers of clients that are kept out: at the handshake of TLS, and for their credentials.

use super::{EVERYWHERE, MetricRegistrar};
use prometheus::{IntCounterVec, Opts};

/// Handshakes, and requests that were refused for who sends them. A label has a series once it has been seen.
pub struct ProtectionTotals {
    handshakes: IntCounterVec,
    credentials: IntCounterVec,
}

impl ProtectionTotals {
    pub(super) fn new(of: &MetricRegistrar) -> Self {
        let handshakes = Opts::new("memdb_tls_handshakes_total", "TLS handshakes that have ended, by outcome.");
        let credentials = "Requests refused for their credentials or their right, by reason.";
        let credentials = Opts::new("memdb_credentials_refused_total", credentials);
        Self {
            handshakes: of.add(EVERYWHERE, IntCounterVec::new(handshakes, &["outcome"])),
            credentials: of.add(EVERYWHERE, IntCounterVec::new(credentials, &["reason"])),
        }
    }

    /// Counts a handshake that has ended so.
    pub fn handshake_ended(&self, outcome: &'static str) {
        self.handshakes.with_label_values(&[outcome]).inc();
    }

    /// Counts a request that was refused for its credentials.
    pub fn credentials_refused(&self, reason: &'static str) {
        self.credentials.with_label_values(&[reason]).inc();
    }
}
