//! A write that came over HTTP: read into a command where it is applied, sent on as it came elsewhere.

use super::{
    body::{self, MediaType, WholeBody},
    form,
    headers::{self, DedupHeaders},
    json::{self, MemberKind, MemberValue},
    plain_post::{POST_TAKES, form_text, no_text, twice},
    posts::document,
    query::{self, QueryString, RouteParameters},
    request::WriteHeaders,
    update,
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::{Command, Operation, WriteRequest, check_text},
    },
    base::names::is_dots,
    net::write_forwarder::{OutgoingWrite, TRY_TIMEOUT},
    storage::file_header::DatabaseIdentity,
    text::charset::Charset,
};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, header};
use std::borrow::Cow;
use warp::path::FullPath;

const UPDATE_TAKES: &str = "application/json; in UTF-8";

/// A write as it came.
pub(super) struct HttpWrite {
    pub(super) kind: WriteKind,
    pub(super) method: Method,
    pub(super) path: FullPath,
    pub(super) query: String,
    pub(super) parameters: RouteParameters,
    pub(super) headers: WriteHeaders,
    pub(super) body: WholeBody,
    pub(super) max_value_bytes: usize,
}

/// The command that it is.
pub(super) enum WriteKind {
    /// `POST /post`.
    PostedText,
    /// `POST /update`.
    UpdateAmounts,
    /// `DELETE /wordcount`.
    RemoveWords,
    /// `DELETE /ns/{name}`, with the name as it was sent.
    DropNamespace(String),
}

impl WriteRequest for HttpWrite {
    fn size(&self) -> usize {
        self.body.bytes.len()
    }

    fn command(&self, identity: &DatabaseIdentity) -> Result<Command<'_>, ApiError> {
        match &self.kind {
            WriteKind::PostedText => self.text(),
            WriteKind::UpdateAmounts => self.amounts(identity),
            WriteKind::RemoveWords => {
                let query = QueryString::parse(&self.query, self.parameters)?;
                let once = self.headers.naming.once(None)?;
                query.named_words()?;
                let QueryString { namespace, words, ack: level, .. } = query;
                Ok(Command { namespace, operation: Operation::RemoveWords(words), once, level })
            }
            WriteKind::DropNamespace(name) => {
                let namespace = form::decode(name.as_bytes(), ErrorKind::InvalidParameter)?;
                query::check_namespace(&namespace)?;
                let level = QueryString::parse(&self.query, self.parameters)?.ack;
                let once = self.headers.naming.once(None)?;
                Ok(Command { namespace, operation: Operation::DropNamespace, once, level })
            }
        }
    }

    fn is_named(&self) -> bool {
        let is_json = || matches!(MediaType::of(self.headers.content_type.as_deref(), POST_TAKES), Ok(MediaType::Json));
        self.headers.naming.is_given()
            // A body that cannot be read names nothing: the leader refuses it.
            || (matches!(self.kind, WriteKind::PostedText)
                && is_json()
                && !self.stores_post()
                && json_text(&self.body.bytes).is_ok_and(|posted| posted.id.is_some()))
    }

    fn check_forwardable(&self) -> Result<(), ApiError> {
        match &self.kind {
            WriteKind::DropNamespace(name)
                if form::decode(name.as_bytes(), ErrorKind::InvalidParameter).is_ok_and(|name| is_dots(&name)) =>
            {
                let detail = "a path of dots cannot be passed on: send it to the leader itself, as it is";
                Err(ApiError::new(ErrorKind::InvalidParameter, detail))
            }
            _ => Ok(()),
        }
    }

    fn outgoing(&self) -> OutgoingWrite {
        let target = query::target(self.path.as_str(), &self.query);
        let (method, headers) = (self.method.clone(), forwarded_headers(&self.headers));
        OutgoingWrite { method, target, headers, body: self.body.bytes.clone(), patience: TRY_TIMEOUT }
    }
}

/// The headers that a write is sent on with.
pub(super) fn forwarded_headers(given: &WriteHeaders) -> HeaderMap {
    let WriteHeaders { naming: DedupHeaders { key: own, stream, stream_sequence }, content_type, .. } = given;
    let mut fields = HeaderMap::new();
    for (name, text) in [
        (header::CONTENT_TYPE, content_type.as_deref()),
        (headers::IDEMPOTENCY_KEY.clone(), own.as_deref()),
        (headers::MEMDB_STREAM.clone(), stream.as_deref()),
        (headers::MEMDB_STREAM_SEQ.clone(), stream_sequence.as_deref()),
    ] {
        if let Some(text) = text {
            fields.insert(name, headers::value(text.to_owned()));
        }
    }
    fields
}

