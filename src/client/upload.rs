//! The parts of sending a text: how it becomes posts, its first pass, its progress, its repeats.
//!
//! All of it goes by `POST /bulk`, under a stream's name: `client/bulk_upload.rs` sends a text that can be read again
//! from its start, `client/blocks.rs` one that cannot.

use super::{
    Client, ClientError,
    bulk_answer::{BodyStream, BulkAnswer, RefusedLine},
    split::{InputFault, LineRun, PostSplitter, PostUnit},
};
use crate::base::{position::PositionToken, retry::RetryBackoff};
use bytes::Bytes;
use reqwest::Url;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::Semaphore,
    time::Instant,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Faults kept to be told; the rest are counted.
const FAULTS_TOLD: usize = 10;
/// Patience for the answer to a body of any length.
const LONGEST_BODY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Options: how texts become posts, and where these go.
#[derive(Clone, Copy, Debug)]
pub struct UploadOptions<'a> {
    /// The unit of a post.
    pub per: PostUnit,
    /// The most bytes a post may have.
    pub post_bytes: usize,
    /// The namespace, if not the default one.
    pub namespace: Option<&'a str>,
    /// The level the answer must stand for, if not the leader's default.
    pub ack: Option<&'a str>,
    /// Requests in flight at once.
    pub in_flight: usize,
    /// Time for which one request is repeated before the run fails; zero: it is sent once.
    pub patience: Duration,
    /// Time for which the leader may give no sign of life within one request.
    pub timeout: Duration,
    /// Seed of the waits between repeats.
    pub seed: u64,
}

impl UploadOptions<'_> {
    /// The most bytes of text in a post.
    fn text_bytes(&self) -> usize {
        match self.per {
            PostUnit::Line | PostUnit::JsonLine => self.post_bytes,
            PostUnit::File => self.post_bytes.saturating_sub(LineRun::JSON_BYTES).max(1),
        }
    }

    /// Gives the `Content-Type` of its lines.
    fn content_type(&self) -> &'static str {
        match self.per {
            PostUnit::Line => "text/plain; charset=utf-8",
            PostUnit::File | PostUnit::JsonLine => "application/x-ndjson",
        }
    }
}

/// The size and content of a text, found by reading it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputScan {
    /// Its posts.
    pub posts: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its fingerprint.
    pub content: u128,
    /// True if a line (or the text) is more than one post.
    pub cut: bool,
    /// Bytes of its longest post.
    pub longest: usize,
}

/// Lines that cannot be posted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputFaults {
    /// The first of them.
    pub first: Vec<InputFault>,
    /// All of them.
    pub total: u64,
}

impl InputFaults {
    pub(super) fn add(&mut self, fault: InputFault) {
        self.total += 1;
        if self.first.len() < FAULTS_TOLD {
            self.first.push(fault);
        }
    }
}

/// The result of sending a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadSummary {
    /// Posts counted by an earlier run.
    pub counted_before: u64,
    /// Posts counted now.
    pub counted: u64,
    /// The position of the last answer, to read from.
    pub position: Option<PositionToken>,
    /// Lines that were not posted.
    pub faults: InputFaults,
    /// Lines that the leader has refused.
    pub refused: u64,
    /// The first of them.
    pub refusals: Vec<RefusedLine>,
}

impl UploadSummary {
    /// Adds what became of another part of the same text.
    pub(super) fn add(&mut self, part: UploadSummary) {
        self.counted_before += part.counted_before;
        self.counted += part.counted;
        self.position = part.position.map(|told| PositionToken::later(self.position, told)).or(self.position);
        self.refused += part.refused;
        let room = FAULTS_TOLD.saturating_sub(self.refusals.len());
        self.refusals.extend(part.refusals.into_iter().take(room));
    }

    /// Adds what one answer says of the lines that were refused.
    pub(super) fn refuse(&mut self, answer: &BulkAnswer) {
        self.refused += answer.refused;
        let room = FAULTS_TOLD.saturating_sub(self.refusals.len());
        self.refusals.extend(answer.refusals.iter().take(room).cloned());
    }
}

/// The progress of all texts, read by whoever draws the bar.
#[derive(Debug, Default)]
pub struct UploadProgress {
    /// Posts sent, now or before.
    pub posts: AtomicU64,
    /// Posts sent now.
    pub sent: AtomicU64,
    /// Posts that the leader has said are counted, now or before.
    pub confirmed: AtomicU64,
    /// Words counted now.
    pub words: AtomicU64,
    /// Tokens left out now, for their length.
    pub left_out: AtomicU64,
    /// Requests that had to be repeated.
    pub repeats: AtomicU64,
}

