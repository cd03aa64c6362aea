//! The routes that read counts.
//!
//! Everything that is not reading (decoding, folding, formatting) happens outside the guard.

use super::{
    HttpSettings,
    body::{self, MediaType},
    coding::{self, ContentCoding, SMALLEST_ENCODED_BYTES},
    form, headers,
    json::{self, MemberKind, MemberValue},
    problem::{Problem, ProblemKind},
    query::{self, QueryString, RouteParameters},
    settings::{INLINE_TEXT_BYTES, SYNC_CHUNK_BYTES},
    state::{self, AppState},
    sync::DumpBody,
    writes,
};
use crate::{
    base::limits::{MAX_WORD_BYTES, MAX_WORDS_BODY_BYTES, MAX_WORDS_PER_READ},
    base::position::{PositionStatus, PositionToken},
    data::store::ReadGuard,
    engine::view::ServedDatabase,
};
use bytes::Buf;
use futures::Stream;
use http::{HeaderValue, StatusCode, header};
use std::{borrow::Cow, collections::HashSet, io::Write, sync::Arc};
use warp::reply::{Reply, Response};

const WORDS_TAKES: &str = "application/json; in UTF-8";

/// The headers of a read.
#[derive(Debug)]
pub(super) struct ReadHeaders {
    pub(super) min_position: Option<String>,
    pub(super) if_none_match: Option<String>,
}

/// `GET /wordcount?word=`: counts of words, all at one position.
pub(super) async fn wordcount(state: Arc<AppState>, query: String, heads: ReadHeaders) -> Result<Response, Problem> {
    let query = QueryString::parse(&query, RouteParameters::WORDCOUNT)?;
    query.named_words()?;
    let lag_ms = wait_for_position(&state, heads.min_position.as_deref()).await?;
    let mut body = Vec::with_capacity(query.words.iter().map(|name| name.len() + 24).sum());
    let current = state.current()?;
    let position = write_counts(&current, &query.namespace, query.words, &mut body)
        .ok_or_else(|| query::no_word(ProblemKind::InvalidParameter))?;
    Ok(headers::read_answer(body, position, lag_ms, heads.if_none_match.as_deref()))
}

/// The headers that describe a body.
#[derive(Debug)]
pub(super) struct ReadBodyHeaders {
    pub(super) content_type: Option<String>,
    pub(super) content_length: Option<String>,
}

/// `POST /wordcount`: the same for words that are named in a body, since a request line holds few long ones. It reads,
/// so every node answers from its own counts, and nothing is changed.
pub(super) async fn posted_wordcount<S, B, E>(
    state: Arc<AppState>,
    query: String,
    heads: ReadHeaders,
    content: ReadBodyHeaders,
    body: S,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    // However small a text may be: a thousand words have room.
    let settings = HttpSettings { max_body_bytes: MAX_WORDS_BODY_BYTES, ..state.settings };
    let whole = body::read(body, content.content_length.as_deref(), &settings, &state.uploads).await?;
    if content.content_type.is_some() && MediaType::of(content.content_type.as_deref(), WORDS_TAKES)? != MediaType::Json
    {
        return Err(Problem::unsupported_media_type(WORDS_TAKES, "this route takes a JSON object with a list words"));
    }
    QueryString::parse(&query, RouteParameters::WORDCOUNT)?; // what is wrong is told before it waits
    let lag_ms = wait_for_position(&state, heads.min_position.as_deref()).await?;
    let current = state.current()?;
    let bytes = whole.bytes.clone();
    let count = move || {
        let query = QueryString::parse(&query, RouteParameters::WORDCOUNT)?;
        let names = names_in(form::utf8(&bytes)?, query.words)?;
        let mut body = Vec::with_capacity(names.iter().map(|name| name.len() + 24).sum());
        let position = write_counts(&current, &query.namespace, names, &mut body);
        let position = position.ok_or_else(|| query::no_word(ProblemKind::InvalidBody))?;
        Ok((body, position))
    };
    let is_small = whole.bytes.len() <= INLINE_TEXT_BYTES;
    let (body, position) = if is_small { count()? } else { writes::apart(count).await? };
    Ok(headers::read_answer(body, position, lag_ms, None))
}

