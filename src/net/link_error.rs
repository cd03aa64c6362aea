//! The reasons why an exchange with another node failed.

use super::{http_client, tls::explain::tls_reason};
use std::io;

/// The reason why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nothing listens there.
    #[error("nothing answers there")]
    NothingThere,
    /// No connection, or it broke, or no answer came in time.
    #[error("{0}")]
    Lost(String),
    /// The other node answered something else.
    #[error("it answered {status}: {told}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The start of the body.
        told: String,
    },
    /// The other node is a follower, of the leader at this URL, if it knows one.
    #[error("it is no leader{}", .0.as_ref().map_or(String::new(), |leader| format!(", and follows {leader}")))]
    NotLeader(Option<String>),
    /// The answer cannot be read.
    #[error("its answer cannot be read: {0}")]
    Strange(String),
}

impl LinkError {
    /// Returns whether asking again soon may go better: the way was bad, or the node is busy, starting or stopping.
    pub fn may_pass(&self) -> bool {
        matches!(self, LinkError::Lost(_) | LinkError::Refused { status: 408 | 429 | 500.., .. })
    }
}

impl From<reqwest::Error> for LinkError {
    fn from(error: reqwest::Error) -> Self {
        match http_client::io_kind(&error) {
            Some(io::ErrorKind::ConnectionRefused) => LinkError::NothingThere,
            _ => LinkError::Lost(http_client::reason(&error)),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => LinkError::NothingThere,
            _ => LinkError::Lost(tls_reason(&error).unwrap_or_else(|| error.to_string())),
        }
    }
}
