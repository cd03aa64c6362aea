//! A bulk body on a follower: cut into blocks of whole lines as the leader would cut it, and passed on block by block,
//! so that no more than a few blocks are held.
//!
//! Each block is a part of the client's stream, or has a key that is made here. So a block that was sent and not
//! answered is sent again, to the next leader too, and counts once. Of a stream that is sent again, the lines that are
//! done are compared and skipped here.

use super::{
    BulkProgress, BulkTotals, LineBlock, LineFormat, LineReader, accepted,
    count::{REFUSALS_TOLD, RefusedLine},
    decoded, decoding,
    part::{ASK, PartLines, STREAM_LINES, read_state},
    reader::{BlockSink, BodyReader},
    stream_of, too_many_uploads,
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        http::{
            body, coding::ContentCoding, headers, query::QueryString, request::RouteRequest, state::AppState, writes,
        },
        service::{AcceptedWrite, LeaderAnswer},
    },
    base::failpoint::inject,
    base::position::PositionToken,
    engine::leader::WriteReceipt,
    net::address_limits::{Line, Usage},
    net::budget::BudgetShare,
    net::write_forwarder::{ForwardError, ForwardedAnswer, OutgoingWrite, WriteForwarder},
    text::charset::Charset,
};
use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use http::{HeaderMap, Method, header};
use parking_lot::Mutex;
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::mpsc;
use warp::reply::Response;

/// Patience for a block: others may be counted before it.
const BLOCK_PATIENCE: Duration = Duration::from_secs(30);

/// A body on its way to the leader.
struct BulkRelay<'a> {
    state: &'a AppState,
    usage: &'a Usage,
    forward: WriteForwarder,
    target: String,
    content_type: &'static str,
    /// The stream's name, or a key that was made for the body.
    name: String,
    is_named: bool,
}

/// The leader's answer to a part.
#[derive(Deserialize)]
struct PartAnswer {
    taken: u64,
    skipped: u64,
    refused: u64,
    #[serde(default)]
    refusals: Vec<RefusedLine>,
    words: u64,
    left_out: u64,
    #[serde(default)]
    stream_lines: u64,
    #[serde(default)]
    stream_words: u64,
    #[serde(default)]
    stream_left_out: u64,
    #[serde(default)]
    line_bytes: usize,
    #[serde(default)]
    acks: u32,
    #[serde(default)]
    position: String,
}

/// The reason why a body was not taken whole.
enum RelayError {
    Own(ApiError),
    /// The leader has refused a part.
    OfLeader(Box<ForwardedAnswer>),
}

impl From<ApiError> for RelayError {
    fn from(error: ApiError) -> Self {
        Self::Own(error)
    }
}

/// The blocks of a body, on their way to the leader.
struct OutgoingBlocks(mpsc::Sender<LineBlock>);

impl BlockSink for OutgoingBlocks {
    async fn take(&self, block: LineBlock) {
        let _ = self.0.send(block).await; // whoever sends them on may have failed
    }

    async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Passes a body on to the leader.
pub(super) async fn relay(request: RouteRequest, forward: WriteForwarder) -> Result<Response, ApiError> {
    let asked = request.write_headers()?;
    let content_encoding = request.header("content-encoding")?;
    let RouteRequest { state, query, parameters, client, body, .. } = request;
    let coding = ContentCoding::of_body(content_encoding.as_deref())?;
    let namespace = QueryString::of_addition(&query, parameters)?.namespace.into_owned();
    let (content_type, charset) = body::without_charset(asked.content_type.as_deref());
    let format = LineFormat::of(content_type.as_deref())?;
    let given = asked.naming.stream.clone();
    stream_of(asked.naming)?;
    let is_named = given.is_some();
    let name = match given {
        Some(name) => name,
        None => forward.make_key().map_err(|error| ApiError::new(ErrorKind::Internal, error.to_string()))?,
    };
    let content_type = match format {
        LineFormat::Plain => "text/plain",
        LineFormat::Json => "application/x-ndjson",
    };
    let target = if query.is_empty() { "/bulk".to_owned() } else { format!("/bulk?{query}") };
    let relay = BulkRelay { state: &state, usage: &client.usage, forward, target, content_type, name, is_named };
    let mut done = BulkProgress::default();
    let (mut last, skip) = match relay.ask().await {
        Ok(Some(asked)) => asked,
        // A leader of an earlier release knows no parts.
        Ok(None) => return Err(state.service.bulk_refusal()),
        Err(error) => return relay.failed(error, &done),
    };
    let mut total = last.total();
    let mut lines =
        LineReader::new(&[b"bulk", namespace.as_bytes(), format.name()], last.line_bytes, skip.filter(|(n, _)| *n > 0));
    let broken = |_| ApiError::new(ErrorKind::InvalidBody, "the body broke off or its chunks are malformed");
    let body = body.map(|piece| piece.map_err(broken));
    let run = (&mut lines, &mut done, &mut total, &mut last);
    let ran = match (coding, charset) {
        (None, None) => relay.run(body, run).await,
        (None, Some(charset)) => Box::pin(relay.run(decoded(body, charset), run)).await,
        (Some(coding), charset) => relay.run_decoded(body, (coding, charset), run).await,
    };
    done.skipped = lines.skipped();
    done.stream = is_named.then_some(total);
    match ran.and_then(|()| last.acceptance().ok_or_else(|| unreadable().into())) {
        Ok(acceptance) => {
            state.service.metrics.forwarded.answered.inc();
            Ok(accepted(&done, last.line_bytes, &acceptance))
        }
        Err(error) => relay.failed(error, &done),
    }
}

/// The lines of a body, what is done of them, the stream's totals, and the last answer.
type RelayRun<'r> = (&'r mut LineReader, &'r mut BulkProgress, &'r mut BulkTotals, &'r mut PartAnswer);

impl BulkRelay<'_> {
    /// The same for a body that comes compressed: its lines are those of the text.
    async fn run_decoded<S, B>(
        &self,
        body: S,
        (coding, charset): (ContentCoding, Option<Charset>),
        run: RelayRun<'_>,
    ) -> Result<(), RelayError>
    where
        S: Stream<Item = Result<B, ApiError>> + Send,
        B: Buf + Send,
    {
        let mut share = BudgetShare::of(&self.state.budgets.uploads, self.usage);
        share.set(decoding::memory_bytes(coding)).map_err(too_many_uploads)?;
        let body = decoding::decoded(body, coding)?;
        match charset {
            None => self.run(body, run).await,
            Some(charset) => Box::pin(self.run(decoded(body, charset), run)).await,
        }
    }

