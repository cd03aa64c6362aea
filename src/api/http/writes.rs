//! The routes that change counts: from a body to a batch, and from the Writer's receipt to an answer.

use super::{
    body::{self, MediaType},
    form, headers,
    headers::DedupHeaders,
    json::{self, MemberKind, MemberValue},
    problem::{self, Problem, ProblemKind},
    query::{self, QueryString, RouteParameters},
    settings::INLINE_TEXT_BYTES,
    state::AppState,
    update,
};
use crate::{
    base::hash,
    base::limits::{MAX_WORD_BYTES, MAX_WORDS_TOLD},
    base::metrics::RefusalLabel,
    base::position::{DatabaseTag, PositionToken},
    client::OF_NO_DATABASE,
    data::counts::word_counts::{IdempotencyKey, WordCounts, WordCountsPool, WriteBatch, WriteOp},
    engine::leader::{AckLevel, WriteReceipt},
    storage::file_header::DatabaseIdentity,
    text::charset::{Charset, check_no_nul},
    text::tokenizer::Analyzer,
};
use bytes::{Buf, Bytes};
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::{borrow::Cow, io::Write, sync::Arc};
use warp::reply::Response;

pub(super) const POST_TAKES: &str =
    "text/plain, application/x-www-form-urlencoded, application/json, multipart/form-data; all in UTF-8";
/// The member that marks the answer to a repeated write.
pub(super) const REPLAYED: &[u8] = br#","replayed":true"#;
const UPDATE_TAKES: &str = "application/json; in UTF-8";

/// The headers of a write.
#[derive(Debug)]
pub(super) struct WriteHeaders {
    pub(super) naming: DedupHeaders,
    pub(super) content_type: Option<String>,
    pub(super) content_length: Option<String>,
}

/// `POST /post`: counts the words of a text.
pub(super) async fn post<S, B, E>(
    state: Arc<AppState>,
    query: String,
    heads: WriteHeaders,
    forwarded: Option<String>,
    body: S,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    // First of all the body: what is refused with a body on its way ends the connection.
    let whole = body::read(body, heads.content_length.as_deref(), &state.settings, &state.uploads).await?;
    check_meant(&state, forwarded.as_deref())?;
    let query = QueryString::of_addition(&query)?;
    let (content_type, charset) = body::without_charset(heads.content_type.as_deref());
    let media = MediaType::of(content_type.as_deref(), POST_TAKES)?;
    if charset.is_some() && media != MediaType::Plain {
        let detail = "only text/plain is taken in another charset; send this in UTF-8";
        return Err(Problem::unsupported_media_type(POST_TAKES, detail));
    }
    let naming = heads.naming;
    let text = PostedText { bytes: whole.bytes.clone(), media, charset, naming, namespace: query.namespace.into() };
    let identity = state.current()?.identity;
    let (analyzer, tally) = (identity.analyzer, state.tallies.take(identity.hasher()));
    let batch = if text.bytes.len() <= INLINE_TEXT_BYTES {
        text.into_batch(analyzer, tally).await?
    } else {
        apart(move || futures::executor::block_on(text.into_batch(analyzer, tally))).await?
    };
    drop(whole);
    submit(&state, batch, query.ack).await
}

/// `POST /update`: adds amounts to counts.
pub(super) async fn update<S, B, E>(
    state: Arc<AppState>,
    query: String,
    heads: WriteHeaders,
    forwarded: Option<String>,
    body: S,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let whole = body::read(body, heads.content_length.as_deref(), &state.settings, &state.uploads).await?;
    check_meant(&state, forwarded.as_deref())?;
    let query = QueryString::of_addition(&query)?;
    if heads.content_type.is_some() && MediaType::of(heads.content_type.as_deref(), UPDATE_TAKES)? != MediaType::Json {
        return Err(Problem::unsupported_media_type(UPDATE_TAKES, "this route takes a JSON object, word to integer"));
    }
    let once = heads.naming.once(None)?;
    let identity = state.current()?.identity;
    let (analyzer, hasher) = (identity.analyzer, identity.hasher());
    let bytes = whole.bytes.clone();
    let amounts = if bytes.len() <= INLINE_TEXT_BYTES {
        update::parse(form::utf8(&bytes)?, analyzer, hasher)?
    } else {
        apart(move || update::parse(form::utf8(&bytes)?, analyzer, hasher)).await?
    };
    let batch = WriteBatch {
        fingerprint: fingerprint(once.as_ref(), &[query.namespace.as_bytes(), b"update", &whole.bytes]),
        namespace: query.namespace.into(),
        op: WriteOp::AddGiven,
        counts: amounts.tally,
        words: amounts.words,
        left_out: 0,
        key: once,
    };
    drop(whole);
    submit(&state, batch, query.ack).await
}

