//! Sends a text that can be read only once, standard input say, so that each line counts once.
//!
//! It is cut into blocks, which are kept in memory until they are counted. A block is a stream of its own, whose body
//! is sent while it is filled, so that lines count as they come, and sent again from memory where an answer was lost.
//! Where a block ends follows from the bytes alone, never from how they arrive: a run under the same name finds the
//! same blocks.
//!
//! Lines that are done are sent like others, for the leader to compare: under a name there is one text, and nothing of
//! another is counted or said to be.

use super::{
    bulk_answer::BodyStream,
    bulk_upload::{BulkUpload, SentBody},
    split::LineRun,
    upload::{InputFaults, Posts, TextSource, UploadError, UploadOptions, UploadSummary, Uploader},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::AsyncRead,
    sync::{Notify, mpsc, watch},
    time::timeout,
};

/// A block ends with the line that brings it to so many bytes: large, because the leader remembers each for weeks.
const BLOCK_BYTES: usize = 8 << 20;
/// Blocks under way at once, each in memory.
const BLOCKS_AT_ONCE: usize = 4;
/// Bytes handed to the connection at once.
const PIECE_BYTES: usize = 128 << 10;
/// A body that has waited so long for lines is ended, and the block sent again once there are more: well below the 30
/// seconds after which a leader gives up a body.
const PAUSE: Duration = Duration::from_secs(5);

/// Sends the lines of `source` under names that begin with `stream`.
///
/// # Errors
/// [`UploadError`]; what was counted stays counted, and a run under the same name counts it no second time.
pub async fn send(
    line: &Uploader,
    stream: &str,
    source: impl AsyncRead + Unpin,
    options: &UploadOptions<'_>,
) -> Result<UploadSummary, UploadError> {
    let (filling, filled) = mpsc::channel(1);
    let sending = stream::unfold(filled, async |mut filled| filled.recv().await.map(|block| (block, filled)))
        .map(|block: QueuedBlock| send_block(line, stream, block, options))
        .buffer_unordered(BLOCKS_AT_ONCE.min(options.in_flight))
        .try_fold(UploadSummary::default(), async |mut all, one| {
            all.add(one);
            Ok(all)
        });
    let ((blocks, faults), mut outcome) = tokio::try_join!(fill(Posts::new(source, options), filling), sending)?;
    check_end(line, stream, blocks, options).await?;
    outcome.faults = faults;
    Ok(outcome)
}

/// Refuses a text of so many blocks if a longer one was begun under its name.
async fn check_end(line: &Uploader, stream: &str, blocks: u64, options: &UploadOptions<'_>) -> Result<(), UploadError> {
    let next = block_name(stream, blocks);
    let behind = BulkUpload::new(line, TextSource::new(&next, options)).ask().await?;
    if behind.lines == 0 { Ok(()) } else { Err(UploadError::Shorter) }
}

fn block_name(stream: &str, number: u64) -> String {
    format!("{stream}/{number}")
}

/// Fills one block after the other until the text ends; gives their number. What cannot be posted is told.
async fn fill<R: AsyncRead + Unpin>(
    mut posts: Posts<R>,
    filling: mpsc::Sender<QueuedBlock>,
) -> Result<(u64, InputFaults), UploadError> {
    let (mut number, mut faults) = (0, InputFaults::default());
    let mut before = watch::Sender::new(true).subscribe();
    let mut open: Option<OpenBlock> = None;
    while let Some(some) = posts.next_some().await? {
        let mut lines = match some {
            Ok(lines) => lines,
            Err(fault) => {
                faults.add(fault);
                continue;
            }
        };
        while !lines.bytes.is_empty() {
            let block = match &open {
                Some(block) => block,
                None => {
                    let block = Arc::new(RetainedBlock { number, ..RetainedBlock::default() });
                    number += 1;
                    let compared = watch::Sender::new(false);
                    let before = std::mem::replace(&mut before, compared.subscribe());
                    if filling.send(QueuedBlock { block: Arc::clone(&block), before, compared }).await.is_err() {
                        return Err(UploadError::SenderEnded);
                    }
                    open.insert(OpenBlock(block))
                }
            };
            if block.0.take(&mut lines) {
                open = None;
            }
        }
    }
    Ok((number, faults))
}

