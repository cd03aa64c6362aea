//! Reads certificates and keys (PEM), and says what is wrong with a file.

use super::provider;
use crate::{base::limits::MAX_TLS_FILE_BYTES, storage::file_stamp::FileStamp};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_rustls::rustls::{
    self, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem},
    sign::CertifiedKey,
};
use x509_cert::{Certificate, der::Decode};

/// The files of a node's TLS, as its settings name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate that the node shows, and its key; without it the node serves plain HTTP.
    pub identity: Option<IdentityFiles>,
    /// Certificates of the authorities of clients: each client must show a certificate of one of them.
    pub client_authorities: Option<PathBuf>,
    /// Certificates of the authorities of other nodes.
    pub node_authorities: Option<PathBuf>,
    /// Certificates of the authorities of the origin; `None`: those that the system trusts.
    pub origin_authorities: Option<PathBuf>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, and behind it those between it and its authority.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// All files, each once.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|files| [&files.certificate, &files.key]);
        let authorities = [&self.client_authorities, &self.node_authorities, &self.origin_authorities];
        identity.chain(authorities.into_iter().flatten()).map(PathBuf::as_path)
    }

    /// The states of all files.
    pub fn stamps(&self) -> Vec<Option<FileStamp>> {
        self.paths().map(FileStamp::of).collect()
    }
}

/// The fault of a file of certificates or keys. The message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// The system does not give it.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It is no file of that kind.
    #[error("{} is no {what}: {reason}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The kind of file that it should be.
        what: &'static str,
        /// The fault, and what would be right.
        reason: String,
    },
    /// Certificate and key are of two pairs.
    #[error(
        "the key in {} does not fit the certificate in {}: give the key that the certificate was made for, and the \
         node's own certificate as the first in its file",
        key.display(),
        certificate.display()
    )]
    OtherKey {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

const CERTIFICATES: &str = "file of certificates in PEM";
const KEY: &str = "private key in PEM";

fn unfit(path: &Path, what: &'static str, reason: impl Into<String>) -> TlsFileError {
    TlsFileError::Unfit { path: path.to_owned(), what, reason: reason.into() }
}

#[allow(clippy::disallowed_methods, reason = "a file of the operator, none of the database")]
fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, TlsFileError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_TLS_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| TlsFileError::Unreadable { path: path.to_owned(), error })?;
    if bytes.len() as u64 > MAX_TLS_FILE_BYTES {
        return Err(unfit(path, what, format!("it has more than {MAX_TLS_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    use pem::PemObject;
    let bytes = read(path, CERTIFICATES)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| unfit(path, CERTIFICATES, error.to_string()))?;
    if found.is_empty() {
        return Err(unfit(path, CERTIFICATES, "it has no line -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    use pem::PemObject;
    let bytes = read(path, KEY)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let reason = match error {
            pem::Error::NoItemsFound if memchr::memmem::find(&bytes, b"ENCRYPTED PRIVATE KEY").is_some() => {
                "it is encrypted; decrypt it with `openssl pkey -in FILE -out FILE`".to_owned()
            }
            pem::Error::NoItemsFound => "it has no line -----BEGIN PRIVATE KEY-----".to_owned(),
            error => error.to_string(),
        };
        unfit(path, KEY, reason)
    })
}

/// Reads a certificate and its key.
///
/// # Errors
/// [`TlsFileError`] if one of the files cannot be read or used, or the two are no pair.
pub(super) fn identity(files: &IdentityFiles) -> Result<Arc<CertifiedKey>, TlsFileError> {
    let IdentityFiles { certificate, key } = files;
    let (chain, private) = (certificates(certificate)?, private_key(key)?);
    let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsFileError::OtherKey { certificate: certificate.clone(), key: key.clone() }
        }
        rustls::Error::InvalidCertificate(error) => unfit(certificate, CERTIFICATES, error.to_string()),
        error => unfit(key, KEY, error.to_string()),
    })?;
    Ok(Arc::new(certified))
}

/// Reads certificates of authorities.
///
/// # Errors
/// [`TlsFileError`] if the file cannot be read, or one of its certificates cannot be used.
pub(super) fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unfit(path, CERTIFICATES, error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// Gives the time at which the first certificate of a chain ends, and whether that has passed; `None` if it states
/// none.
pub(super) fn expiry(chain: &[CertificateDer<'_>]) -> Option<(String, bool)> {
    let certificate = Certificate::from_der(chain.first()?).ok()?;
    let end = certificate.tbs_certificate.validity.not_after;
    let passed = Duration::from_secs(UnixTime::now().as_secs()) > end.to_unix_duration();
    Some((end.to_string(), passed))
}
