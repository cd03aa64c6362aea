//! Sends the lines of a text as one bulk body, so that each counts once however often the text is sent.
//!
//! The leader remembers under the stream's name how many lines are done, with a hash over them. [`send`] asks it for
//! that, sends the whole body, of which it skips what is done, and asks again where an answer was lost, until all is
//! done.

use super::{
    ClientError,
    bulk_answer::{BodyStream, BulkAnswer, StreamTotals},
    upload::{
        InputScan, Posts, RetryBudget, TextSource, UploadError, UploadOptions, UploadProgress, UploadSummary, Uploader,
    },
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use parking_lot::Mutex;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout},
};

/// Bytes of lines handed to the connection at once, about.
const PIECE_BYTES: usize = 128 << 10;

/// Sends the lines of a surveyed text under the name `stream`. `open` opens it from its start; `before` hears how many
/// of its lines were counted by an earlier run.
///
/// # Errors
/// [`UploadError`]; what was counted stays counted, and a repeat goes on from there.
pub async fn send<R, O>(
    line: &Uploader,
    stream: &str,
    survey: InputScan,
    options: &UploadOptions<'_>,
    open: impl Fn() -> O,
    before: impl FnOnce(u64),
) -> Result<UploadSummary, UploadError>
where
    R: AsyncRead + Send + Unpin + 'static,
    O: Future<Output = io::Result<R>>,
{
    let mut upload = BulkUpload::new(line, TextSource::new(stream, options));
    // What is one small post is sent at once: the answer says whether it was counted before.
    if survey.posts != 1 || survey.bytes > PIECE_BYTES as u64 {
        before(upload.ask().await?.lines.min(survey.posts));
        upload.check_length(survey.longest)?;
    }
    while upload.done() < survey.posts {
        let source = open().await?.take(survey.bytes);
        let trouble = Arc::new(Mutex::new(None));
        let body = |sent| Box::pin(pieces(Posts::new(source, options), survey, Arc::clone(&trouble), sent));
        let sent = upload.send(|sent| body(sent)).await;
        if let Some(trouble) = trouble.lock().take() {
            return Err(trouble);
        }
        sent?;
    }
    let mut outcome = upload.ended();
    outcome.counted_before = outcome.counted_before.min(survey.posts);
    Ok(outcome)
}

/// The pieces of a body: every post with a line end. What goes wrong is put into `trouble`, and the body breaks off.
fn pieces<R: AsyncRead + Send + Unpin + 'static>(
    posts: Posts<R>,
    survey: InputScan,
    trouble: Arc<Mutex<Option<UploadError>>>,
    sent_so_far: Arc<SentBody>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((posts, 0_u64), move |(mut posts, mut sent)| {
        let (trouble, sent_so_far) = (Arc::clone(&trouble), Arc::clone(&sent_so_far));
        async move {
            let breaks_off = |error: UploadError| {
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
                    return Err(breaks_off(UploadError::Changed));
                }
            }
            if piece.is_empty() {
                return if posts.holds(&survey) { Ok(None) } else { Err(breaks_off(UploadError::Changed)) };
            }
            sent_so_far.lines.store(sent, Ordering::Relaxed);
            Ok(Some((piece.freeze(), (posts, sent))))
        }
    })
}

/// A text under way: what is done under its name.
pub(super) struct BulkUpload<'a> {
    line: &'a Uploader,
    text: TextSource<'a>,
    patience: RetryBudget,
    /// True if the last body failed.
    is_failing: bool,
    /// True once the leader has compared the text with the lines that were done before, if there were any.
    is_compared: bool,
    /// The totals of the stream before this run, once they are known.
    begun: Option<StreamTotals>,
    stands: StreamTotals,
    /// The most bytes a line may have, once that is known.
    line_bytes: Option<usize>,
    outcome: UploadSummary,
}

impl<'a> BulkUpload<'a> {
    pub(super) fn new(line: &'a Uploader, text: TextSource<'a>) -> Self {
        let (patience, outcome) = (line.patience(text.stream), UploadSummary::default());
        BulkUpload {
            line,
            text,
            patience,
            is_failing: false,
            is_compared: false,
            begun: None,
            stands: StreamTotals::default(),
            line_bytes: None,
            outcome,
        }
    }

