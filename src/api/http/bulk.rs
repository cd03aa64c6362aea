//! `POST /bulk`: a body of lines, a text each, of any length: counted as it comes, in blocks of whole lines.
//!
//! Two halves run beside each other: one reads and cuts blocks, has each counted on a thread for such work, and reads
//! no further while one waits; the other hands the blocks to the Writer, one after the other. With a stream's name
//! (`Memdb-Stream`) each record settles, in one with its counts, how many lines are done, with the running hash over
//! them: of a body sent again, what is done is compared with that and skipped.

mod count;
pub(super) mod limiter;
mod lines;
mod part;
mod reader;
mod relay;

use super::{
    body,
    coding::ContentCoding,
    decoding,
    entries::tags::ConditionHeaders,
    headers::{self, DedupHeaders},
    query::QueryString,
    request::RouteRequest,
    state::AppState,
    writes,
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::AcceptedWrite,
    },
    base::hash::WordHasher,
    base::position::DatabaseTag,
    data::command::{IdempotencyKey, WriteBatch},
    data::counts::{WriteOp, word_counts::WordCounts},
    engine::leader::{AckLevel, Leader, WriteError, WriteReceipt},
    net::{
        address_limits::{Line, Turn, Usage},
        budget::{BudgetRefusal, BudgetShare},
    },
    text::charset::Charset,
};
use bytes::{Buf, Bytes};
use count::{BlockCounts, LineOptions, REFUSALS_TOLD, RefusedLine};
use futures::{Stream, StreamExt};
use limiter::QUEUE_BYTES;
use lines::{LineBlock, LineReader};
use parking_lot::Mutex;
use part::StreamPart;
use reader::{BlockSink, BodyReader};
use std::sync::Arc;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::{JoinError, JoinHandle},
};
use warp::reply::Response;

const TAKES: &str = "text/plain, application/x-ndjson, application/jsonl; in UTF-8";
/// Number of times that a block is submitted again without the lines that would make a count overflow.
const OVERFLOW_TRIES: u32 = 16;
/// Stands in front of a stream's name, where no header can have it: a stream of `/post` is another, whatever its name.
const BULK_STREAM: char = '\n';

/// The format of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineFormat {
    Plain,
    Json,
}

impl LineFormat {
    fn of(content_type: Option<&str>) -> Result<Self, ApiError> {
        let Some(content_type) = content_type else { return Ok(LineFormat::Plain) };
        match &*body::essence(content_type, TAKES)?.to_ascii_lowercase() {
            "text/plain" => Ok(LineFormat::Plain),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonl"
            | "application/jsonlines"
            | "application/x-jsonlines" => Ok(LineFormat::Json),
            _ => Err(ApiError::unsupported_media_type(TAKES, format!("this route takes {TAKES}"))),
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            LineFormat::Plain => b"plain",
            LineFormat::Json => b"json",
        }
    }
}

/// The progress of a body.
#[derive(Default)]
struct BulkProgress {
    /// Lines that are counted now, empty ones too.
    taken: u64,
    skipped: u64,
    refused: u64,
    refusals: Vec<RefusedLine>,
    words: u64,
    left_out: u64,
    /// The stream's totals after this body: lines, words, tokens left out.
    stream: Option<BulkTotals>,
}

/// The totals of a stream.
#[derive(Clone, Copy, Default)]
struct BulkTotals {
    lines: u64,
    words: u64,
    left_out: u64,
}

/// A block that is being counted.
struct BlockJob {
    /// Metadata of the block; its lines are with the task that counts them.
    block: LineBlock,
    /// Bytes of its lines.
    bytes: usize,
    /// The place is with the lines: a block that nobody asks for any more is counted all the same, and takes room until
    /// then.
    counting: JoinHandle<Result<(BlockCounts, Place), JoinError>>,
}

/// A place among the blocks that are counted or wait for the Writer.
struct Place {
    _slot: OwnedSemaphorePermit,
    /// Among those of its address.
    _turn: Turn,
}

