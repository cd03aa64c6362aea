//! The side of TLS that connects: to another node, or to an origin.

use super::{
    VERSIONS, explain,
    files::{self, TlsFileError},
    provider,
};
use arc_swap::ArcSwapOption;
use std::{path::Path, sync::Arc};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

/// Whom a client believes and what it shows, which may change while it is used. Cheap to clone; all clones change
/// together. The default believes nobody, and so speaks plain HTTP alone.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    trust: Arc<ServerTrust>,
    identity: Arc<ClientIdentity>,
}

impl Default for ClientTls {
    fn default() -> Self {
        let trust = Arc::new(ServerTrust { verifier: ArcSwapOption::empty() });
        let identity = Arc::new(ClientIdentity(ArcSwapOption::empty()));
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)
            .expect("ring has both versions")
            .dangerous() // it checks as rustls does, by authorities that may change
            .with_custom_certificate_verifier(Arc::clone(&trust) as Arc<dyn ServerCertVerifier>);
        let config = builder.with_client_cert_resolver(Arc::clone(&identity) as Arc<dyn ResolvesClientCert>);
        Self { config: Arc::new(config), trust, identity }
    }
}

impl ClientTls {
    /// A client that believes the authorities of a file, and shows this certificate if it is asked for one.
    ///
    /// # Errors
    /// [`TlsFileError`] if a file cannot be read or used.
    pub fn from_files(
        authorities: Option<&Path>,
        identity: Option<&files::IdentityFiles>,
    ) -> Result<Self, TlsFileError> {
        let made = Self::default();
        made.believe(authorities.map(files::authorities).transpose()?);
        made.show(identity.map(files::identity).transpose()?);
        Ok(made)
    }

    /// The same client, which believes the authorities of the system if it has none of its own.
    #[must_use]
    pub fn or_system_authorities(self) -> Self {
        if self.trust.verifier.load().is_none() {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            self.believe(Some(Arc::new(roots)));
        }
        self
    }

    /// Believes these authorities from now on; `None`: nobody.
    pub(super) fn believe(&self, authorities: Option<Arc<RootCertStore>>) {
        // Without an authority there is nothing to check by.
        let authorities = authorities.filter(|roots| !roots.is_empty());
        let verifier =
            authorities.and_then(|roots| WebPkiServerVerifier::builder_with_provider(roots, provider()).build().ok());
        self.trust.verifier.store(verifier);
    }

    /// Shows this certificate from now on.
    pub(super) fn show(&self, identity: Option<Arc<CertifiedKey>>) {
        self.identity.0.store(identity);
    }

    /// Gives the certificate that it shows.
    pub(super) fn shown(&self) -> Option<Arc<CertifiedKey>> {
        self.identity.0.load_full()
    }

    /// Gives the configuration for clients that are made of it.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

/// Checks what a server shows: authority, time and name.
#[derive(Debug)]
struct ServerTrust {
    verifier: ArcSwapOption<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(verifier) = self.verifier.load_full() else {
            let why = "no authority is known to check its certificate by: give --tls-ca FILE";
            return Err(rustls::Error::General(why.to_owned()));
        };
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).inspect_err(|error| {
            tracing::debug!("the certificate of {server_name:?} is refused: {}", explain::worded(error));
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a client shows.
#[derive(Debug)]
struct ClientIdentity(ArcSwapOption<CertifiedKey>);

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}
