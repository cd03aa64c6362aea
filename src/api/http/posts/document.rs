//! The documents of posts, and the texts in them.
//!
//! Which part of a document is its text is not decided here but by `data/posts`: the Writer takes words back by the
//! same rule.

use super::super::{
    body,
    entries::{key, media_type::stored_type, ttl},
    form,
    json::{self, MemberKind, MemberValue},
    plain_post::POST_TAKES,
    query::{self, EntryParameters},
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        service::{EntryChanges, Operation},
    },
    data::entries::{CollectionKind, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition},
    data::posts::{PostTextError, post_text},
    text::charset::check_no_nul,
};
use bytes::Bytes;
use std::borrow::Cow;

const COUNTED_TYPES: &str = "text/plain, application/json; in UTF-8";
/// `count=already`: the words of the post are its own, and in the counts before it comes.
const ALREADY: &str = "already";
const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A document ready to be stored, and the text whose words are its own.
pub(in crate::api::http) struct PostDocument<'a> {
    pub(in crate::api::http) op: EntryOp,
    pub(in crate::api::http) text: Cow<'a, str>,
}

/// Reads a document of `/create`, and its id. Its type is not looked at: clients of the system that this route is taken
/// from send it as a form.
pub(in crate::api::http) fn create<'a>(
    document: &'a Bytes,
    content_type: Option<&str>,
    parameters: &EntryParameters<'_>,
) -> Result<(Cow<'a, str>, PostDocument<'a>), ApiError> {
    if let Some(content_type) = content_type {
        body::essence(content_type, COUNTED_TYPES)?;
    }
    let id = id_of(form::utf8(document)?)?;
    Ok((id, read(document, JSON, parameters)?))
}

/// Reads a document of `PUT /posts/{id}`.
pub(in crate::api::http) fn put<'a>(
    document: &'a Bytes,
    content_type: Option<&str>,
    parameters: &EntryParameters<'_>,
) -> Result<PostDocument<'a>, ApiError> {
    let counts = counts(parameters)?;
    let given = stored_type(content_type)?;
    if counts && !given.is_empty() {
        body::essence(given, COUNTED_TYPES)?;
    }
    read(document, if counts && given.is_empty() { PLAIN } else { given }, parameters)
}

fn read<'a>(
    document: &'a Bytes,
    content_type: &str,
    parameters: &EntryParameters<'_>,
) -> Result<PostDocument<'a>, ApiError> {
    let counts = counts(parameters)?;
    // Words that are in the counts already, for an import that has brought the counts: checked, and not added.
    let text = if counts { counted_text(content_type, document)? } else { Cow::Borrowed("") };
    let text = if parameters.count.as_deref() == Some(ALREADY) { Cow::Borrowed("") } else { text };
    let value = NewValue::new(document.clone(), content_type);
    let value = if counts { value.counted() } else { value };
    Ok(PostDocument { op: EntryOp::Put(value, ttl::of_query(parameters.ttl.as_deref())?), text })
}

fn counts(parameters: &EntryParameters<'_>) -> Result<bool, ApiError> {
    let given = parameters.count.as_deref().filter(|given| *given != ALREADY);
    query::switch("count", given, true)
}

/// The text of a document that is counted.
fn counted_text<'a>(content_type: &str, document: &'a [u8]) -> Result<Cow<'a, str>, ApiError> {
    let text = post_text(content_type, document).map_err(|error| match error {
        PostTextError::MediaType(_) => {
            ApiError::unsupported_media_type(COUNTED_TYPES, format!("{error}; with count=false any type is stored"))
        }
        PostTextError::Utf8(_) => ApiError::new(ErrorKind::InvalidUtf8, error.to_string()),
        PostTextError::Json(_) => ApiError::new(ErrorKind::InvalidBody, format!("{error}; nothing was stored")),
    })?;
    check_no_nul(text.as_bytes()).map_err(|error| ApiError::new(ErrorKind::InvalidBody, error.to_string()))?;
    Ok(text)
}