/// One request.
struct BulkRequest {
    state: Arc<AppState>,
    usage: Usage,
    leader: Leader,
    namespace: Box<str>,
    stream: Option<Box<str>>,
    /// The key of a part of a body without a stream, that a follower passes on.
    part_key: Option<Box<str>>,
    options: LineOptions,
    hasher: WordHasher,
    database: DatabaseTag,
    /// Buffers of blocks that are counted; `None` while nothing of the body comes: none is kept then.
    spares: Mutex<Option<Vec<Vec<u8>>>>,
}

/// The blocks of a body, on their way to be counted.
struct CountedBlocks<'a> {
    bulk: &'a BulkRequest,
    jobs: mpsc::Sender<BlockJob>,
}

impl BlockSink for CountedBlocks<'_> {
    async fn take(&self, block: LineBlock) {
        self.bulk.begin(block, &self.jobs).await;
    }

    async fn closed(&self) {
        self.jobs.closed().await;
    }
}

/// `POST /bulk`: counts a text a line.
pub(super) async fn bulk(request: RouteRequest) -> Result<Response, ApiError> {
    let (forwarded, mut asked) = (request.forwarded()?, request.write_headers()?);
    ConditionHeaders::of(&request)?.check_none()?;
    if forwarded.is_none()
        && let Some(forward) = request.state.service.bulk_forwarder().await?
    {
        return relay::relay(request, forward).await;
    }
    let part = if forwarded.is_some() { StreamPart::of(&request)? } else { None };
    let content_encoding = request.header("content-encoding")?;
    let RouteRequest { state, query, parameters, client, body, .. } = request;
    let leader = state.service.bulk_leader().await?;
    state.service.check_meant(forwarded.as_deref())?;
    let coding = ContentCoding::of_body(content_encoding.as_deref())?;
    let query = QueryString::of_addition(&query, parameters)?;
    let (content_type, charset) = body::without_charset(asked.content_type.as_deref());
    let format = LineFormat::of(content_type.as_deref())?;
    let part_key = part.as_ref().and_then(|part| part.take_key(&mut asked.naming));
    let stream = stream_of(asked.naming)?;
    let identity = state.service.current()?.identity;
    let (analyzer, hasher, database) = (identity.analyzer, identity.hasher(), identity.tag());
    let options = LineOptions { format, analyzer, limit: state.settings.max_body_bytes, charset };
    let bulk = BulkRequest {
        state,
        usage: client.usage,
        leader,
        namespace: query.namespace.into(),
        stream,
        part_key,
        options,
        hasher,
        database,
        spares: Mutex::new(Some(Vec::new())),
    };
    let mut done = BulkProgress::default();
    let broken = |_| ApiError::new(ErrorKind::InvalidBody, "the body broke off or its chunks are malformed");
    let body = body.map(|piece| piece.map_err(broken));
    let ran = match (coding, charset) {
        (None, None) if let Some(StreamPart::Lines(part)) = &part => bulk.take_part(body, part, &mut done).await,
        (None, None) => bulk.run(body, query.ack, &mut done).await,
        (None, Some(charset)) => Box::pin(bulk.run(decoded(body, charset), query.ack, &mut done)).await,
        (Some(coding), charset) => bulk.run_decoded(body, (coding, charset), query.ack, &mut done).await,
    };
    let ended = match ran {
        Ok(()) => bulk.barrier(query.ack).await.map_err(|error| match error {
            // The follower that has sent the part takes these for certainly not applied, and lines of it are.
            WriteError::Stopping | WriteError::SteppedDown if part.is_some() && done.taken + done.refused > 0 => {
                bulk.refused(&WriteError::OutcomeUnknown)
            }
            error => bulk.refused(&error),
        }),
        Err(problem) => Err(problem),
    };
    let receipt = ended.map_err(|problem| problem.with(done.members()))?;
    bulk.state.service.count_unreplicated(query.ack, &receipt);
    let mut response = accepted(&done, bulk.options.limit, &AcceptedWrite { receipt, database });
    if let Some(StreamPart::Ask) = part {
        let current = bulk.state.service.current()?;
        let entry = bulk.stream.as_deref().and_then(|stream| current.reader.stream(&bulk.namespace, stream));
        part::state(&mut response, entry.map(|entry| (entry.stream_sequence, entry.fingerprint)));
    }
    Ok(response)
}

