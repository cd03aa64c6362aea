//! TLS: who this node says it is, and whom it believes.
//!
//! [`files`] reads certificates and keys and says what is wrong with one; [`server`] is the listener's side,
//! [`handshakes`] bounds what it takes and [`server_stream`] is what comes out; [`client`] is the side of everything
//! that connects to another node or to an origin, and [`explain`] puts what went wrong into words. [`node`] holds all
//! of a node's, and reads the files again. rustls appears here only; its cryptography is ring's, named at each use, so
//! that no provider has to be installed for the process.

pub mod client;
pub mod explain;
pub mod files;
pub mod handshakes;
pub mod node;
pub mod server;
pub mod server_stream;

use std::sync::{Arc, LazyLock};
use tokio_rustls::rustls::{SupportedProtocolVersion, crypto::CryptoProvider, version};

/// TLS 1.3 and 1.2: what is older is broken.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// ring's cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}
