//! Wraps the socket that hyper reads: buffers heads until they are sound, keeps times, writes closing responses.
//!
//! Bytes go through as they come, except that a head is held until it is whole and found sound, so hyper never sees a
//! bad one. At a bad one hyper is told that the client has finished: it answers what came before, in order, and then
//! the guard writes the closing response itself (`close`). The guard also keeps the time of everything that depends on
//! the client alone: silence before a head, a slow head, an answer nobody takes. Bodies are timed where they are read.

use super::{
    fast_path::Handoff,
    framing::BodyFraming,
    head::{self, HeadScan, SoundHead},
    settings::HttpSettings,
    times::ConnectionTimes,
};
use crate::{
    api::error::{ApiError, ErrorKind},
    net::client_stream::ClientStream,
};
use bytes::{Buf, BytesMut};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// The bytes that begin every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Number of bytes that a lingering client may still send before it is cut off.
const LINGER_BYTES: usize = 1 << 20;

/// The protocol that the first bytes of a connection belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionStart {
    /// HTTP/1, sound or not.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Nothing worth an answer.
    Nothing,
}

/// One connection's socket, screened.
pub(super) struct Http1Guard<C> {
    stream: C,
    settings: HttpSettings,
    stopping: CancellationToken,
    /// The end of the current message. HTTP/2 has no end that would matter here.
    framing: BodyFraming,
    /// Read from the socket and not passed on: first what is `checked`, then the begin of a head.
    held: BytesMut,
    checked: usize,
    /// The head that `held` begins with, if the fast path has read it: it is not parsed once more.
    first: Option<SoundHead>,
    /// Requests of HTTP/1 were answered before.
    answered: bool,
    /// No more is read: hyper is told that the client has finished.
    finished: bool,
    last_words: Option<ApiError>,
    /// True if bytes that hyper wrote may not be in the socket yet.
    unflushed: bool,
    waits_for_flush: Option<Waker>,
    times: ConnectionTimes,
}

impl<C: ClientStream> Http1Guard<C> {
    /// The guard of a connection of which so much has been seen.
    pub(super) fn new(stream: C, settings: HttpSettings, stopping: CancellationToken, begun: Handoff) -> Self {
        let Handoff { held, first, answered, times } = begun;
        Self {
            stream,
            settings,
            stopping,
            framing: BodyFraming::Ended,
            held: BytesMut::from(&*held),
            checked: 0,
            first,
            answered,
            finished: false,
            last_words: None,
            unflushed: false,
            waits_for_flush: None,
            times,
        }
    }

    /// Reads the first bytes, which tell the protocol.
    pub(super) async fn open(&mut self) -> ConnectionStart {
        let deadline = self.times.head_deadline();
        loop {
            if let Some(opening) = self.opening() {
                return opening;
            }
            let read = tokio::select! {
                read = timeout_at(deadline, self.stream.read_buf(&mut self.held)) => read,
                () = self.stopping.cancelled() => return ConnectionStart::Nothing,
            };
            match read {
                Ok(Ok(0)) | Ok(Err(_)) => return ConnectionStart::Nothing, // what is not whole by now never will be
                Err(_) if self.held.is_empty() => return ConnectionStart::Nothing,
                Err(_) => {
                    self.last_words = Some(self.times.too_slow());
                    return ConnectionStart::Nothing;
                }
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Tells the protocol from the bytes read so far, if they suffice.
    fn opening(&mut self) -> Option<ConnectionStart> {
        let begins = self.held.len().min(PREFACE.len());
        if self.answered || self.held[..begins] != PREFACE[..begins] {
            self.check_held();
            return Some(ConnectionStart::Http1);
        }
        if begins < PREFACE.len() {
            return None;
        }
        self.framing = BodyFraming::Unknown;
        self.checked = self.held.len();
        Some(ConnectionStart::Http2)
    }

    /// Has the connection end with this, whatever the client sends.
    pub(super) fn refuse(&mut self, problem: ApiError) {
        self.last_words = Some(problem);
    }

    /// Ends the connection: the last words if there are any, then a while in which the client may still send, so that
    /// no reset overtakes what it was told.
    pub(super) async fn close(mut self) {
        let mut expected = self.framing != BodyFraming::Ended || self.last_words.is_some();
        if let Some(problem) = self.last_words.take() {
            let words = problem.into_closing_response();
            if !matches!(timeout(self.settings.write_timeout, self.stream.write_all(&words)).await, Ok(Ok(()))) {
                return;
            }
        }
        let linger = async {
            self.stream.shutdown().await?;
            let mut thrown_away = [0; 4_096];
            let mut left = LINGER_BYTES;
            let mut buffer = ReadBuf::new(&mut thrown_away);
            let there = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))).await;
            expected |= there.is_ready() && !buffer.filled().is_empty();
            if !expected {
                return Ok(()); // an idle client, or one that has closed too
            }
            while left > 0 {
                match self.stream.read(&mut thrown_away).await? {
                    0 => break,
                    bytes => left = left.saturating_sub(bytes),
                }
            }
            io::Result::Ok(())
        };
        // However it ends, the socket is closed.
        let _ = timeout(self.settings.linger_timeout, linger).await;
    }

    /// Counts how many of `bytes`, which follow what was passed on, may be passed on. The rest is the start of a head,
    /// or malformed.
    fn passable(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        loop {
            passed += self.framing.take(&bytes[passed..]);
            if passed == bytes.len() {
                return passed;
            }
            let scanned = match self.first.take() {
                Some(first) => HeadScan::Whole(first),
                None => head::look(&bytes[passed..], self.settings.max_head_bytes),
            };
            match scanned {
                HeadScan::Whole(SoundHead { head_bytes, body }) => {
                    passed += head_bytes;
                    self.framing = body;
                    self.times.head_ends();
                }
                HeadScan::Partial => return passed,
                HeadScan::Unsound(problem) => {
                    self.last_words = Some(problem);
                    self.finished = true;
                    return passed;
                }
            }
        }
    }

