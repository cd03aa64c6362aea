//! The bytes of a client's connection over TLS, once its handshake is done.
//!
//! Between rustls, which seals and opens records, and the socket. A request costs the socket what one in plain text
//! does: one read, and one write of all its records. tokio-rustls tries to read once more behind each read; here a read
//! that gave less than there was room for is known to have been the last.

use crate::net::client_stream::ClientStream;
use std::{
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::rustls::ServerConnection;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct ServerStream<S = TcpStream> {
    socket: S,
    session: ServerConnection,
    /// True if the last read took all that the socket had.
    is_drained: bool,
    /// Found behind bytes that were still to be given.
    error: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerStream<S> {
    /// Goes on with a connection behind its handshake.
    pub(super) fn new(socket: S, session: ServerConnection) -> Self {
        Self { socket, session, is_drained: false, error: None }
    }

    /// Returns whether the client has chosen HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.session.alpn_protocol() == Some(b"h2")
    }

    /// Takes from the socket what it has, once, and opens the records that are whole.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = PolledSocket { socket: &mut self.socket, cx, is_drained: false };
        match self.session.read_tls(&mut socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            // Without a farewell, whoever is between may have cut off the rest.
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            received => received?,
        };
        self.is_drained = socket.is_drained;
        if let Err(error) = self.session.process_new_packets() {
            let _ = self.poll_send(cx); // the alert; what is wrong stays wrong if it does not get through
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all records that are sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut socket = PolledSocket { socket: &mut self.socket, cx, is_drained: false };
            match self.session.write_tls(&mut socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => sent?,
            };
        }
        Poll::Ready(Ok(()))
    }

    /// Fills the buffer as far as there is something to read at once.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>, before: usize) -> Poll<io::Result<()>> {
        while buffer.remaining() > 0 {
            if self.session.wants_read() {
                if self.is_drained && buffer.filled().len() > before {
                    break;
                }
                ready!(self.poll_receive(cx))?;
                if self.session.wants_read() {
                    continue; // half a record, or one for rustls itself
                }
            }
            let opened = self.session.reader().into_first_chunk()?;
            if opened.is_empty() {
                break; // the client has said farewell
            }
            let bytes = opened.len().min(buffer.remaining());
            buffer.put_slice(&opened[..bytes]);
            self.session.reader().consume(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if let Some(error) = stream.error.take() {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let filled = stream.poll_fill(cx, buffer, before);
        if buffer.filled().len() == before {
            return filled;
        }
        // What was read counts; the rest is for the next time.
        if let Poll::Ready(Err(error)) = filled {
            stream.error = Some(error);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
    /// Seals bytes and sends them. What the socket does not take at once is kept, up to rustls' bound of 64 KiB, and
    /// nothing more is taken until it is gone.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let mut taken = 0;
        while taken < bytes.len() {
            match stream.poll_send(cx) {
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(sent) => sent?,
            }
            match stream.session.writer().write(&bytes[taken..])? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => taken += more,
            }
        }
        match stream.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        ready!(stream.poll_send(cx))?;
        Pin::new(&mut stream.socket).poll_flush(cx)
    }

    /// Says farewell, and ends the sending half. The client may go on sending.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.session.send_close_notify(); // once, however often it is asked for
        ready!(stream.poll_send(cx))?;
        match ready!(Pin::new(&mut stream.socket).poll_shutdown(cx)) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            ended => Poll::Ready(ended),
        }
    }
}

impl ClientStream for Box<ServerStream> {
    #[inline]
    fn is_behind(&self) -> bool {
        self.session.wants_write()
    }
}

/// The socket as rustls calls it: what would wait is `WouldBlock`, and the task is woken for it.
struct PolledSocket<'a, 'b, S> {
    socket: &'a mut S,
    cx: &'a mut Context<'b>,
    /// True if it had less than there was room for.
    is_drained: bool,
}

impl<S: AsyncRead + Unpin> Read for PolledSocket<'_, '_, S> {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        or_would_block(Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer))?;
        self.is_drained = buffer.remaining() > 0;
        Ok(buffer.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for PolledSocket<'_, '_, S> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    #[inline]
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match parts {
            [one] => self.write(one), // `send` in place of `writev`, as plain text is sent
            parts => or_would_block(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, parts)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // `poll_flush` flushes
    }
}

