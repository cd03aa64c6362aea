//! Certificates for tests, and connections that speak TLS.

use crate::wire::Wire;
use memdb::net::tls::{client::ClientTls, files::IdentityFiles};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};
use tempfile::TempDir;
use tokio_rustls::rustls;

/// The authority of all nodes of a test's process.
pub static AUTHORITY: LazyLock<TestAuthority> = LazyLock::new(|| TestAuthority::new("memdb tests"));

/// An authority with a directory of the certificates that it has made.
pub struct TestAuthority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl TestAuthority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let directory = TempDir::new().expect("a directory");
        let own = params.self_signed(&key).expect("a certificate");
        std::fs::write(directory.path().join("ca.pem"), own.pem()).expect("room on the disk");
        Self { directory, issuer: Issuer::new(params, key) }
    }

    /// The same authority, whose files stay as long as the process.
    pub fn keep(self) -> &'static Self {
        Box::leak(Box::new(self))
    }

    /// The file of its own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for `127.0.0.1` and `localhost`, in files of this name.
    pub fn node(&self, name: &str) -> IdentityFiles {
        self.issue(name, &["127.0.0.1", "localhost"], |_| {})
    }

    /// A certificate that is no longer valid.
    pub fn expired(&self, name: &str) -> IdentityFiles {
        self.issue(name, &["127.0.0.1"], |params| params.not_after = date_time_ymd(2021, 2, 3))
    }

    /// A certificate for these hosts, in files of this name, as `change` wants it. Files of that name are replaced.
    pub fn issue(&self, name: &str, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> IdentityFiles {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let place = |end: &str| self.directory.path().join(format!("{name}-{end}.pem"));
        let files = IdentityFiles { certificate: place("cert"), key: place("key") };
        replace(&files.key, &key.serialize_pem());
        replace(&files.certificate, &certificate.pem());
        files
    }

    /// A client that believes it, and shows this certificate if it is asked.
    pub fn client(&self, identity: Option<&IdentityFiles>) -> ClientTls {
        ClientTls::from_files(Some(&self.file()), identity).expect("files of this test")
    }
}

/// Puts a file in the place of another, as people do who are careful.
pub fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("room on the disk");
    std::fs::rename(beside, path).expect("the same directory");
}

/// A connection over TLS to a node that calls itself `host`, before its handshake.
pub fn connect(
    address: SocketAddr,
    host: &str,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a sound configuration");
    StreamOwned::new(session, TcpStream::connect(address).expect("the server accepts"))
}

impl Wire {
    /// A connection over TLS to a node with a certificate of the tests' authority.
    pub fn protected(address: SocketAddr) -> Self {
        Self::over_tls(connect(address, "127.0.0.1", AUTHORITY.client(None).config()))
    }
}