    async fn run<S, B>(&self, body: S, (lines, done, total, last): RelayRun<'_>) -> Result<(), RelayError>
    where
        S: Stream<Item = Result<B, ApiError>>,
        B: Buf,
    {
        let spares = Mutex::new(None);
        let reader = BodyReader { state: self.state, usage: self.usage, spares: &spares };
        let (blocks, cut) = mpsc::channel(1);
        let read = async move { reader.read(body, lines, &OutgoingBlocks(blocks)).await };
        let (read, sent) = tokio::join!(read, self.send_all(cut, done, total, last));
        sent?;
        Ok(read?)
    }

    /// Sends blocks to the leader, one after the other.
    async fn send_all(
        &self,
        mut blocks: mpsc::Receiver<LineBlock>,
        done: &mut BulkProgress,
        total: &mut BulkTotals,
        last: &mut PartAnswer,
    ) -> Result<(), RelayError> {
        while let Some(block) = blocks.recv().await {
            let part = PartLines::of(&block);
            // Charged while it is on its way: its reader has given it up.
            let mut share = BudgetShare::of(&self.state.budgets.uploads, self.usage);
            share.set(block.bytes.capacity()).map_err(too_many_uploads)?;
            let answer = self.send(part.header(), block.bytes.into()).await?;
            let told: Option<PartAnswer> = serde_json::from_slice(&answer.body).ok();
            if let Some(told) = told {
                done.add(&part, *total, &told);
                // A part that is refused before it is read tells of no stream.
                if told.stream_lines >= total.lines {
                    *total = told.total();
                }
                *last = PartAnswer { line_bytes: last.line_bytes, ..told };
            }
            if !(200..300).contains(&answer.status) {
                return Err(RelayError::OfLeader(Box::new(answer)));
            }
        }
        Ok(())
    }

    /// Asks how far the stream is; `None` if the leader does not know what is meant.
    async fn ask(&self) -> Result<Option<(PartAnswer, Option<(u64, u128)>)>, RelayError> {
        let answer = self.send(ASK.to_owned(), Bytes::new()).await?;
        if !(200..300).contains(&answer.status) {
            return Err(RelayError::OfLeader(Box::new(answer)));
        }
        let Some(state) = answer.headers.get(STREAM_LINES) else { return Ok(None) };
        let state = state.to_str().ok().and_then(read_state);
        let told = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        Ok(Some((told, state)))
    }

    async fn send(&self, part: String, body: Bytes) -> Result<ForwardedAnswer, RelayError> {
        let mut fields = HeaderMap::new();
        fields.insert(header::CONTENT_TYPE, headers::value(self.content_type));
        let name = if self.is_named { &headers::MEMDB_STREAM } else { &headers::IDEMPOTENCY_KEY };
        if self.is_named || part != ASK {
            fields.insert(name.clone(), headers::value(self.name.clone()));
        }
        fields.insert(STREAM_LINES, headers::value(part));
        let (target, patience) = (self.target.clone(), BLOCK_PATIENCE);
        let write = OutgoingWrite { method: Method::POST, target, headers: fields, body, patience };
        let _turn = self.usage.turn(Line::ForwardedWrites).await;
        let sent = self.forward.write(&write, None, &self.state.service.metrics.forwarded).await;
        sent.map_err(|error| RelayError::Own(self.not_sent(&error)))
    }

    fn not_sent(&self, error: &ForwardError) -> ApiError {
        let (kind, detail) = match error {
            ForwardError::Away(_) => {
                (ErrorKind::LeaderAway, format!("{error}; of the lines behind last_line nothing was applied"))
            }
            ForwardError::Unknown(_) => {
                let repeat = match self.is_named {
                    true => format!("send the whole again under Memdb-Stream {}, and each counts once", self.name),
                    false => "a body under a Memdb-Stream can be sent again, and each counts once".to_owned(),
                };
                (ErrorKind::OutcomeUnknown, format!("{error}; some lines behind last_line may be applied: {repeat}"))
            }
        };
        self.state.service.refused(ApiError::new(kind, detail))
    }

    /// The answer to a body that was not taken whole: it says which line was the last that counted.
    fn failed(&self, error: RelayError, done: &BulkProgress) -> Result<Response, ApiError> {
        let mut answer = match error {
            RelayError::Own(error) => return Err(error.with(done.members())),
            RelayError::OfLeader(answer) => *answer,
        };
        if let Ok(serde_json::Value::Object(mut problem)) = serde_json::from_slice(&answer.body)
            && let serde_json::Value::Object(members) = done.members()
        {
            problem.extend(members);
            answer.body = format!("{}\n", serde_json::Value::Object(problem)).into();
        }
        Ok(writes::passed_back(LeaderAnswer { answer, under_made_key: false }))
    }
}

impl BulkProgress {
    /// Adds what the leader has said of a part of a stream that had these totals.
    fn add(&mut self, part: &PartLines, before: BulkTotals, told: &PartAnswer) {
        self.refusals.extend(told.refusals.iter().cloned());
        self.refusals.truncate(REFUSALS_TOLD);
        self.refused += told.refused;
        // It had counted, and its answer was lost.
        let mut had_counted = told.taken == 0 && told.refused == 0 && told.skipped == part.upto;
        inject!(ForgetsALostAnswer, had_counted = false);
        if had_counted {
            self.taken += part.upto - part.done;
            self.words += told.stream_words.saturating_sub(before.words);
            self.left_out += told.stream_left_out.saturating_sub(before.left_out);
            return;
        }
        self.taken += told.taken;
        self.words += told.words;
        self.left_out += told.left_out;
    }
}

impl PartAnswer {
    fn total(&self) -> BulkTotals {
        BulkTotals { lines: self.stream_lines, words: self.stream_words, left_out: self.stream_left_out }
    }