#[inline]
fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::provider, *};
    use std::{sync::Arc, time::Duration};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::{
        TlsAcceptor, TlsConnector,
        client::TlsStream,
        rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer},
    };

    /// Both sides of a connection, with sockets between them that hold so many bytes.
    async fn pair(socket_bytes: usize) -> (ServerStream<DuplexStream>, TlsStream<DuplexStream>) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (shown, key) = (own.cert.der().clone(), own.signing_key.serialize_der());
        let mut roots = RootCertStore::empty();
        roots.add(shown.clone()).expect("a certificate");
        let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let server = server.expect("ring has them").with_no_client_auth();
        let key = PrivateKeyDer::try_from(key).expect("a key");
        let mut server = server.with_single_cert(vec![shown], key).expect("they fit");
        server.send_tls13_tickets = 0; // nobody reads them while the handshake ends
        let server = TlsAcceptor::from(Arc::new(server));
        let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let client = client.expect("ring has them").with_root_certificates(roots).with_no_client_auth();
        let client = TlsConnector::from(Arc::new(client));
        let (here, there) = duplex(socket_bytes);
        let name = "localhost".try_into().expect("a name");
        let (accepted, client) =
            in_time(async { tokio::join!(server.accept(here), client.connect(name, there)) }).await;
        let (socket, session) = accepted.expect("a handshake").into_inner();
        (ServerStream::new(socket, session), client.expect("a handshake"))
    }

    async fn in_time<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), work).await.expect("nothing waits for ever")
    }

    #[tokio::test]
    async fn bytes_come_whole_and_are_answered_behind_a_farewell_whatever_the_socket_takes_at_once() {
        let sent: Vec<u8> = (0..300_000_u32).map(|number| (number >> 3) as u8).collect();
        for socket_bytes in [97, 5_000, 1 << 20] {
            let (mut server, mut client) = pair(socket_bytes).await;
            let serve = async {
                let mut received = Vec::new();
                server.read_to_end(&mut received).await.expect("the client says farewell");
                server.write_all(&received).await.expect("only the client's half is closed");
                server.shutdown().await.expect("an open connection");
                assert_eq!(server.read(&mut [0]).await.expect("it stays at its end"), 0);
            };
            let ask = async {
                client.write_all(&sent).await.expect("an open connection");
                client.shutdown().await.expect("an open connection");
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.expect("the server says farewell");
                assert!(answer == sent, "{} bytes through {socket_bytes}", answer.len());
            };
            in_time(async { tokio::join!(serve, ask) }).await;
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_no_more_than_the_bound_until_it_does() {
        let (mut server, mut client) = pair(1_000).await;
        let mut taken = 0;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(more) = Pin::new(&mut server).poll_write(&mut cx, &[7; 10_000]) {
            taken += more.expect("an open connection");
        }
        assert!((1_000..80_000).contains(&taken), "{taken}");
        assert!(server.session.wants_write());
        let mut received = vec![0; taken];
        in_time(async { tokio::join!(server.flush(), client.read_exact(&mut received)) })
            .await
            .0
            .expect("it takes all");
        assert!(received.iter().all(|&byte| byte == 7) && !server.session.wants_write());
        server.write_all(b"more").await.expect("there is room again");
    }

    #[tokio::test]
    async fn what_comes_later_is_read_when_it_comes_however_small_the_buffer() {
        let (mut server, mut client) = pair(1 << 20).await;
        let read = tokio::spawn(async move {
            let mut received = Vec::new();
            for _ in 0..2_003 {
                received.push(server.read_u8().await.expect("an open connection"));
            }
            (server, received)
        });
        for part in [b"a".as_slice(), b"b", &[b'c'; 2_000], b"d"] {
            client.write_all(part).await.expect("an open connection");
            client.flush().await.expect("an open connection");
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        let (_server, received) = in_time(read).await.expect("no panic");
        assert!(received.starts_with(b"abc") && received.ends_with(b"cd"));
    }

    #[tokio::test]
    async fn an_end_without_a_farewell_is_an_error_behind_what_had_come() {
        let (mut server, mut client) = pair(1_000).await;
        client.write_all(b"hello").await.expect("an open connection");
        client.flush().await.expect("an open connection");
        drop(client);
        let mut received = Vec::new();
        let error = in_time(server.read_to_end(&mut received)).await.expect_err("it was cut off");
        assert_eq!((error.kind(), &*received), (io::ErrorKind::UnexpectedEof, b"hello".as_slice()));
    }

    #[tokio::test]
    async fn a_record_that_was_changed_on_its_way_is_an_error_and_the_client_is_told() {
        let (mut server, mut client) = pair(1_000).await;
        let forged = [&[23, 3, 3, 0, 32], [0; 32].as_slice()].concat();
        client.get_mut().0.write_all(&forged).await.expect("an open connection");
        let error = in_time(server.read(&mut [0; 10])).await.expect_err("nobody has sealed it");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let told = in_time(client.read(&mut [0; 10])).await.expect_err("an alert");
        assert!(told.to_string().contains("BadRecordMac"), "{told}");
    }

    #[tokio::test]
    async fn new_keys_of_the_client_are_taken_and_answered_with_new_ones() {
        let (mut server, mut client) = pair(1_000).await;
        for round in 0..3_u8 {
            client.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
            client.write_all(&[round]).await.expect("an open connection");
            client.flush().await.expect("an open connection");
            assert_eq!(in_time(server.read_u8()).await.expect("an open connection"), round);
            server.write_all(&[round]).await.expect("an open connection");
            server.flush().await.expect("an open connection");
            assert_eq!(in_time(client.read_u8()).await.expect("an open connection"), round);
        }
    }
}