/// Refuses a body that says to be other than JSON.
pub(super) fn check_json(content_type: Option<&str>) -> Result<(), ApiError> {
    if content_type.is_some() && MediaType::of(content_type, UPDATE_TAKES)? != MediaType::Json {
        return Err(ApiError::unsupported_media_type(UPDATE_TAKES, "this route takes a JSON object"));
    }
    Ok(())
}

impl HttpWrite {
    /// Returns whether the text is kept as the post that its id names. What is wrong is the leader's to say.
    fn stores_post(&self) -> bool {
        let query = QueryString::parse(&self.query, self.parameters);
        query.is_ok_and(|query| document::stores(&query.entries).unwrap_or(false))
    }

    fn text(&self) -> Result<Command<'_>, ApiError> {
        let query = QueryString::of_addition(&self.query, self.parameters)?;
        let (content_type, charset) = body::without_charset(self.headers.content_type.as_deref());
        let media = MediaType::of(content_type.as_deref(), POST_TAKES)?;
        if charset.is_some() && media != MediaType::Plain {
            let detail = "only text/plain is taken in another charset; send this in UTF-8";
            return Err(ApiError::unsupported_media_type(POST_TAKES, detail));
        }
        let PostBody { text, id } = text_of(&self.body.bytes, &media, charset)?;
        let (operation, id) = document::posted(&query.entries, text, id, self.max_value_bytes)?;
        let once = self.headers.naming.once(id.as_deref())?;
        let (namespace, level) = (query.namespace, query.ack);
        Ok(Command { namespace, operation, once, level })
    }

    fn amounts(&self, identity: &DatabaseIdentity) -> Result<Command<'_>, ApiError> {
        let query = QueryString::of_addition(&self.query, self.parameters)?;
        check_json(self.headers.content_type.as_deref())?;
        let once = self.headers.naming.once(None)?;
        let source = &self.body.bytes;
        let update::UpdateAmounts { tally, words } =
            update::parse(form::utf8(source)?, identity.analyzer, identity.hasher())?;
        let operation = Operation::AddAmounts { amounts: tally, words, source };
        Ok(Command { namespace: query.namespace, operation, once, level: query.ack })
    }
}

/// A text that is posted, and its name if the body has one.
struct PostBody<'a> {
    text: Cow<'a, str>,
    id: Option<Cow<'a, str>>,
}

/// Reads the text of a body, which can be counted then.
fn text_of<'a>(bytes: &'a Bytes, media: &MediaType, charset: Option<Charset>) -> Result<PostBody<'a>, ApiError> {
    let posted = match media {
        MediaType::Plain => PostBody { text: plain_text(bytes, charset)?, id: None },
        MediaType::Form => PostBody { text: form_text(bytes)?, id: None },
        MediaType::Json => json_text(bytes)?,
        MediaType::Multipart { boundary } => {
            // All of the body is there, so this waits for nothing.
            let text = multipart_text(bytes.clone(), boundary).now_or_never();
            let text =
                text.unwrap_or_else(|| Err(ApiError::new(ErrorKind::InvalidBody, "multipart/form-data breaks off")));
            PostBody { text: Cow::Owned(form::utf8(&text?)?.to_owned()), id: None }
        }
    };
    check_text(&posted.text)?;
    Ok(posted)
}

/// A body, counted: for tests and the fuzzer.
#[cfg(any(test, feature = "failpoints"))]
pub(super) fn counted(media: &MediaType, bytes: &Bytes) -> Result<crate::data::command::WriteBatch, ApiError> {
    use crate::{
        api::service::of_text, base::hash::WordHasher, data::counts::word_counts::WordCounts, text::tokenizer::Analyzer,
    };
    let text = text_of(bytes, media, None)?.text;
    Ok(of_text(&text, None, "words".into(), Analyzer::Standard, WordCounts::new(WordHasher::new(1))))
}

fn plain_text(bytes: &[u8], charset: Option<Charset>) -> Result<Cow<'_, str>, ApiError> {
    let Some(charset) = charset else { return Ok(Cow::Borrowed(form::utf8(bytes)?)) };
    charset.decode(bytes).map(Cow::Owned).map_err(|offset| {
        let detail = format!("the text is not {}: the byte at offset {offset} cannot stand there", charset.name());
        ApiError::new(ErrorKind::InvalidBody, detail)
    })
}

