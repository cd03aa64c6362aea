//! Sends a whole text as posts, so that each counts once however often the text is sent.
//!
//! A leader takes the posts of one stream strictly in order, so one stream would have one request in flight.
//! A text therefore goes down several streams, its **lanes**: post `i` (from 0) is number `i / lanes + 1` of lane
//! `i % lanes`. How many lanes there are follows from the text alone, never from a setting, so a repeat finds the same
//! numbers. To resume, [`Feed::begin`] sends the first post of every lane: the answer to a repeat says how far the
//! lane is counted, and what lies before that is not sent again.

use super::{
    Client, ClientError, PostAnswer, StreamPlace,
    backoff::Backoff,
    lines::{BulkAnswer, Pieces},
    split::{Fault, Lines, Per, Splitter},
};
use crate::position::PositionToken;
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
    io::{AsyncRead, AsyncReadExt, Take},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Lanes of a text that is long, or whose length is not known.
const MOST_LANES: u64 = 16;
/// Posts a lane should have at least: a stream costs the leader an entry that it keeps for weeks.
const POSTS_PER_LANE: u64 = 256;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Posts that wait for their turn in one lane.
const LANE_QUEUE: usize = 64;
/// Bytes of posts read and not yet answered, over all texts.
const BYTES_AHEAD: usize = 64 << 20;
/// Faults kept to be told; the rest are counted.
const FAULTS_TOLD: usize = 10;

/// How texts become posts, and where these go.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    /// What one post is.
    pub per: Per,
    /// The most bytes a post may have.
    pub post_bytes: usize,
    /// The namespace, if not the default one.
    pub namespace: Option<&'a str>,
    /// The level the answer must stand for, if not the leader's default.
    pub ack: Option<&'a str>,
    /// Requests in flight at once.
    pub in_flight: usize,
    /// How long one post is repeated before the run fails.
    pub patience: Duration,
    /// Where the waits between repeats are drawn from.
    pub seed: u64,
}

/// What a text holds, found by reading it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Its posts.
    pub posts: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its fingerprint.
    pub content: u128,
    /// Whether a line (or the text) is more than one post.
    pub cut: bool,
    /// Bytes of its longest post.
    pub longest: usize,
}

/// What cannot be posted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The first of them.
    pub first: Vec<Fault>,
    /// All of them.
    pub total: u64,
}

impl Faults {
    fn add(&mut self, fault: Fault) {
        self.total += 1;
        if self.first.len() < FAULTS_TOLD {
            self.first.push(fault);
        }
    }
}

/// What became of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Posts counted by an earlier run.
    pub counted_before: u64,
    /// Posts counted now.
    pub counted: u64,
    /// The position of the last answer, to read from.
    pub position: Option<PositionToken>,
    /// What was not posted.
    pub faults: Faults,
}

/// How far all texts are: read by whoever draws the bar.
#[derive(Debug, Default)]
pub struct Progress {
    /// Posts counted, now or before.
    pub posts: AtomicU64,
    /// Posts counted now.
    pub sent: AtomicU64,
    /// Bytes of the posts counted now.
    pub bytes: AtomicU64,
    /// Words counted now.
    pub words: AtomicU64,
    /// Tokens left out now, for their length.
    pub left_out: AtomicU64,
    /// Requests that had to be repeated.
    pub repeats: AtomicU64,
}