/// The words of a body, behind those of its query.
fn names_in<'a>(body: &'a str, mut names: Vec<Cow<'a, str>>) -> Result<Vec<Cow<'a, str>>, Problem> {
    let invalid = |wrong: String| {
        let detail =
            format!("{wrong}; a JSON object with a list of words is wanted, such as {{\"words\":[\"hello\"]}}");
        Problem::new(ProblemKind::InvalidBody, detail)
    };
    let mut listed = None;
    let read = |name: Cow<'a, str>, value: MemberValue<'a>| match (&*name, value) {
        ("words", MemberValue::Strings(list)) => match listed.replace(list) {
            Some(_) => Err(json::member_error(&name, "is given twice")),
            None => Ok(()),
        },
        ("words", other) => Err(json::member_error(&name, format_args!("is {}, not an array", other.kind()))),
        _ => Err(json::member_error(&name, "is not known here; did you mean `words`?")),
    };
    if !body.is_empty() || names.is_empty() {
        json::read_object(body, |_| MemberKind::Strings(MAX_WORDS_PER_READ), read).map_err(invalid)?;
        names.extend(listed.ok_or_else(|| invalid("the member words is missing".to_owned()))?);
    }
    if names.len() > MAX_WORDS_PER_READ {
        return Err(query::too_many_words());
    }
    if names.is_empty() || names.iter().any(|name| name.is_empty()) {
        return Err(invalid("name at least one word, and no empty one".to_owned()));
    }
    Ok(names)
}

/// Writes the count of each name, all at one position, as a JSON object; `None` if a name folds to nothing, so names no
/// word.
pub(super) fn write_counts(
    current: &ServedDatabase,
    namespace: &str,
    mut names: Vec<Cow<'_, str>>,
    body: &mut Vec<u8>,
) -> Option<PositionToken> {
    if let [name] = &*names {
        return write_count(current, namespace, name, body);
    }
    let mut seen = HashSet::with_capacity(names.len());
    names.retain(|name| seen.insert(name.clone()));
    let folded: Vec<Cow<'_, str>> = names.iter().map(|name| current.identity.analyzer.normalize(name)).collect();
    if folded.iter().any(|word| word.is_empty()) {
        return None;
    }
    let mut counts = Vec::with_capacity(folded.len());
    let position = {
        let guard = current.reader.read();
        counts.extend(folded.iter().map(|word| count(&guard, namespace, word)));
        guard.position()
    };
    for (at, (name, count)) in names.iter().zip(counts).enumerate() {
        write_pair(body, if at == 0 { b'{' } else { b',' }, name, count);
    }
    body.extend_from_slice(b"}\n");
    Some(current.identity.token(position))
}

/// The same for one name.
pub(super) fn write_count(
    current: &ServedDatabase,
    namespace: &str,
    name: &str,
    body: &mut Vec<u8>,
) -> Option<PositionToken> {
    let word = current.identity.analyzer.normalize(name);
    if word.is_empty() {
        return None;
    }
    let (count, position) = {
        let guard = current.reader.read();
        (count(&guard, namespace, &word), guard.position())
    };
    write_pair(body, b'{', name, count);
    body.extend_from_slice(b"}\n");
    Some(current.identity.token(position))
}

fn count(guard: &ReadGuard<'_>, namespace: &str, word: &str) -> i64 {
    // A longer word is never counted.
    if word.len() <= MAX_WORD_BYTES { guard.count(namespace, word) } else { 0 }
}