/// A body in UTF-8. What cannot be decoded has its line refused.
fn decoded<S, B, E>(body: S, charset: Charset) -> impl Stream<Item = Result<Bytes, E>>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut decoder = charset.decoder();
    // The end is a piece too: of a character that breaks off, it is the first to know.
    body.map(Some).chain(futures::stream::iter([None])).map(move |piece| {
        let mut text = Vec::new();
        match piece {
            None => decoder.push(&[], true, &mut text),
            Some(piece) => {
                let mut piece = piece?;
                while piece.has_remaining() {
                    let some = piece.chunk().len();
                    decoder.push(piece.chunk(), false, &mut text);
                    piece.advance(some);
                }
            }
        }
        Ok(text.into())
    })
}

fn too_many_uploads(exhausted: BudgetRefusal) -> ApiError {
    body::too_many_uploads(exhausted, "of the lines behind last_line nothing was applied")
}

fn stream_of(naming: DedupHeaders) -> Result<Option<Box<str>>, ApiError> {
    match naming {
        DedupHeaders { key: Some(_), .. } | DedupHeaders { stream_sequence: Some(_), .. } => Err(ApiError::new(
            ErrorKind::InvalidHeader,
            "a bulk body that may be sent again has Memdb-Stream alone: no Idempotency-Key, no Memdb-Stream-Seq",
        )),
        DedupHeaders { stream: None, .. } => Ok(None),
        DedupHeaders { stream: Some(name), .. } => {
            Ok(Some(format!("{BULK_STREAM}{}", headers::checked("Memdb-Stream", &name)?).into()))
        }
    }
}

impl BulkRequest {
    /// The same for a body that comes compressed: its lines are those of the text.
    async fn run_decoded<S, B>(
        &self,
        body: S,
        (coding, charset): (ContentCoding, Option<Charset>),
        level: Option<AckLevel>,
        done: &mut BulkProgress,
    ) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<B, ApiError>>,
        B: Buf,
    {
        let mut share = BudgetShare::of(&self.state.budgets.uploads, &self.usage);
        share.set(decoding::memory_bytes(coding)).map_err(too_many_uploads)?;
        let body = decoding::decoded(body, coding)?;
        match charset {
            None => self.run(body, level, done).await,
            Some(charset) => Box::pin(self.run(decoded(body, charset), level, done)).await,
        }
    }

    async fn run<S, B>(&self, body: S, level: Option<AckLevel>, done: &mut BulkProgress) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<B, ApiError>>,
        B: Buf,
    {
        let mut skip = None;
        if level == Some(AckLevel::ReplicaDisk) || self.stream.is_some() {
            // A level that cannot be reached is refused before anything is applied; and what an earlier request under
            // this name has left in the queue is decided before anybody looks.
            let level = level.filter(|&level| level == AckLevel::ReplicaDisk).unwrap_or(AckLevel::Leader);
            self.barrier(Some(level)).await.map_err(|error| self.refused(&error))?;
        }
        if let Some(stream) = &self.stream {
            let entry = self.state.service.current()?.reader.stream(&self.namespace, stream);
            let total = entry.as_ref().map_or(BulkTotals::default(), |entry| BulkTotals {
                lines: entry.stream_sequence,
                words: entry.words,
                left_out: entry.left_out,
            });
            done.stream = Some(total);
            skip = entry.map(|entry| (entry.stream_sequence, entry.fingerprint));
        }
        let mut lines = LineReader::new(
            &[b"bulk", self.namespace.as_bytes(), self.options.format.name()],
            self.options.limit,
            skip,
        );
        let (jobs, counted) = mpsc::channel(1);
        let (read, written) = tokio::join!(self.read(body, &mut lines, jobs), self.write(counted, done));
        done.skipped = lines.skipped();
        written.and(read)
    }