    fn check_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.checked = self.passable(&held);
        self.held = held;
        if self.checked < self.held.len() {
            self.times.head_goes_on(Instant::now());
        }
    }

    /// Screens what was just read into `buffer` after its first `before` bytes.
    fn screen(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let fresh = &buffer.filled()[before..];
        if self.held.is_empty() {
            let passed = self.passable(fresh);
            if passed < fresh.len() && !self.finished {
                self.held.extend_from_slice(&fresh[passed..]);
                self.times.head_begins(Instant::now());
            }
            buffer.set_filled(before + passed);
            return;
        }
        self.held.extend_from_slice(fresh);
        // A head ends with a line: without one there is nothing new to find, and a trickle costs no more than a flood.
        if memchr::memchr(b'\n', fresh).is_some() || self.held.len() > self.settings.max_head_bytes {
            self.check_held();
        }
        buffer.set_filled(before);
    }

    /// Nothing to read: how long is that right?
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.framing != BodyFraming::Ended {
            return Poll::Pending;
        }
        if self.stopping.is_cancelled() {
            // A head that is not whole is no request in flight.
            self.finished = true;
            if !self.held.is_empty() {
                self.last_words = Some(ApiError::new(ErrorKind::Stopping, "nothing was applied; send it again"));
            }
            return Poll::Ready(());
        }
        ready!(self.times.poll_silence(cx));
        self.finished = true;
        if !self.held.is_empty() {
            self.last_words = Some(self.times.too_slow());
        }
        Poll::Ready(())
    }
}

impl<C: ClientStream> AsyncRead for Http1Guard<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = &mut *self;
        loop {
            if guard.checked > 0 {
                let bytes = guard.checked.min(buffer.remaining());
                buffer.put_slice(&guard.held[..bytes]);
                guard.held.advance(bytes);
                guard.checked -= bytes;
                return Poll::Ready(Ok(()));
            }
            if guard.finished {
                if guard.unflushed {
                    // hyper would close before the slow client has taken the answers so far.
                    guard.waits_for_flush = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            match Pin::new(&mut guard.stream).poll_read(cx, buffer)? {
                Poll::Pending => ready!(guard.poll_silence(cx)),
                Poll::Ready(()) if buffer.filled().len() == before => guard.finished = true,
                Poll::Ready(()) => {
                    guard.screen(buffer, before);
                    if buffer.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<C: ClientStream> AsyncWrite for Http1Guard<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = &mut *self;
        guard.unflushed = true;
        if let Poll::Ready(written) = Pin::new(&mut guard.stream).poll_write(cx, bytes) {
            guard.times.taken();
            return Poll::Ready(written);
        }
        guard.times.poll_not_taken(cx).map(Err)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        if let Some(waker) = self.waits_for_flush.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    async fn pair() -> (Http1Guard<TcpStream>, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("it was connected");
        let settings = HttpSettings::default();
        (Http1Guard::new(stream, settings, CancellationToken::new(), Handoff::new(settings)), client)
    }

    /// Writes until the socket takes no more; gives how much it took.
    async fn fill(guard: &mut Http1Guard<TcpStream>) -> usize {
        let mut written = 0;
        loop {
            let more = poll_fn(|cx| Poll::Ready(Pin::new(&mut *guard).poll_write(cx, &[b'x'; 65_536]))).await;
            match more {
                Poll::Ready(bytes) => written += bytes.expect("an open socket"),
                Poll::Pending => return written,
            }
        }
    }

    #[tokio::test]
    async fn a_bad_head_is_told_of_only_once_the_answers_before_it_are_taken() {
        let (mut guard, mut client) = pair().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("an open socket");
        assert_eq!(guard.open().await, ConnectionStart::Http1);
        let mut head = [0; 64];
        assert_eq!(guard.read(&mut head).await.expect("a sound head"), 27);
        let written = fill(&mut guard).await;
        assert!(guard.times.is_not_taken(), "from here on the client takes nothing");
        client.write_all(b"garbage\r\n\r\n").await.expect("an open socket");
        guard.stream.readable().await.expect("an open socket");
        let mut space = [0; 64];
        let early = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut space);
            Poll::Ready(Pin::new(&mut guard).poll_read(cx, &mut buffer).is_ready())
        });
        assert!(!early.await, "hyper would have closed before the client had its answers");
        assert!(guard.last_words.is_some());
        let mut taken = vec![0; written];
        client.read_exact(&mut taken).await.expect("what was written");
        guard.write_all(b"x").await.expect("room again");
        assert!(!guard.times.is_not_taken(), "the client takes its answers");
        guard.flush().await.expect("an open socket");
        assert_eq!(guard.read(&mut head).await.expect("the end"), 0);
    }

    #[tokio::test]
    async fn a_head_in_pieces_is_passed_on_whole_and_never_before() {
        let (mut guard, mut client) = pair().await;
        let request = b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
        client.write_all(&request[..20]).await.expect("an open socket");
        assert_eq!(guard.open().await, ConnectionStart::Http1);
        let mut space = [0; 16];
        let early = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut space);
            Poll::Ready(Pin::new(&mut guard).poll_read(cx, &mut buffer).is_ready())
        });
        assert!(!early.await);
        client.write_all(&request[20..]).await.expect("an open socket");
        let mut passed = Vec::new();
        while passed.len() < request.len() {
            let bytes = guard.read(&mut space).await.expect("a sound request");
            assert!(bytes > 0);
            passed.extend_from_slice(&space[..bytes]);
        }
        assert_eq!(passed, request);
    }
}