/// `DELETE /wordcount?word=`: takes words away.
pub(super) async fn remove_words(
    state: Arc<AppState>,
    query: String,
    naming: DedupHeaders,
    forwarded: Option<String>,
) -> Result<Response, Problem> {
    check_meant(&state, forwarded.as_deref())?;
    let query = QueryString::parse(&query, RouteParameters::REMOVE_WORDS)?;
    let once = naming.once(None)?;
    let current = state.current()?;
    let identity = current.identity;
    let mut tally = WordCounts::new(identity.hasher());
    for name in query.named_words()? {
        let word = identity.analyzer.normalize(name);
        if word.is_empty() || word.len() > MAX_WORD_BYTES {
            let detail = format!("a word has 1 to {MAX_WORD_BYTES} bytes");
            return Err(Problem::new(ProblemKind::InvalidParameter, detail));
        }
        tally.add(&word, 0).expect("nothing is added, so nothing overflows");
    }
    let words = {
        let guard = current.reader.read();
        tally.iter().filter(|counted| guard.count(&query.namespace, counted.word) != 0).count() as u64
    };
    let named = query.words.iter().map(|word| word.as_bytes());
    let parts: Vec<&[u8]> = [query.namespace.as_bytes(), b"remove".as_slice()].into_iter().chain(named).collect();
    let batch = WriteBatch {
        fingerprint: fingerprint(once.as_ref(), &parts),
        op: WriteOp::RemoveWords,
        words,
        namespace: query.namespace.into(),
        counts: tally,
        left_out: 0,
        key: once,
    };
    removed(&state, batch, query.ack).await
}

/// `DELETE /ns/{name}`: takes a namespace away.
pub(super) async fn drop_namespace(
    state: Arc<AppState>,
    name: String,
    query: String,
    naming: DedupHeaders,
    forwarded: Option<String>,
) -> Result<Response, Problem> {
    check_meant(&state, forwarded.as_deref())?;
    let name = form::decode(name.as_bytes(), ProblemKind::InvalidParameter)?;
    query::check_namespace(&name)?;
    let query = QueryString::parse(&query, RouteParameters::DROP_NAMESPACE)?;
    let once = naming.once(None)?;
    let current = state.current()?;
    let namespaces = current.reader.read().namespaces();
    let words = namespaces.iter().find(|(known, _)| *known == name).map_or(0, |&(_, words)| words);
    let batch = WriteBatch {
        fingerprint: fingerprint(once.as_ref(), &[name.as_bytes(), b"drop"]),
        namespace: name.into(),
        op: WriteOp::DropNamespace,
        counts: WordCounts::new(current.identity.hasher()),
        words,
        left_out: 0,
        key: once,
    };
    removed(&state, batch, query.ack).await
}

/// Returns whether a write that a follower has passed on, stating a database, is meant for the one with this identity.
pub(super) fn is_meant(stated: &str, identity: &DatabaseIdentity) -> bool {
    stated == OF_NO_DATABASE || u128::from_str_radix(stated, 16) == Ok(identity.database_id)
}

/// A follower may not know yet that the leader of another database has its leader's place, so it is refused here.
fn check_meant(state: &AppState, forwarded: Option<&str>) -> Result<(), Problem> {
    let Some(stated) = forwarded else { return Ok(()) };
    let identity = state.current()?.identity;
    if is_meant(stated, &identity) {
        return Ok(());
    }
    state.api.metrics.refused(RefusalLabel::OtherDatabase);
    Err(Problem::other_database(identity.database_id, stated))
}

/// A text as it came, with what is needed to count it.
struct PostedText {
    bytes: Bytes,
    media: MediaType,
    /// Of a plain text that is not UTF-8.
    charset: Option<Charset>,
    naming: DedupHeaders,
    namespace: Box<str>,
}