/// The reason why a text was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It cannot be read.
    #[error("cannot read on: {0}")]
    Read(#[from] io::Error),
    /// It is not what was surveyed.
    #[error("it changed while it was posted: what was posted before the change is counted, the rest is not")]
    Changed,
    /// A longer one was begun under its name.
    #[error("it is shorter than what was counted under this name, so it is another text, and nothing of it is counted")]
    Shorter,
    /// A post failed.
    #[error("{0}")]
    Post(#[from] ClientError),
    /// A post was repeated as long as patience allowed.
    #[error("gave up after {} s: {last}", patience.as_secs_f64().round())]
    GaveUp {
        /// Time for which it was tried.
        patience: Duration,
        /// The last error.
        last: ClientError,
    },
    /// The leader knows less of a stream than this run has sent.
    #[error(
        "the leader expects number {expected} of {stream} after it took number {sent}: is it another database now?"
    )]
    Forgotten {
        /// The stream.
        stream: String,
        /// Number of the line that was sent last.
        sent: u64,
        /// Number of the line that the leader expects.
        expected: u64,
    },
    /// The leader takes no lines of that length.
    #[error("a post has {longest} bytes, and the leader takes {line_bytes}")]
    Longer {
        /// Bytes of the longest post.
        longest: usize,
        /// Bytes the leader takes.
        line_bytes: usize,
    },
    /// One of the tasks that send ended by a bug.
    #[error("a task that sends ended early")]
    SenderEnded,
}

/// Reads a text to its end and says what it holds.
///
/// # Errors
/// If the source cannot be read: its error.
pub async fn survey(
    mut source: impl AsyncRead + Unpin,
    options: &UploadOptions<'_>,
) -> io::Result<(InputScan, InputFaults)> {
    let mut text = Posts::new(&mut source, options);
    let (mut posts, mut longest, mut faults) = (0, 0, InputFaults::default());
    while let Some(some) = text.next_some().await? {
        match some {
            Ok(some) => (posts, longest) = (posts + some.posts, longest.max(some.longest)),
            Err(fault) => faults.add(fault),
        }
    }
    let (content, cut) = (text.content.digest128(), text.splitter.has_cut());
    Ok((InputScan { posts, bytes: text.bytes, content, cut, longest }, faults))
}

/// The posts of a text as it is read.
pub(super) struct Posts<R> {
    per: PostUnit,
    source: R,
    splitter: PostSplitter,
    content: Xxh3,
    chunk: Vec<u8>,
    bytes: u64,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Posts<R> {
    pub(super) fn new(source: R, options: &UploadOptions<'_>) -> Self {
        let splitter = PostSplitter::new(options.per, options.text_bytes());
        Posts {
            per: options.per,
            source,
            splitter,
            content: Xxh3::new(),
            chunk: vec![0; CHUNK_BYTES],
            bytes: 0,
            ended: false,
        }
    }

    /// Returns whether all that was read is what the first pass found.
    pub(super) fn holds(&self, survey: &InputScan) -> bool {
        (survey.bytes, survey.content) == (self.bytes, self.content.digest128())
    }

    /// The next posts, as the lines they are sent in: each ends with a line feed.
    pub(super) async fn next_some(&mut self) -> io::Result<Option<Result<LineRun, InputFault>>> {
        loop {
            if let Some(lines) = self.splitter.next_lines() {
                return Ok(Some(Ok(lines)));
            }
            if let Some(post) = self.splitter.next_post() {
                let line =
                    |post: Bytes| if self.per == PostUnit::File { LineRun::json(&post) } else { LineRun::of(&post) };
                return Ok(Some(post.map(line)));
            }
            if self.ended {
                return Ok(None);
            }
            let read = self.source.read(&mut self.chunk).await?;
            let chunk = &self.chunk[..read];
            self.content.update(chunk);
            self.splitter.push(chunk);
            self.bytes += read as u64;
            if read == 0 {
                self.ended = true;
                self.splitter.finish();
            }
        }
    }
}

/// State that all texts of one run share: the leader, and the bound on what is under way.
#[derive(Clone)]
pub struct Uploader {
    client: Client,
    namespace: Option<String>,
    ack: Option<String>,
    in_flight: Arc<Semaphore>,
    patience: Duration,
    timeout: Duration,
    seed: u64,
    pub(super) progress: Arc<UploadProgress>,
    /// True if somebody watches the progress, so that the leader is asked for it often.
    pub(super) is_watched: bool,
}

/// The time for which something is repeated.
pub(super) struct RetryBudget {
    begun: Instant,
    most: Duration,
    timeout: Duration,
    backoff: RetryBackoff,
    progress: Arc<UploadProgress>,
}

impl RetryBudget {
    /// Waits before a repeat after this error.
    ///
    /// # Errors
    /// [`UploadError`] if there is none, because it will not pass or lasts too long.
    pub(super) async fn after(&mut self, error: ClientError) -> Result<(), UploadError> {
        // Another request under the same name: one of our own, whose connection broke, is soon at its end.
        let is_busy = matches!(error, ClientError::Refused { status: 409, .. });
        if !error.is_passing() && !is_busy {
            return Err(error.into());
        }
        let wait = self.backoff.wait(error.retry_after());
        if self.begun.elapsed() + wait >= self.most {
            return Err(UploadError::GaveUp { patience: self.begun.elapsed(), last: error });
        }
        self.progress.repeats.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Begins anew: something was reached.
    pub(super) fn restart(&mut self) {
        self.begun = Instant::now();
        self.backoff.restart();
    }

    /// Until it is known what came of a body that moved last at `moved`, patience counts from there. When it began
    /// before.
    pub(super) fn extend(&mut self, moved: Instant) -> Instant {
        let begun = self.begun;
        self.begun = begun.max(moved);
        begun
    }

    /// Nothing came of that body: patience began when it did.
    ///
    /// # Errors
    /// [`UploadError`] if it is at its end.
    pub(super) fn resume(&mut self, begun: Instant, error: ClientError) -> Result<(), UploadError> {
        self.begun = begun;
        let patience = begun.elapsed();
        if patience < self.most { Ok(()) } else { Err(UploadError::GaveUp { patience, last: error }) }
    }

    /// Gives the time that the next request may take without a sign of life, so that patience ends when it should. A
    /// request that is not repeated gets its full time.
    pub(super) fn of_request(&self) -> Duration {
        if self.most.is_zero() {
            return self.timeout;
        }
        self.timeout.min(self.most.saturating_sub(self.begun.elapsed()).max(SHORTEST_REQUEST))
    }
}

/// Time that a request has at least.
const SHORTEST_REQUEST: Duration = Duration::from_millis(100);

impl Uploader {
    /// A line to the leader that `client` talks to. `is_watched`: somebody looks at `progress`.
    pub fn new(client: Client, options: &UploadOptions<'_>, progress: Arc<UploadProgress>, is_watched: bool) -> Self {
        Uploader {
            client,
            namespace: options.namespace.map(str::to_owned),
            ack: options.ack.map(str::to_owned),
            in_flight: Arc::new(Semaphore::new(options.in_flight)),
            patience: options.patience,
            timeout: options.timeout,
            seed: options.seed,
            progress,
            is_watched,
        }
    }