    /// Asks what was done before.
    pub(super) async fn ask(&mut self) -> Result<StreamTotals, UploadError> {
        let answer = self.line.ask(&self.text, &mut self.patience).await?;
        self.line_bytes = Some(answer.line_bytes);
        self.outcome.position = Some(answer.position);
        self.start(answer.total());
        Ok(self.stands)
    }

    fn start(&mut self, begun: StreamTotals) {
        self.line.progress.posts.fetch_add(begun.lines, Ordering::Relaxed);
        self.line.progress.confirmed.fetch_add(begun.lines, Ordering::Relaxed);
        (self.begun, self.stands) = (Some(begun), begun);
        self.is_compared |= begun.lines == 0;
    }

    /// Returns whether the lines that are done are known to be those of this text.
    pub(super) fn is_compared(&self) -> bool {
        self.is_compared
    }

    /// Lines that are done.
    pub(super) fn done(&self) -> u64 {
        self.stands.lines
    }

    /// Refuses a text with a line of `longest` bytes that the leader is known not to take.
    pub(super) fn check_length(&self, longest: usize) -> Result<(), UploadError> {
        match self.line_bytes {
            Some(line_bytes) if longest > line_bytes => Err(UploadError::Longer { longest, line_bytes }),
            _ => Ok(()),
        }
    }

    /// Sends a body from its start, of which the leader skips what is done. Where no answer came, it is asked for what
    /// is done then: the body may have to be sent again.
    pub(super) async fn send(&mut self, body: impl FnOnce(Arc<SentBody>) -> BodyStream) -> Result<(), UploadError> {
        if !self.is_failing {
            self.patience.restart();
        }
        let shown = UploadMeter::of(&self.line.progress, self.stands);
        let sending = self.line.send(&self.text, body(Arc::clone(&shown.sent)));
        let (was_begun, mut failed) = (self.begun.is_some(), None);
        let answer = match shown.watch(self.line, &self.text, sending, self.patience.of_request()).await {
            Ok(answer) => {
                if self.begun.is_none() {
                    shown.show(StreamTotals::default());
                    shown.confirm(0);
                    self.start(answer.before());
                }
                self.outcome.refuse(&answer);
                self.is_compared = true;
                answer
            }
            Err(error) => {
                failed = Some((self.patience.extend(shown.last_moved()), error.clone()));
                if let Err(given_up) = self.patience.after(error).await {
                    // Whoever goes on from here is told how far it is, if the leader still says so.
                    if let Ok(answer) = timeout(LAST_LOOK, self.last_answer()).await {
                        shown.confirm(answer.total().since(self.stands).lines);
                    }
                    return Err(given_up);
                }
                self.line.ask(&self.text, &mut self.patience).await?
            }
        };
        // What an answer was lost to is our own.
        let begun = *self.begun.get_or_insert_default();
        let (now, stands) = (answer.total(), self.stands);
        if now.lines < stands.lines {
            let (stream, sent) = (self.text.stream.to_owned(), stands.lines);
            return Err(UploadError::Forgotten { stream, sent, expected: now.lines + 1 });
        }
        self.is_failing = false;
        let sent_lines = shown.sent.lines.load(Ordering::Relaxed);
        match failed {
            // Lines count behind those that are done once these are compared.
            _ if now.lines > stands.lines => self.is_compared = true,
            Some((begun, error)) => {
                self.patience.resume(begun, error)?;
                self.is_failing = true;
            }
            None if was_begun && sent_lines > stands.lines => return Err(self.line.nothing_counted().into()),
            None => {}
        }
        shown.show(now.since(stands));
        shown.confirm(now.since(stands).lines);
        self.stands = now;
        self.outcome.counted = now.lines - begun.lines;
        self.outcome.position = Some(answer.position);
        Ok(())
    }