    /// Reads the body and has its blocks counted, until it ends or nobody takes them any more.
    async fn read<S, B>(&self, body: S, lines: &mut LineReader, jobs: mpsc::Sender<BlockJob>) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<B, ApiError>>,
        B: Buf,
    {
        let reader = BodyReader { state: &self.state, usage: &self.usage, spares: &self.spares };
        reader.read(body, lines, &CountedBlocks { bulk: self, jobs }).await
    }

    /// Has a block counted. Waits while others are before it.
    async fn begin(&self, block: LineBlock, jobs: &mpsc::Sender<BlockJob>) {
        let limiter = Arc::clone(&self.state.bulk_limiter);
        // The address first: the others' blocks are behind no more of it than there are slots.
        let _turn = self.usage.turn(Line::BulkBlocks).await;
        let _slot = Arc::clone(&limiter.block_slots).acquire_owned().await.expect("nobody closes it");
        let place = Place { _slot, _turn };
        let (options, tally, other) =
            (self.options, limiter.tallies.take(self.hasher), limiter.tallies.take(self.hasher));
        let (bytes, stands) = (block.bytes.len(), LineBlock { bytes: Vec::new(), ..block });
        let turn = Arc::clone(&limiter.cpu_permits).acquire_owned();
        let counting = tokio::spawn(async move {
            let _turn = turn.await.expect("nobody closes it");
            let counting = tokio::task::spawn_blocking(move || {
                let mut parts = limiter.parts.lock().pop().unwrap_or_default();
                let counted = count::count(block, &options, (tally, other), &mut parts);
                limiter.parts.lock().push(parts);
                (counted, place)
            });
            counting.await
        });
        let _ = jobs.send(BlockJob { block: stands, bytes, counting }).await; // whoever takes it may have failed
    }

    /// Hands counted blocks to the Writer, in order.
    async fn write(&self, mut jobs: mpsc::Receiver<BlockJob>, done: &mut BulkProgress) -> Result<(), ApiError> {
        while let Some(BlockJob { block, bytes, counting }) = jobs.recv().await {
            let counted = counting.await.flatten();
            let counted = counted.map_err(|_| ApiError::new(ErrorKind::Internal, "lines could not be counted"))?;
            let (mut counted, _place) = counted;
            // What stands behind the lines are words of them.
            counted.spare.truncate(bytes);
            let total = done.stream.unwrap_or_default();
            let BlockCounts { spare, words, left_out, refused, refusals, .. } =
                self.hand_over(&block, counted, total).await?;
            if let Some(spares) = &mut *self.spares.lock() {
                spares.push(spare);
            }
            done.taken += block.upto - block.done - refused;
            done.refused += refused;
            done.refusals.extend(refusals);
            done.refusals.truncate(REFUSALS_TOLD);
            done.words += words;
            done.left_out += left_out;
            if let Some(total) = &mut done.stream {
                (total.lines, total.words, total.left_out) =
                    (block.upto, total.words + words, total.left_out + left_out);
            }
        }
        Ok(())
    }