impl PostedText {
    async fn into_batch(self, analyzer: Analyzer, tally: WordCounts) -> Result<WriteBatch, Problem> {
        let uploaded;
        let mut id = None;
        let text = match &self.media {
            MediaType::Plain => plain_text(&self.bytes, self.charset)?,
            MediaType::Form => form_text(&self.bytes)?,
            MediaType::Json => {
                let posted = json_text(&self.bytes)?;
                id = posted.id;
                posted.text
            }
            MediaType::Multipart { boundary } => {
                uploaded = multipart_text(self.bytes.clone(), boundary).await?;
                Cow::Borrowed(form::utf8(&uploaded)?)
            }
        };
        if text.is_empty() {
            return Err(Problem::new(ProblemKind::EmptyText, "the text is empty; post at least one character"));
        }
        check_no_nul(text.as_bytes()).map_err(|error| Problem::new(ProblemKind::InvalidBody, error.to_string()))?;
        let once = self.naming.once(id.as_deref())?;
        Ok(of_text(&text, once, self.namespace, analyzer, tally))
    }
}

fn plain_text(bytes: &[u8], charset: Option<Charset>) -> Result<Cow<'_, str>, Problem> {
    let Some(charset) = charset else { return Ok(Cow::Borrowed(form::utf8(bytes)?)) };
    charset.decode(bytes).map(Cow::Owned).map_err(|offset| {
        let detail = format!("the text is not {}: the byte at offset {offset} cannot stand there", charset.name());
        Problem::new(ProblemKind::InvalidBody, detail)
    })
}

/// The words of a text, counted in `counts`, which is empty.
fn of_text(
    text: &str,
    once: Option<IdempotencyKey>,
    namespace: Box<str>,
    analyzer: Analyzer,
    mut tally: WordCounts,
) -> WriteBatch {
    let mut words = 0;
    // A byte-order mark in front is no part of a word, whatever the analyzer.
    let unmarked = text.strip_prefix('\u{feff}').unwrap_or(text);
    let left_out = analyzer.words_within(unmarked, MAX_WORD_BYTES, |word| {
        tally.add(word, 1).expect("a text has fewer words than an i64 counts");
        words += 1;
    });
    let fingerprint = fingerprint(once.as_ref(), &[namespace.as_bytes(), b"post", text.as_bytes()]);
    WriteBatch { fingerprint, namespace, op: WriteOp::Add, counts: tally, words, left_out, key: once }
}

/// A small post whose body is there already; `None` if anything about it is for [`post`] to refuse.
pub(super) fn small_post(
    query: &str,
    content_type: Option<&str>,
    naming: DedupHeaders,
    body: &[u8],
    identity: &DatabaseIdentity,
    tallies: &Arc<WordCountsPool>,
) -> Option<(WriteBatch, Option<AckLevel>)> {
    let query = QueryString::of_addition(query).ok()?;
    let text = match MediaType::of(content_type, POST_TAKES).ok()? {
        MediaType::Plain => Cow::Borrowed(form::utf8(body).ok()?),
        MediaType::Form => form_text(body).ok()?,
        MediaType::Json | MediaType::Multipart { .. } => return None,
    };
    let once = naming.once(None).ok()?;
    let tally = || tallies.take(identity.hasher());
    let batch = || of_text(&text, once, query.namespace.into(), identity.analyzer, tally());
    (!text.is_empty() && check_no_nul(text.as_bytes()).is_ok()).then(|| (batch(), query.ack))
}

/// A body, counted: for the fuzzer.
#[cfg(feature = "failpoints")]
pub(super) async fn counted(media: MediaType, bytes: Bytes) -> Result<WriteBatch, Problem> {
    let text = PostedText { bytes, media, charset: None, naming: DedupHeaders::default(), namespace: "words".into() };
    text.into_batch(Analyzer::Standard, WordCounts::new(hash::WordHasher::new(1))).await
}

/// Only a write that may be repeated is ever compared.
fn fingerprint(once: Option<&IdempotencyKey>, parts: &[&[u8]]) -> u128 {
    if once.is_some() { hash::fingerprint(parts) } else { 0 }
}

