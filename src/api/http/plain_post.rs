//! The text of a plain post, `text/plain` or a form, as the fast path and the routes read it.

use super::{
    body::{self, MediaType},
    form,
    headers::DedupHeaders,
    query::{QueryString, RouteParameters},
};
use crate::api::{
    error::{ApiError, ErrorKind},
    service::{Command, Operation, check_text},
};
use std::borrow::Cow;

pub(super) const POST_TAKES: &str =
    "text/plain, application/x-www-form-urlencoded, application/json, multipart/form-data; all in UTF-8";
/// A small post whose body is there already; `None` if anything about it is for the routes to refuse.
pub(super) fn small_post<'a>(
    query: &'a str,
    content_type: Option<&str>,
    naming: &DedupHeaders,
    body: &'a [u8],
) -> Option<Command<'a>> {
    let query = QueryString::of_addition(query, RouteParameters::ADD).ok()?;
    let text = match MediaType::of(content_type, POST_TAKES).ok()? {
        MediaType::Plain => Cow::Borrowed(form::utf8(body).ok()?),
        MediaType::Form => form_text(body).ok()?,
        MediaType::Json | MediaType::Multipart { .. } => return None,
    };
    let once = naming.once(None).ok()?;
    check_text(&text).ok()?;
    Some(Command { namespace: query.namespace, operation: Operation::AddText(text), once, level: query.ack })
}

/// The text in a form.
pub(super) fn form_text(body: &[u8]) -> Result<Cow<'_, str>, ApiError> {
    let mut text = None;
    for (name, value) in form::pairs(body) {
        let name = form::decode(name, ErrorKind::InvalidBody)?;
        if name == "_charset_" {
            body::check_charset(&form::decode(value, ErrorKind::InvalidBody)?, POST_TAKES)?;
        }
        if name == "text" && text.replace(value).is_some() {
            return Err(twice());
        }
    }
    form::decode(text.ok_or_else(no_text)?, ErrorKind::InvalidBody)
}

pub(super) fn no_text() -> ApiError {
    let detail = "there is no text: send a form field text (curl --data-urlencode 'text=…'), JSON {\"text\":…}, or the \
                  text itself as text/plain";
    ApiError::new(ErrorKind::EmptyText, detail)
}

pub(super) fn twice() -> ApiError {
    ApiError::new(ErrorKind::InvalidBody, "the form field text is given twice")
}