fn write_pair(body: &mut Vec<u8>, before: u8, name: &str, count: i64) {
    body.push(before);
    headers::write_json_string(body, name);
    body.push(b':');
    body.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

/// `GET /top?n=`: the largest counts.
pub(super) async fn top(
    state: Arc<AppState>,
    query: String,
    heads: ReadHeaders,
    coding: Option<ContentCoding>,
) -> Result<Response, Problem> {
    let query = QueryString::parse(&query, RouteParameters::TOP)?;
    let n = query.top()?;
    let lag_ms = wait_for_position(&state, heads.min_position.as_deref()).await?;
    let current = state.current()?;
    let (position, words) = current.reader.top(&query.namespace, n);
    let mut body = vec![b'['];
    for (word, count) in words {
        body.extend_from_slice(if body.len() > 1 { b",{\"word\":" } else { b"{\"word\":" });
        headers::write_json_string(&mut body, &word);
        write!(body, ",\"count\":{count}}}").expect("a Vec takes every byte");
    }
    body.extend_from_slice(b"]\n");
    let position = current.identity.token(position);
    let coding = coding.filter(|_| body.len() >= SMALLEST_ENCODED_BYTES);
    let encoded = coding.and_then(|coding| Some((coding, coding::encode(coding, &body).ok()?)));
    let mut response = headers::read_answer(body, position, lag_ms, heads.if_none_match.as_deref());
    if let Some((coding, encoded)) = encoded.filter(|_| response.status() == StatusCode::OK) {
        *response.body_mut() = encoded.into();
        headers::set_coding(&mut response, coding);
    }
    headers::set_vary(&mut response);
    Ok(response)
}

/// `GET /sync`: every word with its count, in pieces.
pub(super) async fn sync(
    state: Arc<AppState>,
    query: String,
    heads: ReadHeaders,
    coding: Option<ContentCoding>,
) -> Result<Response, Problem> {
    let query = QueryString::parse(&query, RouteParameters::SYNC)?;
    let lag_ms = wait_for_position(&state, heads.min_position.as_deref()).await?;
    // The position first: what the walk then finds is at this position or a later one.
    let current = state.current()?;
    let mark = current.reader.read().state_id();
    let position = current.identity.token(mark.position);
    // The digest too: an old copy put back may come to the same position.
    let tag = format!("W/\"{position}-{:016x}\"", mark.digest);
    if headers::matches(heads.if_none_match.as_deref(), tag.as_bytes()) {
        let mut unchanged = headers::not_modified(position, lag_ms, tag.as_bytes());
        headers::set_vary(&mut unchanged);
        return Ok(unchanged);
    }
    let mut body = DumpBody::new(current.reader.scan(&query.namespace), SYNC_CHUNK_BYTES);
    let coding = coding.filter(|&coding| body.encode(coding, &state.encoders));
    let mut response = warp::reply::stream(body).into_response();
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(&headers::MEMDB_POSITION, headers::position_value(position));
    fields.insert(header::ETAG, headers::value(tag));
    headers::set_lag(&mut response, lag_ms);
    if let Some(coding) = coding {
        headers::set_coding(&mut response, coding);
    }
    headers::set_vary(&mut response);
    Ok(response)
}

/// Waits until the position a client asked for is applied here. Returns the lag from before the read that follows: what
/// is read then is at least as new.
async fn wait_for_position(state: &AppState, min_position: Option<&str>) -> Result<Option<u64>, Problem> {
    let lag_ms = || Ok(state.api.view.lag_ms());
    let Some(text) = min_position else { return lag_ms() };
    let asked: PositionToken = text
        .parse()
        .map_err(|error| Problem::new(ProblemKind::InvalidHeader, format!("Memdb-Min-Position {text:?}: {error}")))?;
    let standing = state.api.view.position_status(asked, state.settings.position_wait).await;
    match standing {
        None => Err(state::nothing_to_read()),
        Some(PositionStatus::Reached) => lag_ms(),
        Some(PositionStatus::Ahead) => Err(Problem::new(
            ProblemKind::PositionAhead,
            format!("{asked} is not applied here yet; ask again, or another node"),
        )),
        Some(PositionStatus::Lost) => Err(Problem::new(
            ProblemKind::PositionLost,
            format!("this history went on without {asked}: what was written there must be sent again"),
        )),
        Some(PositionStatus::OtherDatabase) => {
            Err(Problem::new(ProblemKind::PositionOtherDatabase, of_another(state, asked)))
        }
    }
}

fn of_another(state: &AppState, asked: PositionToken) -> String {
    let here = state.current().map_or_else(|_| "another".to_owned(), |current| current.identity.tag().to_string());
    format!(
        "{asked} is of database {}, and this node serves database {here}: ask a node of that database, or, if that is lost, \
         send again what was written there",
        asked.database
    )
}
