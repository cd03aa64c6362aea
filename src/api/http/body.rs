//! Request bodies: bounded by counted bytes, by time, and all of them together.

use super::settings::HttpSettings;
use crate::{
    api::error::{ApiError, BEHIND_A_PROXY, ErrorKind},
    net::{
        address_limits::Usage,
        budget::{Budget, BudgetRefusal, BudgetShare},
    },
    text::charset::Charset,
};
use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use std::{pin::pin, sync::Arc};

/// A whole body, and the memory it is accounted for until it is dropped.
#[derive(Debug)]
pub(super) struct WholeBody {
    pub(super) bytes: Bytes,
    _share: Option<BudgetShare>,
}

impl WholeBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { bytes: Bytes::new(), _share: None }
    }
}

/// The memory of bodies is used up. `done` says what of the request was applied.
pub(super) fn too_many_uploads(exhausted: BudgetRefusal, done: &str) -> ApiError {
    let detail = match exhausted {
        BudgetRefusal::All => format!("{done}; send it again, or in smaller texts"),
        BudgetRefusal::Address { share, bound } => format!(
            "the uploads of this address hold its share of the memory for bodies, {share} of {bound} bytes: {done}; \
             let some of them end, then send it again, or in smaller texts; {BEHIND_A_PROXY}"
        ),
    };
    ApiError::new(ErrorKind::TooManyUploads, detail)
}

/// Reads a body to its end. `declared` is its `Content-Length`, if it has one.
pub(super) async fn read<S, B, E>(
    body: S,
    declared: Option<&str>,
    settings: &HttpSettings,
    (uploads, usage): (&Arc<Budget>, &Usage),
) -> Result<WholeBody, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let limit = settings.max_body_bytes;
    if declared.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > limit) {
        return Err(too_large(limit)); // before a byte of it is read
    }
    match tokio::time::timeout(settings.body_timeout, gather(body, limit, (uploads, usage))).await {
        Ok(whole) => whole,
        Err(_) => Err(ApiError::new(
            ErrorKind::RequestTimeout,
            format!("the body was not whole after {} ms; nothing was applied", settings.body_timeout.as_millis()),
        )),
    }
}

async fn gather<S, B, E>(body: S, limit: usize, (uploads, usage): (&Arc<Budget>, &Usage)) -> Result<WholeBody, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut body = pin!(body);
    // Nearly every body comes in one piece, which is taken as it is.
    let Some(first) = next_piece(&mut body, limit).await? else {
        return Ok(WholeBody::empty());
    };
    let Some(second) = next_piece(&mut body, limit - first.len()).await? else {
        return Ok(WholeBody { bytes: first, _share: None });
    };
    let refused = |exhausted| too_many_uploads(exhausted, "nothing was applied");
    // Not before: the counters are shared by all cores, and a body in one piece needs none of them.
    let mut share = BudgetShare::of(uploads, usage);
    share.grow(first.len() + second.len()).map_err(refused)?;
    let mut gathered = BytesMut::from(first);
    gathered.extend_from_slice(&second);
    while let Some(piece) = next_piece(&mut body, limit - gathered.len()).await? {
        share.grow(piece.len()).map_err(refused)?;
        gathered.extend_from_slice(&piece);
    }
    Ok(WholeBody { bytes: gathered.freeze(), _share: Some(share) })
}

/// The next piece that is not empty, of at most `room` bytes.
async fn next_piece<S, B, E>(body: &mut S, room: usize) -> Result<Option<Bytes>, ApiError>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: Buf,
{
    while let Some(piece) = body.next().await {
        let Ok(mut piece) = piece else {
            let detail = "the body broke off or its chunks are malformed; nothing was applied";
            return Err(ApiError::new(ErrorKind::InvalidBody, detail));
        };
        if piece.remaining() > room {
            // `room` is what is left of the limit, so the limit itself is not known here.
            return Err(too_large_by(piece.remaining() - room));
        }
        if piece.has_remaining() {
            return Ok(Some(piece.copy_to_bytes(piece.remaining())));
        }
    }
    Ok(None)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(ErrorKind::BodyTooLarge, format!("at most {limit} bytes are taken; send the text in parts"))
}

fn too_large_by(excess: usize) -> ApiError {
    let detail = format!("the body is over the limit by {excess} bytes or more; send the text in parts");
    ApiError::new(ErrorKind::BodyTooLarge, detail)
}

/// The media type of a `Content-Type`, as far as routes tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Plain,
    Form,
    Json,
    Multipart { boundary: String },
}

/// A media type without its parameters, of which a charset must be one that is UTF-8.
pub(super) fn essence<'a>(content_type: &'a str, accepted: &'static str) -> Result<&'a str, ApiError> {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && name.eq_ignore_ascii_case("charset")
        {
            check_charset(value.trim_matches('"'), accepted)?;
        }
    }
    Ok(essence)
}

/// Refuses a charset that is not UTF-8.
pub(super) fn check_charset(name: &str, accepted: &'static str) -> Result<(), ApiError> {
    if ["utf-8", "utf8", "us-ascii"].iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(ApiError::unsupported_media_type(accepted, "the charset is not taken here; send UTF-8"))
}

/// A `Content-Type` without a charset that can be decoded, and that charset; UTF-8 stays where it is, and so does what
/// [`essence`] refuses.
pub(super) fn without_charset(content_type: Option<&str>) -> (Option<String>, Option<Charset>) {
    let Some(content_type) = content_type else { return (None, None) };
    let mut charset = None;
    let is_other = |parameter: &&str| {
        let label = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        let known = label.and_then(|(_, label)| Charset::of_label(label.trim().trim_matches('"')).ok().flatten());
        known.is_none_or(|known| charset.is_some() || charset.replace(known).is_some())
    };
    let others: Vec<&str> = content_type.split(';').filter(is_other).collect();
    (Some(others.join(";")), charset)
}