fn form_text(body: &[u8]) -> Result<Cow<'_, str>, Problem> {
    let mut text = None;
    for (name, value) in form::pairs(body) {
        let name = form::decode(name, ProblemKind::InvalidBody)?;
        if name == "_charset_" {
            body::check_charset(&form::decode(value, ProblemKind::InvalidBody)?, POST_TAKES)?;
        }
        if name == "text" && text.replace(value).is_some() {
            return Err(twice());
        }
    }
    form::decode(text.ok_or_else(no_text)?, ProblemKind::InvalidBody)
}

/// Returns whether the JSON body of a post names the write. One that cannot be read does not: the leader refuses it.
pub(super) async fn has_id(body: &Bytes) -> bool {
    let reads = |body: &[u8]| Ok(json_text(body).is_ok_and(|posted| posted.id.is_some()));
    if body.len() <= INLINE_TEXT_BYTES {
        return reads(body).unwrap_or(false);
    }
    let body = body.clone();
    apart(move || reads(&body)).await.unwrap_or(false)
}

/// The JSON body of a post.
struct PostBody<'a> {
    text: Cow<'a, str>,
    id: Option<Cow<'a, str>>,
}

fn json_text(body: &[u8]) -> Result<PostBody<'_>, Problem> {
    if body.is_empty() {
        return Err(no_text());
    }
    read_posted(form::utf8(body)?).map_err(|wrong| {
        let detail = format!("{wrong}; a JSON object with a string member text is wanted, and id if it has one");
        Problem::new(ProblemKind::InvalidBody, detail)
    })
}

fn read_posted(body: &str) -> Result<PostBody<'_>, String> {
    let (mut text, mut id) = (None, None);
    let wanted = |name: &str| if ["text", "id"].contains(&name) { MemberKind::Scalar } else { MemberKind::Nothing };
    json::read_object(body, wanted, |name, value| {
        let slot = if name == "text" { &mut text } else { &mut id };
        let given = match value {
            MemberValue::String(given) => Some(given),
            MemberValue::Null if name == "id" => None,
            other => return Err(json::member_error(&name, format_args!("is {}, not a string", other.kind()))),
        };
        match slot.replace(given) {
            Some(_) => Err(json::member_error(&name, "is given twice")),
            None => Ok(()),
        }
    })?;
    let text = text.flatten().ok_or("the member text is missing")?;
    Ok(PostBody { text, id: id.flatten() })
}

async fn multipart_text(body: Bytes, boundary: &str) -> Result<Bytes, Problem> {
    let whole = futures::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut parts = multer::Multipart::new(whole, boundary);
    let unreadable =
        |error: multer::Error| Problem::new(ProblemKind::InvalidBody, format!("multipart/form-data: {error}"));
    let mut text = None;
    while let Some(part) = parts.next_field().await.map_err(unreadable)? {
        if part.name() == Some("text") {
            check_part(part.headers())?;
        }
        if part.name() == Some("_charset_") {
            body::check_charset(part.text().await.map_err(unreadable)?.trim(), POST_TAKES)?;
            continue;
        }
        if part.name() == Some("text") && text.replace(part.bytes().await.map_err(unreadable)?).is_some() {
            return Err(twice());
        }
    }
    text.ok_or_else(no_text)
}

/// Refuses a part that would be counted letter by letter: its text is in another charset, or encoded for mail.
fn check_part(fields: &HeaderMap) -> Result<(), Problem> {
    let not_taken = |what: &str| {
        let detail = format!("the {what} of the part text is not taken here; send it in UTF-8, as it is");
        Problem::unsupported_media_type(POST_TAKES, detail)
    };
    if let Some(value) = fields.get(header::CONTENT_TYPE) {
        let value = value.to_str().map_err(|_| not_taken("Content-Type"))?;
        body::essence(value, POST_TAKES)?;
    }
    let as_it_is = |value: &HeaderValue| {
        ["binary", "7bit", "8bit"].iter().any(|name| value.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
    };
    for name in ["content-transfer-encoding", "content-encoding"] {
        if !fields.get_all(name).iter().all(as_it_is) {
            return Err(not_taken(name));
        }
    }
    Ok(())
}

fn no_text() -> Problem {
    let detail = "there is no text: send a form field text (curl --data-urlencode 'text=…'), JSON {\"text\":…}, or the \
                  text itself as text/plain";
    Problem::new(ProblemKind::EmptyText, detail)
}

fn twice() -> Problem {
    Problem::new(ProblemKind::InvalidBody, "the form field text is given twice")
}

/// Runs long work beside the serving threads.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Problem::new(ProblemKind::Internal, "the text could not be taken apart; nothing was applied")),
    }
}