/// A block that is to be sent, in its place.
struct QueuedBlock {
    block: Arc<RetainedBlock>,
    /// True once all blocks before are compared.
    before: watch::Receiver<bool>,
    /// True once this one is too.
    compared: watch::Sender<bool>,
}

/// A block that is being filled; no lines come any more once this is dropped.
struct OpenBlock(Arc<RetainedBlock>);

impl Drop for OpenBlock {
    fn drop(&mut self) {
        self.0.held.lock().is_closed = true;
        self.0.changed.notify_waiters();
    }
}

/// Lines that are kept until they are counted.
#[derive(Default)]
struct RetainedBlock {
    number: u64,
    held: Mutex<RetainedLines>,
    changed: Notify,
}

#[derive(Default)]
struct RetainedLines {
    bytes: Vec<u8>,
    lines: u64,
    longest: usize,
    is_closed: bool,
}

impl RetainedBlock {
    /// Takes lines off the front, until it is full; whether it is.
    fn take(&self, lines: &mut LineRun) -> bool {
        let mut held = self.held.lock();
        let room = BLOCK_BYTES - held.bytes.len();
        let end = (lines.bytes.len() >= room)
            .then(|| memchr::memchr(b'\n', &lines.bytes[room - 1..]).map(|at| room + at))
            .flatten();
        let taken = lines.bytes.split_to(end.unwrap_or(lines.bytes.len()));
        let count = if lines.bytes.is_empty() { lines.posts } else { newlines(&taken) };
        lines.posts -= count;
        held.bytes.extend_from_slice(&taken);
        held.lines += count;
        held.longest = held.longest.max(lines.longest);
        self.changed.notify_waiters();
        end.is_some()
    }

    /// Waits until it holds something that `is_wanted`.
    async fn until<T>(&self, mut is_wanted: impl FnMut(&RetainedLines) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(wanted) = is_wanted(&self.held.lock()) {
                return wanted;
            }
            changed.await;
        }
    }

    /// Gives the bytes from offset `at` on, once there are any; `None` at the end of the input.
    async fn piece(&self, at: usize) -> Option<Bytes> {
        self.until(|held| {
            let piece = &held.bytes[at..held.bytes.len().min(at + PIECE_BYTES)];
            match piece {
                [] if held.is_closed => Some(None),
                [] => None,
                piece => Some(Some(Bytes::copy_from_slice(piece))),
            }
        })
        .await
    }

    /// Its bytes from the first on, as they come; the body ends with the block, or when none came for a while.
    fn body(self: Arc<Self>, sent: Arc<SentBody>) -> BodyStream {
        Box::pin(stream::unfold((self, 0, sent), async |(block, at, sent)| {
            sent.waits.store(true, Ordering::Relaxed);
            let piece = timeout(PAUSE, block.piece(at)).await.ok().flatten();
            sent.waits.store(false, Ordering::Relaxed);
            let piece = piece?;
            sent.lines.fetch_add(newlines(&piece), Ordering::Relaxed);
            let at = at + piece.len();
            Some((Ok(piece), (block, at, sent)))
        }))
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Sends a block until all of its lines are counted and compared, and no more come. None that is new is sent before
/// all blocks up to this are known to be of the text that was begun.
async fn send_block(
    line: &Uploader,
    stream: &str,
    queued: QueuedBlock,
    options: &UploadOptions<'_>,
) -> Result<UploadSummary, UploadError> {
    let QueuedBlock { block, mut before, compared } = queued;
    let stream = block_name(stream, block.number);
    let mut upload = BulkUpload::new(line, TextSource::new(&stream, options));
    upload.ask().await?;
    loop {
        let done = upload.done();
        let wanted = |held: &RetainedLines| (held.is_closed || held.lines > done).then_some((held.lines, held.longest));
        let (lines, longest) = block.until(wanted).await;
        if lines < done {
            return Err(UploadError::Shorter);
        }
        if lines > done || upload.is_compared() {
            if before.wait_for(|&compared| compared).await.is_err() {
                return Err(UploadError::SenderEnded); // the block before has failed, and has said why
            }
            compared.send_replace(upload.is_compared());
        }
        if lines == done && upload.is_compared() {
            return Ok(upload.ended());
        }
        upload.check_length(longest)?;
        upload.send(|sent| Arc::clone(&block).body(sent)).await?;
    }
}
