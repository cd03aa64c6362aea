//! Sends the lines of a text as one bulk body, so that each counts once however often the text is sent.
//!
//! The leader remembers under the stream's name how many lines are done, with a hash over them. [`send`] asks it for that, sends
//! the whole body, of which it skips what is done, and asks again where an answer was lost, until all is done.

use super::{
    ClientError,
    feed::{FeedError, Line, Manner, Outcome, Posts, Survey},
};
use crate::position::PositionToken;
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use parking_lot::Mutex;
use serde::Deserialize;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of lines handed to the connection at once, about.
const PIECE_BYTES: usize = 128 << 10;
/// A leader that takes nothing of a body for so long is given up.
const STALLED: Duration = Duration::from_secs(30);

/// What a 202 to a bulk body of a stream says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BulkAnswer {
    /// Lines of the stream that are done.
    pub stream_lines: u64,
    /// Words counted in all of them.
    pub stream_words: u64,
    /// Tokens left out in all of them.
    pub stream_left_out: u64,
    /// The most bytes a line may have.
    pub line_bytes: usize,
    /// The first lines that were refused.
    pub refused: u64,
    /// Where in the history of the database it is.
    #[serde(deserialize_with = "super::position")]
    pub position: PositionToken,
}

/// The pieces of a body, as [`send`] makes them.
pub type Pieces = std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Sends the lines of a surveyed text under the name `stream`. `open` opens it from its start; `before` hears how many of its
/// lines were counted by an earlier run.
///
/// # Errors
/// [`FeedError`]; what was counted stays counted, and a repeat goes on from there.
pub async fn send<R, O>(
    line: &Line,
    stream: &str,
    survey: Survey,
    manner: &Manner<'_>,
    open: impl Fn() -> O,
    before: impl FnOnce(u64),
) -> Result<Outcome, FeedError>
where
    R: AsyncRead + Send + Unpin + 'static,
    O: Future<Output = io::Result<R>>,
{
    let ask = || line.bulk(stream, None);
    let mut patience = line.patience(stream);
    let begun = loop {
        match ask().await {
            Ok(answer) => break answer,
            Err(error) => patience.after(error).await?,
        }
    };
    if survey.longest > begun.line_bytes {
        return Err(FeedError::Longer { longest: survey.longest, line_bytes: begun.line_bytes });
    }
    before(begun.stream_lines.min(survey.posts));
    line.progress.posts.fetch_add(begun.stream_lines.min(survey.posts), Ordering::Relaxed);
    let mut stands = begun.clone();
    while stands.stream_lines < survey.posts {
        let shown = Shown::of(line, stands.stream_lines);
        let source = open().await?.take(survey.bytes);
        let trouble = Arc::new(Mutex::new(None));
        let body = pieces(Posts::new(source, manner), survey, Arc::clone(&trouble), Arc::clone(&shown.seen));
        let sent = shown.watch(line.bulk(stream, Some(Box::pin(body)))).await;
        if let Some(trouble) = trouble.lock().take() {
            return Err(trouble);
        }
        let now = match sent {
            Ok(answer) => answer,
            Err(error) => {
                patience.after(error).await?;
                loop {
                    match ask().await {
                        Ok(answer) => break answer,
                        Err(error) => patience.after(error).await?,
                    }
                }
            }
        };
        if now.stream_lines < stands.stream_lines {
            let (sent, expected) = (stands.stream_lines, now.stream_lines + 1);
            return Err(FeedError::Forgotten { stream: stream.to_owned(), sent, expected });
        }
        if now.stream_lines > stands.stream_lines {
            patience = line.patience(stream);
        }
        shown.settle(line, &stands, &now);
        stands = now;
    }
    Ok(Outcome {
        counted_before: begun.stream_lines.min(survey.posts),
        counted: stands.stream_lines.saturating_sub(begun.stream_lines),
        position: Some(stands.position),
        ..Outcome::default()
    })
}

/// The pieces of a body: every post with a line end. What goes wrong is put into `trouble`, and the body breaks off.
fn pieces<R: AsyncRead + Send + Unpin + 'static>(
    posts: Posts<R>,
    survey: Survey,
    trouble: Arc<Mutex<Option<FeedError>>>,
    seen: Arc<AtomicU64>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((posts, 0_u64), move |(mut posts, mut sent)| {
        let (trouble, seen) = (Arc::clone(&trouble), Arc::clone(&seen));
        async move {
            let breaks_off = |error: FeedError| {
                let told = io::Error::other(error.to_string());
                *trouble.lock() = Some(error);
                told
            };
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            while piece.len() < PIECE_BYTES {
                match posts.next_some().await.map_err(|error| breaks_off(error.into()))? {
                    Some(Ok(lines)) => {
                        sent += lines.posts;
                        piece.extend_from_slice(&lines.bytes);
                    }
                    Some(Err(_)) => {} // the survey has told it
                    None => break,
                }
                // Lines put in would otherwise be counted as lines of the surveyed text.
                if sent > survey.posts {
                    return Err(breaks_off(FeedError::Changed));
                }
            }
            if piece.is_empty() {
                return if posts.holds(&survey) { Ok(None) } else { Err(breaks_off(FeedError::Changed)) };
            }
            seen.store(sent, Ordering::Relaxed);
            Ok(Some((piece.freeze(), (posts, sent))))
        }
    })
}

/// What the bar shows of a body under way: what was sent, until it is known what was counted.
struct Shown {
    progress: Arc<super::feed::Progress>,
    /// Lines done before.
    done: u64,
    /// Lines sent, those that are done included.
    seen: Arc<AtomicU64>,
    /// Of these, in the bar.
    shown: AtomicU64,
}

/// How often the bar hears of it.
const SHOW_EVERY: Duration = Duration::from_millis(100);

impl Shown {
    fn of(line: &Line, done: u64) -> Self {
        Self { progress: Arc::clone(&line.progress), done, seen: Arc::default(), shown: AtomicU64::new(0) }
    }

    /// Waits for an answer, as long as the leader takes something now and then.
    async fn watch(
        &self,
        sent: impl Future<Output = Result<BulkAnswer, ClientError>>,
    ) -> Result<BulkAnswer, ClientError> {
        let mut sent = std::pin::pin!(sent);
        let (mut ticks, mut silent) = (tokio::time::interval(SHOW_EVERY), Duration::ZERO);
        let mut last = 0;
        loop {
            tokio::select! {
                answer = &mut sent => return answer,
                _ = ticks.tick() => {}
            }
            let seen = self.seen.load(Ordering::Relaxed);
            silent = if seen == last { silent + SHOW_EVERY } else { Duration::ZERO };
            last = seen;
            if silent >= STALLED {
                return Err(ClientError::Lost { base: "the leader".to_owned(), reason: super::TOO_LATE.to_owned() });
            }
            self.show(seen.saturating_sub(self.done));
        }
    }

    fn show(&self, lines: u64) {
        let before = self.shown.swap(lines, Ordering::Relaxed);
        self.progress.posts.fetch_add(lines.wrapping_sub(before), Ordering::Relaxed);
    }

    /// What was counted is known.
    fn settle(&self, line: &Line, before: &BulkAnswer, now: &BulkAnswer) {
        let lines = now.stream_lines - before.stream_lines;
        self.show(lines);
        line.progress.sent.fetch_add(lines, Ordering::Relaxed);
        line.progress.words.fetch_add(now.stream_words - before.stream_words, Ordering::Relaxed);
        line.progress.left_out.fetch_add(now.stream_left_out - before.stream_left_out, Ordering::Relaxed);
    }
}