    /// Tries whether a leader is there, for as long as patience lasts. One that is not there at all is told at once,
    /// not after the patience for one that restarts. If it takes no bulk bodies and names the leader: that one.
    ///
    /// # Errors
    /// [`UploadError`] if nobody is there, or no answer comes.
    pub async fn reach(&self) -> Result<Option<Client>, UploadError> {
        let mut patience = self.patience("");
        loop {
            match self.client.ready_within(patience.of_request()).await {
                Err(error @ ClientError::Lost { .. }) => patience.after(error).await?,
                Err(error @ (ClientError::NothingThere { .. } | ClientError::Strange { .. })) => {
                    return Err(error.into());
                }
                // One that is not ready yet is asked again by whoever has something to send.
                Ok(()) | Err(_) => return Ok(self.client.named_leader(patience.of_request()).await?),
            }
        }
    }

    /// Sends a bulk body, which may take any time as long as somebody sees that it moves.
    pub(super) async fn send(&self, text: &TextSource<'_>, body: BodyStream) -> Result<BulkAnswer, ClientError> {
        let _turn = self.in_flight.acquire().await.expect("nobody closes it");
        let address = self.address(self.ack.as_deref());
        self.client.bulk(address, text.content_type, text.stream, Some(body), LONGEST_BODY).await
    }

    /// Asks what is done under a name until that is answered.
    ///
    /// # Errors
    /// [`UploadError`] if it lasts longer than patience does.
    pub(super) async fn ask(
        &self,
        text: &TextSource<'_>,
        patience: &mut RetryBudget,
    ) -> Result<BulkAnswer, UploadError> {
        loop {
            let (address, timeout) = (self.address(self.ack.as_deref()), patience.of_request());
            match self.client.bulk(address, text.content_type, text.stream, None, timeout).await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Asks the leader how far the text is, for the progress bar; `None` if the leader does not say.
    pub(super) async fn look(&self, text: &TextSource<'_>) -> Option<BulkAnswer> {
        let address = self.address(Some("leader"));
        self.client.bulk(address, text.content_type, text.stream, None, self.timeout).await.ok()
    }

    /// The error of a body that was taken, and nothing of it counted.
    pub(super) fn nothing_counted(&self) -> ClientError {
        self.client.strange("it took lines and counted none of them".to_owned())
    }

    /// The error of a request that gave no sign of life.
    pub(super) fn too_late(&self) -> ClientError {
        self.client.too_late()
    }

    fn address(&self, ack: Option<&str>) -> Url {
        let query = [("ns", self.namespace.as_deref()), ("ack", ack)];
        let query: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        self.client.address("/bulk", &query)
    }

    /// As long as something is repeated, from now on.
    pub(super) fn patience(&self, name: &str) -> RetryBudget {
        let backoff = RetryBackoff::new(xxh3_64_with_seed(name.as_bytes(), self.seed));
        let (most, timeout, progress) = (self.patience, self.timeout, Arc::clone(&self.progress));
        RetryBudget { begun: Instant::now(), most, timeout, backoff, progress }
    }
}

/// The name a text is sent under, and what its lines are.
#[derive(Clone, Copy)]
pub(super) struct TextSource<'a> {
    pub(super) stream: &'a str,
    pub(super) content_type: &'static str,
}

impl<'a> TextSource<'a> {
    pub(super) fn new(stream: &'a str, options: &UploadOptions<'_>) -> Self {
        TextSource { stream, content_type: options.content_type() }
    }
}