async fn submit(state: &AppState, batch: WriteBatch, ack: Option<AckLevel>) -> Result<Response, Problem> {
    submit_batch(state, batch, ack).await.map(|acceptance| accepted(&acceptance))
}

/// The same for what takes away. Every delete is answered alike: with the words that were there to be taken.
async fn removed(state: &AppState, batch: WriteBatch, ack: Option<AckLevel>) -> Result<Response, Problem> {
    let AcceptedWrite { receipt, database } = submit_batch(state, batch, ack).await?;
    Ok(accepted(&AcceptedWrite { receipt: WriteReceipt { distinct: receipt.words, ..receipt }, database }))
}

/// A receipt as clients see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AcceptedWrite {
    pub(super) receipt: WriteReceipt,
    /// The database that its position is of.
    pub(super) database: DatabaseTag,
}

impl AcceptedWrite {
    pub(super) fn position(&self) -> PositionToken {
        PositionToken { position: self.receipt.position, database: self.database }
    }
}

/// Has the Writer take a batch, and waits for its receipt.
pub(super) async fn submit_batch(
    state: &AppState,
    batch: WriteBatch,
    ack: Option<AckLevel>,
) -> Result<AcceptedWrite, Problem> {
    let leader = state.leader()?;
    let database = state.current()?.identity.tag();
    if matches!(batch.op, WriteOp::Add | WriteOp::AddGiven) && batch.counts.is_empty() && batch.key.is_none() {
        // Nothing to count and nothing to remember: it holds at the position it finds.
        let position = state.current()?.reader.read().position();
        let receipt = WriteReceipt {
            position,
            words: 0,
            distinct: 0,
            left_out: batch.left_out,
            acks: 0,
            replayed: false,
            stream_last: None,
        };
        return Ok(AcceptedWrite { receipt, database });
    }
    match leader.submit(batch, ack).await {
        Ok(receipt) => {
            count_unreplicated(state, ack, &receipt);
            Ok(AcceptedWrite { receipt, database })
        }
        Err(error) => {
            let (problem, refusal) = problem::of_write_error(&error, database);
            state.api.metrics.refused(refusal);
            Err(problem)
        }
    }
}

/// Counts a write that no replica has acknowledged, though the default level would have had one do so.
pub(super) fn count_unreplicated(state: &AppState, ack: Option<AckLevel>, receipt: &WriteReceipt) {
    let wants_replica = ack.is_none() && state.api.about.default_ack.is_some_and(AckLevel::wants_replica);
    state.api.metrics.unreplicated.inc_by(u64::from(wants_replica && receipt.acks == 0));
}

/// The 202 of a write.
fn accepted(acceptance: &AcceptedWrite) -> Response {
    let mut body = Vec::with_capacity(128);
    write_receipt(acceptance, &mut body);
    accepted_with(body, acceptance)
}

/// The 202 of a write, with this body of JSON.
pub(super) fn accepted_with(body: Vec<u8>, acceptance: &AcceptedWrite) -> Response {
    let WriteReceipt { acks, replayed, .. } = &acceptance.receipt;
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::ACCEPTED;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(&headers::MEMDB_POSITION, headers::position_value(acceptance.position()));
    fields.insert(&headers::MEMDB_ACKS, HeaderValue::from(*acks));
    if *replayed {
        fields.insert(&headers::MEMDB_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The body of that.
pub(super) fn write_receipt(acceptance: &AcceptedWrite, body: &mut Vec<u8>) {
    let WriteReceipt { words, distinct, left_out, acks, replayed, stream_last, .. } = &acceptance.receipt;
    // A repeat may tell of a write that an earlier release has taken.
    let words = (*words).min(MAX_WORDS_TOLD);
    write!(body, r#"{{"words":{words},"distinct":{distinct},"left_out":{left_out},"acks":{acks},"position":"#)
        .map(|()| headers::write_position(acceptance.position(), body))
        .and_then(|()| if *replayed { body.write_all(REPLAYED) } else { Ok(()) })
        .and_then(|()| stream_last.map_or(Ok(()), |last| write!(body, r#","stream_last":{last}"#)))
        .and_then(|()| body.write_all(b"}\n"))
        .expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests;
