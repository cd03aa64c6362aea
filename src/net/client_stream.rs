//! A client's connection, plain or protected by TLS.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A connection that bytes are read from and written to.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Returns whether bytes that it has taken are not in the socket yet: `poll_flush` takes them there.
    fn is_behind(&self) -> bool;
}

impl ClientStream for TcpStream {
    #[inline]
    fn is_behind(&self) -> bool {
        false
    }
}
