//! The routes that read counts: from the text of a request to a query, and from its reply to an answer.

use super::{
    HttpSettings,
    body::{self, MediaType, WholeBody},
    form, headers,
    json::{self, MemberKind, MemberValue},
    query::{self, QueryString, RouteParameters},
    request::{ReadHeaders, RouteRequest},
    settings::SYNC_CHUNK_BYTES,
    state::AppState,
    sync::DumpBody,
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::{self, AllCounts, CountOf, CountsOf, QueryReply, ReadQuery as _, no_word},
    },
    base::limits::{MAX_WORDS_BODY_BYTES, MAX_WORDS_PER_READ},
    base::position::PositionToken,
    engine::view::ServedDatabase,
    net::address_limits::Usage,
};
use std::{borrow::Cow, collections::HashSet};
use warp::reply::Response;

const WORDS_TAKES: &str = "application/json; in UTF-8";

/// `GET /wordcount?word=`: counts of words, all at one position.
pub(super) async fn wordcount(request: RouteRequest) -> Result<Response, ApiError> {
    let (asked, state) = (request.read_headers()?, &request.state);
    let query = request.parse_query()?;
    query.named_words()?;
    let QueryString { namespace, words, .. } = query;
    let names = distinct(words);
    let counts = CountsOf { namespace: &namespace, names: &names };
    let QueryReply { answer, position, lag_ms } =
        state.service.query(counts, min_position(&asked)?, &request.client.usage).await?;
    let mut body = Vec::new();
    write_counts(&names, &answer, &mut body);
    Ok(headers::read_answer(body, position, lag_ms, asked.if_none_match.as_deref()))
}

/// `POST /wordcount`: the same for words that are named in a body, since a request line holds few long ones. It reads,
/// so every node answers from its own counts, and nothing is changed.
pub(super) async fn posted_wordcount(request: RouteRequest) -> Result<Response, ApiError> {
    let asked = request.read_headers()?;
    let (content_type, content_length) = (request.header("content-type")?, request.header("content-length")?);
    let RouteRequest { state, query, parameters, client, body, .. } = request;
    // However small a text may be: a thousand words have room.
    let settings = HttpSettings { max_body_bytes: MAX_WORDS_BODY_BYTES, ..state.settings };
    let budget = (&state.budgets.uploads, &client.usage);
    let whole = body::read(body, content_length.as_deref(), &settings, budget).await?;
    if content_type.is_some() && MediaType::of(content_type.as_deref(), WORDS_TAKES)? != MediaType::Json {
        return Err(ApiError::unsupported_media_type(WORDS_TAKES, "this route takes a JSON object with a list words"));
    }
    QueryString::parse(&query, parameters)?; // what is wrong is told before it waits
    let lag_ms = state.service.wait_for(min_position(&asked)?, &client.usage).await?;
    let (body, position) = counts_of_body(&state, query, parameters, whole, &client.usage).await?;
    Ok(headers::read_answer(body, position, lag_ms, None))
}

/// The counts of the words that a query and a body name, as a JSON object.
async fn counts_of_body(
    state: &AppState,
    query: String,
    parameters: RouteParameters,
    whole: WholeBody,
    usage: &Usage,
) -> Result<(Vec<u8>, PositionToken), ApiError> {
    let current = state.service.current()?;
    let is_small = whole.bytes.len() <= service::INLINE_TEXT_BYTES;
    let count = move || {
        // The body and its part of the budget: a client that has gone makes no room before its words are counted.
        let whole = whole;
        let query = QueryString::parse(&query, parameters)?;
        let names = names_in(form::utf8(&whole.bytes)?, query.words)?;
        let names = distinct(names);
        let counts = CountsOf { namespace: &query.namespace, names: &names };
        let (answer, position) = counts.answer(&current).ok_or_else(|| no_word(ErrorKind::InvalidBody))?;
        let mut body = Vec::new();
        write_counts(&names, &answer, &mut body);
        Ok((body, position))
    };
    if is_small { count() } else { service::beside(usage, count).await }
}

