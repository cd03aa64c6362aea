//! The listener's side of TLS: its certificate, and the handshake of each connection.

use super::{
    VERSIONS, explain, files,
    files::{IdentityFiles, TlsFileError},
    handshakes::HandshakeSlots,
    provider,
    server_stream::ServerStream,
};
use crate::net::address_limits::Usage;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring::Ticketer, server::WebPkiClientVerifier, sign::SingleCertAndKey},
};
use tokio_util::sync::CancellationToken;

/// The first byte of every TLS connection: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 22;
/// The interval at which handshakes that failed for a certificate are logged.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Bytes of a client that are thrown away behind a handshake that failed.
const LINGER_BYTES: usize = 64 << 10;

/// The server's configuration, which may be replaced while it serves: connections go on with the one they began with.
#[derive(Debug)]
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
    /// Handshakes that failed for a certificate and are not in the log, and when one was put there.
    untold: Mutex<(u64, Option<Instant>)>,
}

/// The outcome of a handshake.
pub enum HandshakeResult {
    /// The connection is protected, and speaks HTTP/2 if the client has chosen that.
    Protected(Box<ServerStream>),
    /// The client has not begun with TLS; nothing was read.
    Plain(TcpStream),
    /// There is no connection.
    Failed(HandshakeFailure),
}

/// The reason why a handshake has led to no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client went before it had said anything: it has only looked whether the port is open.
    Silent,
    /// The two have not agreed, on a version or about a certificate, or the client broke off.
    Refused,
    /// It took too long.
    TimedOut,
    /// Too many were under way, and it was the oldest.
    GaveWay,
    /// The server stops.
    Stopped,
}

impl HandshakeResult {
    /// The outcome as it is counted; none for what says nothing about a client.
    pub const fn outcome(&self) -> Option<&'static str> {
        Some(match self {
            Self::Protected(_) => "ok",
            Self::Plain(_) => "plain",
            Self::Failed(HandshakeFailure::Silent) => "silent",
            Self::Failed(HandshakeFailure::Refused) => "failed",
            Self::Failed(HandshakeFailure::TimedOut) => "timed-out",
            Self::Failed(HandshakeFailure::GaveWay) => "gave-way",
            Self::Failed(HandshakeFailure::Stopped) => return None,
        })
    }
}

impl ServerTls {
    /// A server that shows the certificate of these files, and lets in only clients that show one of these authorities,
    /// if there are any.
    ///
    /// # Errors
    /// [`TlsFileError`] if a file cannot be read or used.
    pub fn read(identity: &IdentityFiles, client_authorities: Option<&Path>) -> Result<Self, TlsFileError> {
        Ok(Self { config: ArcSwap::new(config(identity, client_authorities)?), untold: Mutex::default() })
    }

    /// Shows what is in the files now to every connection that begins from here on.
    ///
    /// # Errors
    /// [`TlsFileError`] if a file cannot be read or used: it goes on as before.
    pub(super) fn reload(
        &self,
        identity: &IdentityFiles,
        client_authorities: Option<&Path>,
    ) -> Result<(), TlsFileError> {
        self.config.store(config(identity, client_authorities)?);
        Ok(())
    }

    /// Carries out the handshake of a connection.
    pub async fn accept(
        &self,
        stream: TcpStream,
        usage: &Usage,
        (slots, patience): (&Arc<HandshakeSlots>, Duration),
        stopping: &CancellationToken,
    ) -> HandshakeResult {
        let deadline = Instant::now() + patience;
        let slot = slots.begin(usage);
        let shaken = async {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(1) if first[0] == HANDSHAKE_RECORD => {}
                Ok(1) => return HandshakeResult::Plain(stream),
                _ => return HandshakeResult::Failed(HandshakeFailure::Silent),
            }
            let acceptor = TlsAcceptor::from(self.config.load_full());
            match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => {
                    let (socket, session) = stream.into_inner();
                    HandshakeResult::Protected(Box::new(ServerStream::new(socket, session)))
                }
                Err((error, stream)) => {
                    self.log_failure(&error, &stream);
                    linger(stream).await;
                    HandshakeResult::Failed(HandshakeFailure::Refused)
                }
            }
        };
        let (failure, why) = tokio::select! {
            shaken = timeout_at(deadline, shaken) => match shaken {
                Ok(shaken) => return shaken,
                Err(_) => (HandshakeFailure::TimedOut, "it took too long"),
            },
            () = slot.gives_way() => {
                (HandshakeFailure::GaveWay, "too many are under way, and it has waited longest")
            }
            () = stopping.cancelled() => (HandshakeFailure::Stopped, "the server stops"),
        };
        tracing::debug!("a TLS handshake was broken off: {why}");
        HandshakeResult::Failed(failure)
    }

    /// Says why a handshake has failed: of certificates to whoever runs the node, since it may be a node of the cluster
    /// that is kept out; of all else only to whoever looks closely.
    fn log_failure(&self, error: &io::Error, stream: &TcpStream) {
        let address = stream.peer_addr().map_or_else(|_| "gone".to_owned(), |address| address.ip().to_string());
        let Some(why) = explain::certificate_refusal(error) else {
            let why = explain::tls_reason(error).unwrap_or_else(|| error.to_string());
            return tracing::debug!(address, "a TLS handshake failed: {why}");
        };
        let (mut untold, now) = (self.untold.lock(), Instant::now());
        untold.0 += 1;
        if untold.1.is_none_or(|last| now - last >= TOLD_EVERY) {
            let count = std::mem::take(&mut untold.0);
            untold.1 = Some(now);
            tracing::warn!(address, count, "a TLS handshake failed, the last of so many: {why}");
        }
    }
}

fn config(identity: &IdentityFiles, client_authorities: Option<&Path>) -> Result<Arc<ServerConfig>, TlsFileError> {
    let certified = files::identity(identity)?;
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&VERSIONS).expect("ring has both versions");
    let builder = match client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(files::authorities(path)?, provider()).build();
            builder.with_client_cert_verifier(verifier.expect("there is an authority, and no revocation list"))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets keep no state here. New ones with each configuration: what clients had to show may have changed. No data
    // comes before the handshake is done (`max_early_data_size` is 0): it could be sent again by anybody who has seen
    // it.
    if let Ok(ticketer) = Ticketer::new() {
        config.ticketer = ticketer;
    }
    Ok(Arc::new(config))
}

/// Ends a connection whose handshake failed, so that no reset overtakes the alert that says why.
async fn linger(mut stream: TcpStream) {
    let lingering = async {
        stream.shutdown().await?;
        let (mut thrown_away, mut left) = ([0; 4_096], LINGER_BYTES);
        while left > 0 {
            match stream.read(&mut thrown_away).await? {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_secs(1), lingering).await; // however it ends, the socket is closed
}