    fn acceptance(&self) -> Option<AcceptedWrite> {
        let PositionToken { position, database } = self.position.parse().ok()?;
        let receipt = WriteReceipt { acks: self.acks, ..WriteReceipt::at(position) };
        Some(AcceptedWrite { receipt, database })
    }
}

fn unreadable() -> ApiError {
    ApiError::new(ErrorKind::OutcomeUnknown, "the leader's answer cannot be read; the lines may be applied")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::failpoint::{Defect, inject_defect};

    fn told(answer: serde_json::Value) -> PartAnswer {
        serde_json::from_value(answer).expect("an answer to a part")
    }

    /// Two parts of a stream, the first of which is counted by a leader that dies before it answers: the body is told
    /// of all its lines, each once.
    fn check() -> Result<(), String> {
        let part = |done, upto| PartLines { done, so_far: 0, upto, hash: 0, first_too_long: false };
        let repeated = serde_json::json!({
            "taken": 0, "skipped": 3, "refused": 0, "words": 0, "left_out": 0,
            "stream_lines": 3, "stream_words": 12, "stream_left_out": 1,
        });
        let next = serde_json::json!({
            "taken": 2, "skipped": 3, "refused": 1, "words": 5, "left_out": 0,
            "stream_lines": 5, "stream_words": 17, "stream_left_out": 1,
        });
        let before = BulkTotals { lines: 1, words: 10, left_out: 0 };
        let mut done = BulkProgress::default();
        let first = told(repeated);
        done.add(&part(1, 3), before, &first);
        done.add(&part(3, 6), first.total(), &told(next));
        match (done.taken, done.refused, done.words, done.left_out) {
            (4, 1, 7, 1) => Ok(()),
            wrong => Err(format!("lines taken and refused, words and what was left out are {wrong:?}")),
        }
    }

    #[test]
    fn a_part_whose_answer_was_lost_is_told_of_once() {
        check().unwrap_or_else(|wrong| panic!("{wrong}"));
    }

    #[test]
    fn planted_defects_of_a_relay_are_found() {
        let _injected = inject_defect(Some(Defect::ForgetsALostAnswer));
        assert!(check().is_err(), "it is not found");
    }
}