    /// Hands a block to the Writer. If a count would overflow, the lines that would make it do so are refused and the
    /// others count; gives what was counted in the end.
    async fn hand_over(
        &self,
        block: &LineBlock,
        mut counted: BlockCounts,
        total: BulkTotals,
    ) -> Result<BlockCounts, ApiError> {
        for tries in 1.. {
            let tally = counted.take_tally();
            if tally.is_empty() && self.stream.is_none() {
                break;
            }
            let of_stream = self.stream.clone().map(|name| IdempotencyKey::Lines {
                name,
                done: block.done,
                so_far: block.so_far,
                upto: block.upto,
                words: total.words,
                left_out: total.left_out,
            });
            let once = of_stream.or_else(|| self.part_key.clone().map(IdempotencyKey::Key));
            let BlockCounts { words, left_out, .. } = counted;
            let batch = WriteBatch {
                entries: Vec::new(),
                words,
                left_out,
                key: once,
                fingerprint: block.hash,
                ..self.batch(tally)
            };
            let bytes = u32::try_from(batch.queued_bytes()).map_or(QUEUE_BYTES, |bytes| bytes.min(QUEUE_BYTES));
            let _queued = self.state.bulk_limiter.queue_budget.acquire_many(bytes).await.expect("nobody closes it");
            match self.leader.submit(batch, Some(AckLevel::Leader)).await {
                Ok(_) => break,
                // Others may write the same words meanwhile: it is looked at again.
                Err(WriteError::Overflow { .. }) if tries < OVERFLOW_TRIES => {
                    counted = self.count_what_fits(block, counted.spare).await?;
                }
                Err(error) => return Err(self.refused(&error)),
            }
        }
        Ok(counted)
    }

    /// Counts the lines of a block anew, against the counts there are, without those with which a count would overflow.
    async fn count_what_fits(&self, block: &LineBlock, bytes: Vec<u8>) -> Result<BlockCounts, ApiError> {
        let (current, namespace) = (self.state.service.current()?, self.namespace.clone());
        let (options, tally) = (self.options, WordCounts::new(self.hasher));
        let block = LineBlock { bytes, ..*block };
        let counting = tokio::task::spawn_blocking(move || {
            count::count_what_fits(block, &options, tally, |word| current.reader.read().count(&namespace, word))
        });
        counting.await.map_err(|_| ApiError::new(ErrorKind::Internal, "lines could not be counted"))
    }

    /// Nothing, behind everything that was handed over: answered once all of that has reached the level.
    async fn barrier(&self, level: Option<AckLevel>) -> Result<WriteReceipt, WriteError> {
        self.leader
            .submit_from(self.batch(WordCounts::new(self.hasher)), level, self.usage.queue(self.leader.queue_limits()))
            .await
    }

    fn batch(&self, tally: WordCounts) -> WriteBatch {
        let namespace = self.namespace.clone();
        WriteBatch {
            entries: Vec::new(),
            namespace,
            op: WriteOp::Add,
            is_post: false,
            counts: tally,
            words: 0,
            left_out: 0,
            key: None,
            fingerprint: 0,
        }
    }

    fn refused(&self, error: &WriteError) -> ApiError {
        let problem = self.state.service.refused_write(error, self.database);
        match error {
            WriteError::StreamGap { .. } | WriteError::KeyReused => {
                let goes_on = "another request under this Memdb-Stream goes on: let it end, then send the whole again";
                problem.saying(format!("{goes_on}: {error}"))
            }
            _ => problem,
        }
    }
}

impl BulkProgress {
    /// Gives the members that report the progress, in answers of either kind.
    fn members(&self) -> serde_json::Value {
        let Self { taken, skipped, refused, refusals, words, left_out, stream } = self;
        let mut members = serde_json::json!({
            "last_line": skipped + taken + refused, "taken": taken, "skipped": skipped, "refused": refused, "refusals": refusals, "words": words, "left_out": left_out,
        });
        if let Some(total) = stream {
            members["stream_lines"] = total.lines.into();
            members["stream_words"] = total.words.into();
            members["stream_left_out"] = total.left_out.into();
        }
        members
    }
}

fn accepted(done: &BulkProgress, line_bytes: usize, acceptance: &AcceptedWrite) -> Response {
    let mut members = done.members();
    members["line_bytes"] = line_bytes.into();
    members["acks"] = acceptance.receipt.acks.into();
    members["position"] = acceptance.position().to_string().into();
    writes::accepted_with(format!("{members}\n").into_bytes(), acceptance)
}

#[cfg(all(test, feature = "failpoints"))]
mod tests;
