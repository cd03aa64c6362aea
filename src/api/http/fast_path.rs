//! The fast path: a connection begins here, and stays as long as it asks for nothing but `/wordcount`, single
//! entries and `/health`, or writes small texts and entries.
//!
//! A small loop that reads, answers straight from the store (`api/http/fast_path/responder.rs`) or once the Writer has
//! answered, and writes all answers of a wake-up at once. At the first request of any other shape the connection goes
//! to the guard, hyper and the routes for good, with what was read of it. The rules of the guard hold here too: no more
//! is read while the client takes nothing, and its times are the same (`api/http/times.rs`).
//!
//! A connection that waits holds no buffer: it reads into its thread's, and keeps only what a head had begun with, and
//! what the socket did not take.

mod admission;
mod counter_write;
mod date;
mod entry;
mod entry_tally;
mod entry_write;
#[cfg(feature = "failpoints")]
pub mod fuzz_api;
mod named_write;
mod read;
mod responder;
mod written_answer;

use super::{head::SoundHead, settings::HttpSettings, state::AppState, times::ConnectionTimes};
use crate::{
    api::{error::ApiError, service::AcceptedWrite},
    net::{address_limits::Usage, client_stream::ClientStream},
};
use named_write::NamedReceipt;
use responder::{FastPathResponder, Remainder};
use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
};
use tokio::{io::ReadBuf, time::Instant};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Bytes read at once. As many requests are answered before the other connections of the thread have their turn.
const READ_BYTES: usize = 16 << 10;

/// The way in which a connection leaves the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FastPathExit {
    /// Nothing is owed: the client has finished, or was silent for too long, or the server stops.
    Done,
    /// It broke off, or the client takes nothing.
    Broken,
    /// It goes on at the guard.
    Other,
}

/// The state that the fast path hands over to the guard.
pub(super) struct Handoff {
    /// Read and not answered.
    pub(super) held: Vec<u8>,
    /// The head that `held` begins with, if it was read and is sound.
    pub(super) first: Option<SoundHead>,
    /// True if requests were answered before: the connection is HTTP/1 then.
    pub(super) answered: bool,
    pub(super) times: ConnectionTimes,
}

impl Handoff {
    /// The state of a connection of which nothing was read.
    pub(super) fn new(settings: HttpSettings) -> Self {
        Self { held: Vec::new(), first: None, answered: false, times: ConnectionTimes::new(settings) }
    }
}

thread_local! {
    /// The buffers that the connections of a thread read into and write from.
    static SPACE: RefCell<(Vec<u8>, FastPathResponder)> = RefCell::default();
}

/// Serves until the connection ends or is another's.
pub(super) async fn serve<C: ClientStream>(
    stream: &mut C,
    usage: &Usage,
    state: &AppState,
    stopping: &CancellationToken,
) -> (FastPathExit, Handoff) {
    let mut path = FastPathConnection {
        stream,
        usage,
        state,
        begun: Handoff::new(state.settings),
        next: AfterFlush::Read,
        awaited: 0,
        posting: None,
        gave_way: false,
        unsent: Vec::new(),
        sent: 0,
    };
    let mut stopped = pin!(stopping.cancelled());
    let exit = poll_fn(|cx| {
        SPACE.with_borrow_mut(|(input, responder)| {
            input.resize(path.state.settings.max_head_bytes + READ_BYTES, 0); // once
            path.poll(cx, stopped.as_mut(), input, responder)
        })
    });
    let exit = exit.await;
    (exit, path.begun)
}

struct FastPathConnection<'a, C> {
    stream: &'a mut C,
    usage: &'a Usage,
    state: &'a AppState,
    begun: Handoff,
    next: AfterFlush,
    /// Bytes that `held` must have before there is anything to answer: a post has begun. 0: not known.
    awaited: usize,
    posting: Option<PendingPost<'a>>,
    /// It gave way to others although there was more to read: nothing has looked yet whether the server stops.
    gave_way: bool,
    /// Of the answers, what the socket did not take at once, and how much of that it has taken since.
    unsent: Vec<u8>,
    sent: usize,
}