/// The words of a body, behind those of its query.
fn names_in<'a>(body: &'a str, mut names: Vec<Cow<'a, str>>) -> Result<Vec<Cow<'a, str>>, ApiError> {
    let invalid = |wrong: String| {
        let detail =
            format!("{wrong}; a JSON object with a list of words is wanted, such as {{\"words\":[\"hello\"]}}");
        ApiError::new(ErrorKind::InvalidBody, detail)
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

/// The names in their order, each once: an object has a member once.
pub(super) fn distinct(mut names: Vec<Cow<'_, str>>) -> Vec<Cow<'_, str>> {
    if names.len() > 1 {
        let mut seen = HashSet::with_capacity(names.len());
        names.retain(|name| seen.insert(name.clone()));
    }
    names
}

/// Writes the count of each name, as a JSON object.
pub(super) fn write_counts(names: &[Cow<'_, str>], counts: &[i64], body: &mut Vec<u8>) {
    body.reserve(names.iter().map(|name| name.len() + 24).sum());
    for (at, (name, &count)) in names.iter().zip(counts).enumerate() {
        write_pair(body, if at == 0 { b'{' } else { b',' }, name, count);
    }
    body.extend_from_slice(b"}\n");
}

/// Writes what a read of one name answers; `None` if that names no word.
#[inline]
pub(super) fn write_count(
    current: &ServedDatabase,
    namespace: &str,
    name: &str,
    body: &mut Vec<u8>,
) -> Option<PositionToken> {
    let (count, position) = CountOf { namespace, name }.answer(current)?;
    write_pair(body, b'{', name, count);
    body.extend_from_slice(b"}\n");
    Some(position)
}

fn write_pair(body: &mut Vec<u8>, before: u8, name: &str, count: i64) {
    body.push(before);
    headers::write_json_string(body, name);
    body.push(b':');
    body.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

/// `GET /sync`: every word with its count, in pieces.
pub(super) async fn sync(request: RouteRequest, asked: ReadHeaders) -> Result<Response, ApiError> {
    let (coding, state) = (request.wanted_coding(), &request.state);
    let query = request.parse_query()?;
    let all = AllCounts { namespace: &query.namespace };
    let QueryReply { answer: walk, position, lag_ms } =
        state.service.query(all, min_position(&asked)?, &request.client.usage).await?;
    let tag = headers::weak_tag(position, walk.digest);
    if headers::matches(asked.if_none_match.as_deref(), tag.as_bytes()) {
        let mut unchanged = headers::not_modified(position, lag_ms, tag.as_bytes());
        headers::set_vary(&mut unchanged);
        return Ok(unchanged);
    }
    let body = DumpBody::new(walk.scan, SYNC_CHUNK_BYTES);
    let encoding = (coding, &state.budgets.encoders, &request.client.usage);
    Ok(headers::streamed_answer(body, "application/json", (position, lag_ms), Some(tag), encoding))
}

/// The position that a client wants to be applied before its read.
pub(super) fn min_position(asked: &ReadHeaders) -> Result<Option<PositionToken>, ApiError> {
    let Some(text) = &asked.min_position else { return Ok(None) };
    let position = text
        .parse()
        .map_err(|error| ApiError::new(ErrorKind::InvalidHeader, format!("Memdb-Min-Position {text:?}: {error}")))?;
    Ok(Some(position))
}

#[cfg(test)]
mod tests {
    use super::{super::test_support, *};
    use bytes::Bytes;
    use futures::{poll, stream};
    use std::{convert::Infallible, sync::mpsc};

    #[test]
    fn a_client_that_goes_away_holds_its_part_of_the_budget_until_its_words_are_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
        runtime.expect("a runtime").block_on(async {
            let (state, usage) = (test_support::state(), Usage::default());
            let all = |state: &AppState| state.budgets.uploads.take(&Usage::default(), state.settings.max_upload_bytes);
            let words = vec![format!("\"{}\"", "x".repeat(1_000)); 2 * service::INLINE_TEXT_BYTES / 1_000];
            let text = Bytes::from(format!("{{\"words\":[{}]}}", words.join(",")));
            let pieces = [text.slice(..10), text.slice(10..)].map(Ok::<_, Infallible>);
            let budget = (&state.budgets.uploads, &usage);
            let whole = body::read(stream::iter(pieces), None, &state.settings, budget).await.expect("it has room");
            let (release, busy) = mpsc::sync_channel::<()>(1);
            let _busy = tokio::task::spawn_blocking(move || busy.recv());
            let mut counting = Box::pin(counts_of_body(&state, String::new(), RouteParameters::NONE, whole, &usage));
            assert!(poll!(&mut counting).is_pending(), "the thread for long work is busy");
            drop(counting);
            assert!(all(&state).is_err(), "its words are still to be counted");
            drop(release);
            tokio::task::spawn_blocking(|| ()).await.expect("its turn comes behind theirs");
            assert!(all(&state).is_ok());
        });
    }
}