impl MediaType {
    /// The media type of a body; no header at all means plain text.
    pub(super) fn of(content_type: Option<&str>, accepted: &'static str) -> Result<Self, ApiError> {
        let Some(content_type) = content_type else { return Ok(MediaType::Plain) };
        let essence = essence(content_type, accepted)?;
        if essence.eq_ignore_ascii_case("text/plain") {
            Ok(MediaType::Plain)
        } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Ok(MediaType::Form)
        } else if essence.eq_ignore_ascii_case("application/json") {
            Ok(MediaType::Json)
        } else if essence.eq_ignore_ascii_case("multipart/form-data") {
            match multer::parse_boundary(content_type) {
                Ok(boundary) => Ok(MediaType::Multipart { boundary }),
                Err(_) => {
                    Err(ApiError::new(ErrorKind::InvalidHeader, "multipart/form-data needs a boundary parameter"))
                }
            }
        } else {
            Err(ApiError::unsupported_media_type(accepted, format!("this route takes {accepted}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address_limits::Resource;
    use futures::stream;
    use std::convert::Infallible;

    fn settings() -> HttpSettings {
        HttpSettings { max_body_bytes: 10, ..HttpSettings::default() }
    }

    fn budget(bytes: usize) -> Arc<Budget> {
        Budget::new(Resource::UploadBytes, bytes, bytes)
    }

    async fn read_pieces(pieces: &[&'static str], limit: usize) -> (Result<WholeBody, ApiError>, Arc<Budget>) {
        let uploads = budget(limit);
        let body = stream::iter(pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes()))));
        (read(body, None, &settings(), (&uploads, &Usage::default())).await, uploads)
    }

    #[tokio::test]
    async fn bodies_are_bounded_by_counted_bytes() {
        for (pieces, expected) in [
            (&[][..], Some("")),
            (&["0123456789"][..], Some("0123456789")),
            (&["01234", "", "56789"][..], Some("0123456789")),
            (&["0", "1", "2", "3"][..], Some("0123")),
            (&["0123456789a"][..], None),
            (&["0123456789", "a"][..], None),
            (&["01234", "5678", "9a"][..], None),
        ] {
            let (whole, _) = read_pieces(pieces, 100).await;
            assert_eq!(whole.ok().map(|whole| whole.bytes), expected.map(Bytes::from), "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn uploads_are_bounded_together_and_given_back() {
        let (whole, uploads) = read_pieces(&["01234", "56789"], 10).await;
        let whole = whole.expect("within the bound");
        let body = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))]);
        let refused = read(body, None, &settings(), (&uploads, &Usage::default())).await.expect_err("over the bound");
        assert_eq!(refused.status().as_u16(), 503);
        drop(whole);
        assert!(uploads.take(&Usage::default(), 10).is_ok(), "all of it is given back");
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_timed_out() {
        let body = stream::pending::<Result<Bytes, Infallible>>();
        let settings = HttpSettings { body_timeout: std::time::Duration::from_millis(1), ..settings() };
        let problem = read(body, None, &settings, (&budget(10), &Usage::default())).await.expect_err("never ends");
        assert_eq!(problem.status().as_u16(), 408);
    }

    #[tokio::test]
    async fn a_declared_length_over_the_limit_is_refused_unread() {
        let body = stream::pending::<Result<Bytes, Infallible>>();
        let problem =
            read(body, Some("11"), &settings(), (&budget(10), &Usage::default())).await.expect_err("too large");
        assert_eq!(problem.status().as_u16(), 413);
    }

    #[test]
    fn a_charset_that_can_be_decoded_is_taken_out_of_the_media_type() {
        for (text, rest, name) in [
            ("text/plain", "text/plain", None),
            ("text/plain; charset=utf-8; a=b", "text/plain; charset=utf-8; a=b", None),
            ("text/plain; Charset=\"ISO-8859-1\"; a=b", "text/plain; a=b", Some("windows-1252")),
            ("text/plain;charset=utf-16le", "text/plain", Some("UTF-16LE")),
            ("text/plain; charset=klingon", "text/plain; charset=klingon", None),
            // Of two the second stays, and is refused.
            ("text/plain;charset=utf-16le;charset=koi8-r", "text/plain;charset=koi8-r", Some("UTF-16LE")),
        ] {
            let (media, charset) = without_charset(Some(text));
            assert_eq!((media.as_deref(), charset.map(Charset::name)), (Some(rest), name), "{text}");
        }
    }

    #[test]
    fn media_types_are_told_apart() {
        let of = |text: &str| MediaType::of(Some(text), "text/plain").map_err(|problem| problem.status().as_u16());
        assert_eq!(MediaType::of(None, "").expect("plain"), MediaType::Plain);
        for (text, expected) in [
            ("text/plain", Ok(MediaType::Plain)),
            ("Text/Plain; Charset=UTF-8", Ok(MediaType::Plain)),
            ("text/plain;charset=\"utf-8\"", Ok(MediaType::Plain)),
            ("text/plain; charset=iso-8859-1", Err(415)),
            ("application/json", Ok(MediaType::Json)),
            ("application/x-www-form-urlencoded;charset=utf-8", Ok(MediaType::Form)),
            ("multipart/form-data; boundary=b", Ok(MediaType::Multipart { boundary: "b".to_owned() })),
            ("multipart/form-data", Err(400)),
            ("text/html", Err(415)),
            ("", Err(415)),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }
}