    /// Asks what is done until that is answered: a connection that is kept may just be closed behind a refused body.
    async fn last_answer(&self) -> BulkAnswer {
        loop {
            if let Some(answer) = self.line.look(&self.text).await {
                return answer;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Gives the result.
    pub(super) fn ended(self) -> UploadSummary {
        UploadSummary { counted_before: self.begun.unwrap_or_default().lines, ..self.outcome }
    }
}

/// The part of a body that was sent.
#[derive(Debug, Default)]
pub(super) struct SentBody {
    /// Lines handed to the connection, those that were done before included.
    pub(super) lines: AtomicU64,
    /// True if the body waits for the reader of the input.
    pub(super) waits: AtomicBool,
}

/// The progress of a body under way, as the bar shows it: lines that were sent and words that were counted, until it is
/// known what counts.
struct UploadMeter<'a> {
    progress: &'a UploadProgress,
    /// The totals before this body.
    stands: StreamTotals,
    sent: Arc<SentBody>,
    /// The part of this body that the bar already has.
    shown: Mutex<StreamTotals>,
    /// Lines of this body that the leader has said are counted.
    confirmed: AtomicU64,
    last_moved: Mutex<Instant>,
}

/// Interval at which the bar is updated.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// Interval at which the leader is asked for the progress: short for who watches the bar, else for what is told if the
/// run is stopped.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOOK_UNWATCHED_EVERY: Duration = Duration::from_secs(1);
/// The pause before the leader is asked once more what is done.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Patience for the last of these answers, when a run is given up.
const LAST_LOOK: Duration = Duration::from_secs(1);

impl<'a> UploadMeter<'a> {
    fn of(progress: &'a UploadProgress, stands: StreamTotals) -> Self {
        let (sent, shown, last_moved) = (Arc::default(), Mutex::default(), Mutex::new(Instant::now()));
        Self { progress, stands, sent, shown, confirmed: AtomicU64::new(0), last_moved }
    }

    /// Gives the time at which bytes of the body were last taken.
    fn last_moved(&self) -> Instant {
        *self.last_moved.lock()
    }

    /// Waits for an answer, as long as the leader takes something of the body now and then.
    async fn watch(
        &self,
        line: &Uploader,
        text: &TextSource<'_>,
        sending: impl Future<Output = Result<BulkAnswer, ClientError>>,
        stalled: Duration,
    ) -> Result<BulkAnswer, ClientError> {
        let mut sending = std::pin::pin!(sending);
        let mut looking = std::pin::pin!(self.look(line, text));
        let mut ticks = tokio::time::interval(SHOW_EVERY.min(stalled));
        let mut last = 0;
        loop {
            tokio::select! {
                answer = &mut sending => return answer,
                () = &mut looking => {}
                _ = ticks.tick() => {}
            }
            let sent = self.sent.lines.load(Ordering::Relaxed);
            if sent != last || self.sent.waits.load(Ordering::Relaxed) {
                *self.last_moved.lock() = Instant::now();
            }
            last = sent;
            if self.last_moved().elapsed() >= stalled {
                return Err(line.too_late());
            }
            let words = self.shown.lock().words;
            self.show(StreamTotals { lines: sent.saturating_sub(self.stands.lines), words, left_out: 0 });
        }
    }

    /// Asks for what is counted, again and again.
    async fn look(&self, line: &Uploader, text: &TextSource<'_>) {
        let every = if line.is_watched { LOOK_EVERY } else { LOOK_UNWATCHED_EVERY };
        loop {
            tokio::time::sleep(every).await;
            if let Some(answer) = line.look(text).await {
                let (lines, counted) = (self.shown.lock().lines, answer.total().since(self.stands));
                self.confirm(counted.lines);
                self.show(StreamTotals { lines, ..counted });
            }
        }
    }

    /// The leader has said that so many lines are counted now.
    fn confirm(&self, lines: u64) {
        let before = self.confirmed.swap(lines, Ordering::Relaxed);
        self.progress.confirmed.fetch_add(lines.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Shows that so much was done now.
    fn show(&self, now: StreamTotals) {
        let mut shown = self.shown.lock();
        let add = |counter: &AtomicU64, now: u64, before: u64| {
            counter.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        };
        add(&self.progress.posts, now.lines, shown.lines);
        add(&self.progress.sent, now.lines, shown.lines);
        add(&self.progress.words, now.words, shown.words);
        add(&self.progress.left_out, now.left_out, shown.left_out);
        *shown = now;
    }
}