fn json_text(body: &[u8]) -> Result<PostBody<'_>, ApiError> {
    if body.is_empty() {
        return Err(no_text());
    }
    read_posted(form::utf8(body)?).map_err(|wrong| {
        let detail = format!("{wrong}; a JSON object with a string member text is wanted, and id if it has one");
        ApiError::new(ErrorKind::InvalidBody, detail)
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

async fn multipart_text(body: Bytes, boundary: &str) -> Result<Bytes, ApiError> {
    let whole = futures::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut parts = multer::Multipart::new(whole, boundary);
    let unreadable =
        |error: multer::Error| ApiError::new(ErrorKind::InvalidBody, format!("multipart/form-data: {error}"));
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
fn check_part(fields: &HeaderMap) -> Result<(), ApiError> {
    let not_taken = |what: &str| {
        let detail = format!("the {what} of the part text is not taken here; send it in UTF-8, as it is");
        ApiError::unsupported_media_type(POST_TAKES, detail)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::limits::MAX_WORD_BYTES, data::command::WriteBatch};

    fn batch(media: &MediaType, body: &'static [u8]) -> Result<WriteBatch, ApiError> {
        counted(media, &Bytes::from_static(body))
    }

    #[test]
    fn every_media_type_gives_the_same_words() {
        let multipart = MediaType::Multipart { boundary: "b".to_owned() };
        let uploaded = b"--b\r\nContent-Disposition: form-data; name=\"text\"; filename=\"t\"\r\n\r\nhello world hello\r\n--b--\r\n";
        for (media, body) in [
            (MediaType::Plain, b"hello world hello".as_slice()),
            (MediaType::Plain, b"\xef\xbb\xbfhello world hello"),
            (MediaType::Json, b"\xef\xbb\xbf{\"text\":\"hello world hello\"}"),
            (MediaType::Form, b"x=1&text=hello+world%20hello"),
            (MediaType::Json, br#"{"other":[1],"text":"hello world\u0020hello"}"#),
            (multipart, uploaded),
        ] {
            let batch = batch(&media, body).expect("sound");
            assert_eq!((batch.words, batch.counts.len(), batch.left_out), (3, 2, 0), "{media:?}");
        }
    }

    #[test]
    fn texts_that_cannot_be_read_are_refused() {
        let multipart = || MediaType::Multipart { boundary: "b".to_owned() };
        for (media, body, kind) in [
            (MediaType::Plain, b"".as_slice(), "empty-text"),
            (MediaType::Plain, b"ok \xff", "invalid-utf8"),
            (MediaType::Form, b"text=", "empty-text"),
            (MediaType::Form, b"other=1", "empty-text"),
            (MediaType::Form, b"text=a&text=b", "invalid-body"),
            (MediaType::Form, b"text=100%", "invalid-body"),
            (MediaType::Form, b"text=%ff", "invalid-utf8"),
            (MediaType::Plain, b"h\0i\0", "invalid-body"),
            (MediaType::Form, b"text=h%00i", "invalid-body"),
            (MediaType::Json, br#"{"text":"a\u0000b"}"#, "invalid-body"),
            (MediaType::Json, b"", "empty-text"),
            (MediaType::Json, b"{}", "invalid-body"),
            (MediaType::Json, br#"{"text":1}"#, "invalid-body"),
            (MediaType::Json, br#"{"text":""}"#, "empty-text"),
            (MediaType::Json, br#"{"text":"a","text":"b"}"#, "invalid-body"),
            (MediaType::Json, br#"{"text":"a","id":5}"#, "invalid-body"),
            (MediaType::Json, br#"{"text":"a"} {}"#, "invalid-body"),
            (MediaType::Json, b"{\"text\":\"\xff\"}", "invalid-utf8"),
            (multipart(), b"", "invalid-body"),
            (multipart(), b"--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\na\r\n--b--\r\n", "empty-text"),
            (multipart(), b"--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\na", "invalid-body"),
        ] {
            let problem = batch(&media, body).expect_err("unreadable");
            let told = String::from_utf8(problem.body()).expect("JSON is UTF-8");
            assert!(told.contains(&format!("problem:{kind}\"")), "{media:?} {body:?}: {told}");
        }
    }

    #[test]
    fn over_long_tokens_are_left_out_and_counted_as_such() {
        let long: &'static str = Box::leak(format!("a {} b", "x".repeat(MAX_WORD_BYTES + 1)).into_boxed_str());
        let batch = batch(&MediaType::Plain, long.as_bytes()).expect("sound");
        assert_eq!((batch.words, batch.left_out), (2, 1));
    }
}
