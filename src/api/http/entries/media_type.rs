//! The media types that entries are stored under.

use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits::MAX_CONTENT_TYPE_BYTES,
};

/// The media type that an entry is stored under; empty where none was sent.
pub(in crate::api::http) fn stored_type(given: Option<&str>) -> Result<&str, ApiError> {
    let given = given.unwrap_or_default();
    check_type(given).map_err(|detail| ApiError::new(ErrorKind::InvalidHeader, format!("Content-Type: {detail}")))?;
    Ok(given)
}

/// Refuses a media type that no answer could have.
pub(super) fn check_type(given: &str) -> Result<(), String> {
    let is_visible = given.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_visible && given.len() <= MAX_CONTENT_TYPE_BYTES {
        return Ok(());
    }
    Err(format!("a media type has up to {MAX_CONTENT_TYPE_BYTES} visible ASCII characters"))
}
