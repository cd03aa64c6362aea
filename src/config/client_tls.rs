//! The flags by which a command names certificates for nodes that speak TLS.

use crate::net::tls::{
    client::ClientTls,
    files::{IdentityFiles, TlsFileError},
};
use std::path::PathBuf;

/// The certificates of a command that connects to nodes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClientTlsFlags {
    /// Authorities that the certificate of an https:// node may be of (PEM) [default: those that the system trusts].
    #[arg(long, value_name = "FILE", env = "MEMDB_TLS_CA")]
    tls_ca: Option<PathBuf>,

    /// Certificate to show to a node that asks for one (PEM).
    #[arg(long, value_name = "FILE", env = "MEMDB_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of that certificate (PEM).
    #[arg(long, value_name = "FILE", env = "MEMDB_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl ClientTlsFlags {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsFileError`] for the first that cannot be read or used.
    pub fn read(&self) -> Result<ClientTls, TlsFileError> {
        let identity = self.tls_cert.clone().zip(self.tls_key.clone());
        let identity = identity.map(|(certificate, key)| IdentityFiles { certificate, key });
        ClientTls::from_files(self.tls_ca.as_deref(), identity.as_ref())
    }
}