/// Why a text was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It cannot be read.
    #[error("cannot read on: {0}")]
    Read(#[from] io::Error),
    /// It is not what was surveyed.
    #[error("it changed while it was posted: what was posted before the change is counted, the rest is not")]
    Changed,
    /// A post failed.
    #[error("{0}")]
    Post(#[from] ClientError),
    /// A post was repeated as long as patience allowed.
    #[error("gave up after {} s: {last}", patience.as_secs())]
    GaveUp {
        /// How long it was repeated.
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
        /// What was sent last.
        sent: u64,
        /// What the leader expects.
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
    #[error("a lane ended early")]
    LaneEnded,
}

/// Reads a text to its end and says what it holds. `seen` hears of the bytes read.
///
/// # Errors
/// The reader's.
pub async fn survey(
    mut source: impl AsyncRead + Unpin,
    manner: &Manner<'_>,
    seen: impl Fn(u64),
) -> io::Result<(Survey, Faults)> {
    let mut text = Posts::new(&mut source, manner);
    let (mut posts, mut longest, mut faults) = (0, 0, Faults::default());
    while let Some(some) = text.next_some().await? {
        match some {
            Ok(some) => (posts, longest) = (posts + some.posts, longest.max(some.longest)),
            Err(fault) => faults.add(fault),
        }
        seen(text.bytes);
    }
    let (content, cut) = (text.content.digest128(), text.splitter.has_cut());
    Ok((Survey { posts, bytes: text.bytes, content, cut, longest }, faults))
}

/// The posts of a text as it is read.
pub(super) struct Posts<R> {
    source: R,
    splitter: Splitter,
    content: Xxh3,
    chunk: Vec<u8>,
    bytes: u64,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Posts<R> {
    pub(super) fn new(source: R, manner: &Manner<'_>) -> Self {
        let splitter = Splitter::new(manner.per, manner.post_bytes);
        Posts { source, splitter, content: Xxh3::new(), chunk: vec![0; CHUNK_BYTES], bytes: 0, ended: false }
    }

    /// Whether all that was read is what was surveyed.
    pub(super) fn holds(&self, survey: &Survey) -> bool {
        (survey.bytes, survey.content) == (self.bytes, self.content.digest128())
    }

    pub(super) async fn next(&mut self) -> io::Result<Option<Result<Bytes, Fault>>> {
        self.next_of(Splitter::next_post).await
    }

    /// As [`Posts::next`], where posts can be had together as lines. All end with a line feed, a single one as well.
    pub(super) async fn next_some(&mut self) -> io::Result<Option<Result<Lines, Fault>>> {
        self.next_of(|splitter| {
            splitter.next_lines().map(Ok).or_else(|| Some(splitter.next_post()?.map(|post| Lines::of(&post))))
        })
        .await
    }

    async fn next_of<T>(&mut self, next: impl Fn(&mut Splitter) -> Option<T>) -> io::Result<Option<T>> {
        loop {
            if let Some(next) = next(&mut self.splitter) {
                return Ok(Some(next));
            }
            if self.ended {
                return Ok(None);
            }
            let read = self.source.read(&mut self.chunk).await?;
            let chunk = &self.chunk[..read];
            self.content.update(chunk);
            self.splitter.feed(chunk);
            self.bytes += read as u64;
            if read == 0 {
                self.ended = true;
                self.splitter.finish();
            }
        }
    }
}

/// What all texts of one run share: the leader, and the bounds on what is under way.
#[derive(Clone)]
pub struct Line {
    client: Client,
    address: Url,
    /// Where bulk bodies go.
    bulk_address: Url,
    in_flight: Arc<Semaphore>,
    bytes_ahead: Arc<Semaphore>,
    patience: Duration,
    seed: u64,
    pub(super) progress: Arc<Progress>,
}

/// How long something is repeated.
pub(super) struct Patience {
    begun: Instant,
    most: Duration,
    backoff: Backoff,
    progress: Arc<Progress>,
}

impl Patience {
    /// Waits before a repeat after this error.
    ///
    /// # Errors
    /// [`FeedError`] if there is none, because it will not pass or lasts too long.
    pub(super) async fn after(&mut self, error: ClientError) -> Result<(), FeedError> {
        // Another request under the same name: one of our own, whose connection broke, is soon at its end.
        let is_busy = matches!(error, ClientError::Refused { status: 409, .. });
        if !error.is_passing() && !is_busy {
            return Err(error.into());
        }
        let wait = self.backoff.wait(error.retry_after());
        if self.begun.elapsed() + wait > self.most {
            return Err(FeedError::GaveUp { patience: self.most, last: error });
        }
        self.progress.repeats.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl Line {
    /// A line to the leader that `client` talks to.
    pub fn new(client: Client, manner: &Manner<'_>, progress: Arc<Progress>) -> Self {
        let query: Vec<_> = [("ns", manner.namespace), ("ack", manner.ack)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        Line {
            address: client.address("/post", &query),
            bulk_address: client.address("/bulk", &query),
            client,
            in_flight: Arc::new(Semaphore::new(manner.in_flight)),
            bytes_ahead: Arc::new(Semaphore::new(BYTES_AHEAD.max(manner.post_bytes))),
            patience: manner.patience,
            seed: manner.seed,
            progress,
        }
    }

    /// Sends a bulk body, or asks for what is done under its name.
    pub(super) async fn bulk(&self, stream: &str, body: Option<Pieces>) -> Result<BulkAnswer, ClientError> {
        let _turn = self.in_flight.acquire().await.expect("nobody closes it");
        self.client.bulk(self.bulk_address.clone(), stream, body).await
    }

    /// As long as something is repeated, from now on.
    pub(super) fn patience(&self, name: &str) -> Patience {
        let backoff = Backoff::new(xxh3_64_with_seed(name.as_bytes(), self.seed));
        Patience { begun: Instant::now(), most: self.patience, backoff, progress: Arc::clone(&self.progress) }
    }

    /// Sends one post until it is answered for good; whether an earlier answer may have been lost is in the second.
    async fn send(&self, place: StreamPlace<'_>, text: &Bytes) -> Result<(PostAnswer, bool), FeedError> {
        let _turn = self.in_flight.acquire().await.expect("nobody closes it");
        let begun = Instant::now();
        let mut backoff = Backoff::new(xxh3_64_with_seed(place.name.as_bytes(), self.seed ^ place.number));
        let mut repeated = false;
        loop {
            let error = match self.client.post(self.address.clone(), place, text.clone()).await {
                Ok(answer) => return Ok((answer, repeated)),
                Err(error) => error,
            };
            if let ClientError::Refused { expected: Some(expected), .. } = error {
                let stream = place.name.to_owned();
                return Err(FeedError::Forgotten { stream, sent: place.number - 1, expected });
            }
            if !error.is_passing() {
                return Err(error.into());
            }
            let wait = backoff.wait(error.retry_after());
            if begun.elapsed() + wait > self.patience {
                return Err(FeedError::GaveUp { patience: self.patience, last: error });
            }
            self.progress.repeats.fetch_add(1, Ordering::Relaxed);
            repeated = true;
            tokio::time::sleep(wait).await;
        }
    }

    /// Adds what an answer says to the totals.
    fn count(&self, answer: &PostAnswer, bytes: usize) {
        self.progress.posts.fetch_add(1, Ordering::Relaxed);
        self.progress.sent.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.progress.words.fetch_add(answer.words, Ordering::Relaxed);
        self.progress.left_out.fetch_add(answer.left_out, Ordering::Relaxed);
    }
}

/// One post on its way, with its part of [`BYTES_AHEAD`].
struct Waiting {
    number: u64,
    text: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A text under way: begun, not yet ended.
pub struct Feed<R> {
    line: Line,
    stream: String,
    posts: Posts<Take<R>>,
    /// What the text must turn out to be, if it was surveyed.
    survey: Option<Survey>,
    /// For each lane, the last number that is counted.
    done: Vec<u64>,
    next: u64,
    outcome: Outcome,
}

impl<R: AsyncRead + Unpin> Feed<R> {
    /// Sends the first post of every lane of `source` under the name `stream`, and so learns what is counted already.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn begin(
        line: Line,
        stream: String,
        source: R,
        survey: Option<Survey>,
        manner: &Manner<'_>,
    ) -> Result<Self, FeedError> {
        let lanes = survey.map_or(MOST_LANES, |survey| (survey.posts / POSTS_PER_LANE).clamp(1, MOST_LANES));
        // A file that grows, a log say, counts as it was when it was surveyed.
        let posts = Posts::new(source.take(survey.map_or(u64::MAX, |survey| survey.bytes)), manner);
        let mut feed =
            Feed { line, stream, posts, survey, done: vec![0; lanes as usize], next: 0, outcome: Outcome::default() };
        let mut firsts = Vec::new();
        while feed.next < lanes {
            let Some((_, text)) = feed.next_post().await? else { break };
            firsts.push(text);
        }
        let (line, stream) = (&feed.line, &feed.stream);
        let sent = firsts.iter().enumerate().map(|(lane, text)| async move {
            let name = format!("{stream}/{lane}");
            line.send(StreamPlace { name: &name, number: 1 }, text).await
        });
        let answers = futures::future::try_join_all(sent).await?;
        for (lane, ((answer, repeated), text)) in answers.into_iter().zip(&firsts).enumerate() {
            feed.done[lane] = answer.stream_last.unwrap_or(1).max(1);
            // A replay of a first post that we had to repeat ourselves is our own, unless the lane is further.
            let before = answer.replayed && (feed.done[lane] > 1 || !repeated);
            if before {
                feed.outcome.counted_before += feed.counted_of(lane as u64);
            } else {
                feed.line.count(&answer, text.len());
                feed.outcome.counted += 1;
            }
            feed.outcome.position = Some(PositionToken::later(feed.outcome.position, answer.position));
        }
        feed.line.progress.posts.fetch_add(feed.outcome.counted_before, Ordering::Relaxed);
        Ok(feed)
    }

    /// Posts that an earlier run counted.
    pub fn counted_before(&self) -> u64 {
        self.outcome.counted_before
    }

    /// Sends what is left.
    ///
    /// # Errors
    /// [`FeedError`]; what was counted stays counted, and a repeat goes on from there.
    pub async fn finish(mut self) -> Result<Outcome, FeedError> {
        let mut running = JoinSet::new();
        let lanes: Vec<_> = (0..self.done.len())
            .map(|lane| {
                let (sender, receiver) = mpsc::channel(LANE_QUEUE);
                running.spawn(send_lane(self.line.clone(), format!("{}/{lane}", self.stream), receiver));
                sender
            })
            .collect();
        let read = self.deal(&lanes).await;
        drop(lanes);
        while let Some(ended) = running.join_next().await {
            let (counted, position) = ended.map_err(|_| FeedError::LaneEnded)??;
            self.outcome.counted += counted;
            self.outcome.position =
                position.map(|told| PositionToken::later(self.outcome.position, told)).or(self.outcome.position);
        }
        // A lane that failed closes its queue and is told above: its reason comes first.
        read?;
        if self.survey.is_some_and(|survey| !self.posts.holds(&survey)) {
            return Err(FeedError::Changed);
        }
        Ok(self.outcome)
    }

    /// Deals the posts to the lanes, without those that are counted.
    async fn deal(&mut self, lanes: &[mpsc::Sender<Waiting>]) -> Result<(), FeedError> {
        while let Some((index, text)) = self.next_post().await? {
            let lane = (index % lanes.len() as u64) as usize;
            let number = index / lanes.len() as u64 + 1;
            if number <= self.done[lane] {
                continue;
            }
            let bytes = u32::try_from(text.len()).expect("a post is under the body limit of 16 MiB");
            let ahead = Arc::clone(&self.line.bytes_ahead);
            let _room = ahead.acquire_many_owned(bytes).await.expect("nobody closes it");
            if lanes[lane].send(Waiting { number, text, _room }).await.is_err() {
                return Err(FeedError::LaneEnded);
            }
        }
        Ok(())
    }

    /// The next post with its index; faults are noted and take no index.
    async fn next_post(&mut self) -> Result<Option<(u64, Bytes)>, FeedError> {
        loop {
            match self.posts.next().await? {
                None => return Ok(None),
                Some(Ok(text)) => {
                    self.next += 1;
                    // Lines put in would otherwise be posted under numbers that lines of the surveyed text have.
                    if self.survey.is_some_and(|survey| self.next > survey.posts) {
                        return Err(FeedError::Changed);
                    }
                    return Ok(Some((self.next - 1, text)));
                }
                Some(Err(fault)) => self.outcome.faults.add(fault),
            }
        }
    }

    /// The posts of a lane that are counted, as far as the text has them.
    fn counted_of(&self, lane: u64) -> u64 {
        let lanes = self.done.len() as u64;
        let posts_in_lane = self.survey.map_or(u64::MAX, |survey| (survey.posts + lanes - 1 - lane) / lanes);
        self.done[lane as usize].min(posts_in_lane)
    }
}

/// Sends the posts of one lane, one after the other. How many were counted, and the last position.
async fn send_lane(
    line: Line,
    stream: String,
    mut waiting: mpsc::Receiver<Waiting>,
) -> Result<(u64, Option<PositionToken>), FeedError> {
    let mut counted = 0;
    let mut position = None;
    while let Some(post) = waiting.recv().await {
        let place = StreamPlace { name: &stream, number: post.number };
        let (answer, _) = line.send(place, &post.text).await?;
        line.count(&answer, post.text.len());
        counted += 1;
        position = Some(answer.position);
    }
    Ok((counted, position))
}