/// A post that the Writer has.
struct PendingPost<'a> {
    begun: Instant,
    settled: Pin<Box<dyn Future<Output = Result<AcceptedWrite, ApiError>> + Send + 'a>>,
    named: Option<Box<NamedReceipt>>,
}

impl PendingPost<'_> {
    /// A defect costs one answer, as in `middleware.rs`.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<AcceptedWrite, ApiError>> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.settled.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(ApiError::defect())))
    }
}

/// The next step once all answers are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterFlush {
    Read,
    /// `held` has whole requests.
    Answer,
    Leave,
}

impl<C: ClientStream> FastPathConnection<'_, C> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut stopped: Pin<&mut WaitForCancellationFuture<'_>>,
        input: &mut [u8],
        responder: &mut FastPathResponder,
    ) -> Poll<FastPathExit> {
        loop {
            if self.sent < self.unsent.len() || self.stream.is_behind() {
                match self.poll_send(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(FastPathExit::Broken),
                    Poll::Ready(Ok(())) => {}
                }
            }
            if self.posting.is_some() {
                match self.poll_post(cx, responder) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(FastPathExit::Broken),
                    Poll::Ready(Ok(())) if self.next == AfterFlush::Answer => return self.give_way(cx),
                    Poll::Ready(Ok(())) => continue,
                }
            }
            let held = self.begun.held.len();
            let mut filled = held;
            match self.next {
                AfterFlush::Leave => return Poll::Ready(FastPathExit::Other),
                AfterFlush::Answer => {}
                AfterFlush::Read => {
                    if std::mem::take(&mut self.gave_way) && stopped.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(self.leave());
                    }
                    let mut buffer = ReadBuf::new(&mut input[held..]);
                    match Pin::new(&mut *self.stream).poll_read(cx, &mut buffer) {
                        Poll::Pending if self.stream.is_behind() => continue, // TLS answers for itself
                        Poll::Pending => return self.poll_silence(cx, stopped.as_mut()),
                        Poll::Ready(Err(_)) => return Poll::Ready(FastPathExit::Broken),
                        // What half a body means is the routes' to say.
                        Poll::Ready(Ok(())) if buffer.filled().is_empty() && self.awaited > 0 => {
                            return Poll::Ready(FastPathExit::Other);
                        }
                        Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(FastPathExit::Done),
                        Poll::Ready(Ok(())) => filled += buffer.filled().len(),
                    }
                }
            }
            input[..held].copy_from_slice(&self.begun.held);
            // A head ends with a line: without one there is nothing new, and a trickle costs no more than a flood.
            let nothing_new = match self.awaited {
                0 => {
                    memchr::memchr(b'\n', &input[held..filled]).is_none()
                        && filled <= self.state.settings.max_head_bytes
                }
                awaited => filled < awaited,
            };
            if held > 0 && self.next == AfterFlush::Read && nothing_new {
                self.begun.held.extend_from_slice(&input[held..filled]);
                continue;
            }
            if self.answer(cx, &input[..filled], responder).is_err() {
                return Poll::Ready(FastPathExit::Broken);
            }
            if filled == input.len() {
                return self.give_way(cx);
            }
        }
    }

    /// There is more, and others wait for their turn.
    fn give_way(&mut self, cx: &Context<'_>) -> Poll<FastPathExit> {
        self.gave_way = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits for the Writer, and answers a post.
    fn poll_post(&mut self, cx: &mut Context<'_>, responder: &mut FastPathResponder) -> Poll<io::Result<()>> {
        let Some(posting) = &mut self.posting else { return Poll::Ready(Ok(())) };
        let Poll::Ready(settled) = posting.poll(cx) else { return Poll::Pending };
        responder.conclude(settled, posting, self.state);
        self.posting = None;
        self.send(cx, responder)?;
        self.begun.times.answered(Instant::now(), !self.begun.held.is_empty());
        Poll::Ready(Ok(()))
    }

    /// Answers what can be answered of `bytes`, sends what the socket takes, and keeps the rest.
    fn answer(&mut self, cx: &mut Context<'_>, bytes: &[u8], responder: &mut FastPathResponder) -> io::Result<()> {
        let begun = Instant::now();
        let (consumed, rest) = responder.answer(bytes, self.state, begun);
        let was_silent = self.begun.held.is_empty();
        self.begun.held.clear();
        self.begun.held.extend_from_slice(&bytes[consumed..]);
        if consumed > 0 {
            let now = Instant::now();
            responder.count(self.state, now - begun);
            self.begun.answered = true;
            self.send(cx, responder)?;
            self.begun.times.answered(now, !self.begun.held.is_empty());
        } else if self.begun.answered && was_silent {
            // The silence is over; from its first byte on a head has its own time.
            self.begun.times.head_begins(begun);
        }
        self.awaited = 0;
        self.next = match rest {
            Remainder::Partial => AfterFlush::Read,
            Remainder::Body(awaited) => {
                self.awaited = awaited;
                AfterFlush::Read
            }
            Remainder::Waiting => AfterFlush::Answer,
            Remainder::Post(post) => {
                let (batch, level, named) = *post;
                let settled = Box::pin(self.state.service.submit(batch, level, self.usage));
                self.posting = Some(PendingPost { begun, settled, named });
                if self.begun.held.is_empty() { AfterFlush::Read } else { AfterFlush::Answer }
            }
            Remainder::Other(first) => {
                self.begun.first = first;
                AfterFlush::Leave
            }
        };
        Ok(())
    }

    /// Sends what the socket takes of the answers on the responder, and keeps the rest.
    fn send(&mut self, cx: &mut Context<'_>, responder: &FastPathResponder) -> io::Result<()> {
        if responder.answers.is_empty() {
            return Ok(());
        }
        let sent = match Pin::new(&mut *self.stream).poll_write(cx, &responder.answers) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        if sent < responder.answers.len() {
            self.unsent.clear();
            self.unsent.extend_from_slice(&responder.answers[sent..]);
            self.sent = 0;
        }
        Ok(())
    }

    /// Sends what the socket did not take at once.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let Poll::Ready(sent) = Pin::new(&mut *self.stream).poll_write(cx, &self.unsent[self.sent..]) else {
                return self.begun.times.poll_not_taken(cx).map(Err);
            };
            self.sent += sent?;
            self.begun.times.taken();
        }
        // TLS may have taken what the socket has not.
        if Pin::new(&mut *self.stream).poll_flush(cx)?.is_pending() {
            return self.begun.times.poll_not_taken(cx).map(Err);
        }
        (self.unsent, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// There is no input: waits for it until the time of the client is over.
    fn poll_silence(
        &mut self,
        cx: &mut Context<'_>,
        stopped: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Poll<FastPathExit> {
        if stopped.poll(cx).is_pending() && self.begun.times.poll_silence(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(self.leave())
    }

    /// Everything is answered but the begin of a head, if there is one: the guard knows what to say to that.
    fn leave(&self) -> FastPathExit {
        if self.begun.held.is_empty() { FastPathExit::Done } else { FastPathExit::Other }
    }
}

#[cfg(feature = "failpoints")]
#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt, net::TcpStream};

    /// A stop does not wait for a client that never pauses.
    #[tokio::test]
    async fn a_stop_ends_a_flood_of_reads() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (mut stream, _) = listener.accept().await.expect("it was connected");
        let long = format!("GET /health HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2_000));
        // More than a turn reads, and its answers are few: nothing but the stop ends this.
        client.write_all(long.repeat(60).as_bytes()).await.expect("an open socket");
        let stopping = CancellationToken::new();
        stopping.cancel();
        stream.readable().await.expect("an open socket");
        let (left, _) =
            serve(&mut stream, &Usage::default(), &crate::api::http::test_support::state(), &stopping).await;
        assert_ne!(left, FastPathExit::Broken);
        assert!(matches!(stream.try_read(&mut [0]), Ok(1)), "it answered all there was before it looked");
    }
}