/// The id of a document of `/create`.
fn id_of(document: &str) -> Result<Cow<'_, str>, ApiError> {
    let mut id = None;
    let wanted = |name: &str| if name == "id" { MemberKind::Scalar } else { MemberKind::Nothing };
    let read = json::read_object(document, wanted, |name, value| {
        let MemberValue::String(given) = value else {
            return Err(json::member_error(&name, format_args!("is {}, not a string", value.kind())));
        };
        match id.replace(given) {
            Some(_) => Err(json::member_error(&name, "is given twice")),
            None => Ok(()),
        }
    });
    let id = read.and_then(|()| id.ok_or_else(|| "the member id is missing".to_owned()));
    let id = id.and_then(|id| key::check(&id).map(|()| id));
    id.map_err(|wrong| {
        let detail =
            format!(r#"{wrong}; an object is wanted, such as {{"id":"1","title":"…","content":"…","author":"…"}}"#);
        ApiError::new(ErrorKind::InvalidBody, detail)
    })
}

/// The operation of a text that was posted, and the name of the write that its body gives. With `store=true` the id is
/// the post's, and names no write. A text that is kept, or whose words are, has at most `max_value_bytes`.
pub(in crate::api::http) fn posted<'a>(
    parameters: &EntryParameters<'_>,
    text: Cow<'a, str>,
    id: Option<Cow<'a, str>>,
    max_value_bytes: usize,
) -> Result<(Operation<'a>, Option<Cow<'a, str>>), ApiError> {
    let expiry = ttl::of_query(parameters.ttl.as_deref())?;
    let stores = stores(parameters)?;
    if !stores && expiry == Expiry::Never {
        return Ok((Operation::AddText(text), id));
    }
    if text.len() > max_value_bytes {
        let detail = format!("with store=true or ttl, a text has at most {max_value_bytes} bytes; nothing was counted");
        return Err(ApiError::new(ErrorKind::BodyTooLarge, detail));
    }
    if !stores {
        return Ok((Operation::LendText { text, expiry }, id));
    }
    let Some(id) = id else {
        let detail = r#"store=true keeps the text as the post that the body names: send {"id":"…","text":"…"} as application/json"#;
        return Err(ApiError::unsupported_media_type(POST_TAKES, detail));
    };
    key::check(&id).map_err(|detail| ApiError::new(ErrorKind::InvalidBody, detail))?;
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let op = EntryOp::Put(NewValue::new(bytes, PLAIN).counted(), expiry);
    let (kind, condition) = (CollectionKind::Posts, WriteCondition::Always);
    let write = EntryWrite { kind, key: (&*id).into(), op, condition };
    Ok((Operation::ChangeEntries(EntryChanges { writes: vec![write], text, is_post: true }), None))
}

/// Returns whether the text of a post is kept.
pub(in crate::api::http) fn stores(parameters: &EntryParameters<'_>) -> Result<bool, ApiError> {
    query::switch("store", parameters.store.as_deref(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_post_has_an_id_of_its_own() {
        assert_eq!(id_of(r#"{"title":1,"id":"7/é"}"#).expect("sound"), "7/é");
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(513));
        for (document, said) in [
            ("{}", "id is missing"),
            (r#"{"id":""}"#, "1 to 512"),
            (r#"{"id":7}"#, "a number, not a string"),
            (r#"{"id":null}"#, "null, not a string"),
            (r#"{"id":"a","id":"b"}"#, "given twice"),
            (r#"["a"]"#, "not an object"),
            ("", "EOF"),
            (&long, "1 to 512"),
        ] {
            let refused = format!("{:?}", id_of(document).expect_err(document));
            assert!(refused.contains(said), "{document}: {refused}");
        }
    }

    #[test]
    fn a_post_is_counted_by_its_text_and_other_types_only_stored() {
        let counted = |media: &str, body: &'static [u8]| counted_text(media, body).map_err(|error| error.kind());
        assert_eq!(counted(JSON, br#"{"title":"a","content":"b"}"#).expect("sound").split_whitespace().count(), 2);
        assert_eq!(counted(PLAIN, b"a b"), Ok("a b".into()));
        assert_eq!(counted(PLAIN, b"a\0"), Err(ErrorKind::InvalidBody));
        assert_eq!(counted(PLAIN, b"a\xff"), Err(ErrorKind::InvalidUtf8));
        assert_eq!(counted(JSON, br#"{"title":7}"#), Err(ErrorKind::InvalidBody));
        assert_eq!(counted("image/png", b"a"), Err(ErrorKind::UnsupportedMediaType));
        assert_eq!(counted("application/x-www-form-urlencoded", b"text=a"), Err(ErrorKind::UnsupportedMediaType));
    }
}
