//! The media types that entries are stored under.

use crate::{
    api::error::{ApiError, ErrorKind},
    base::names::check_media_type,
};

/// The media type that an entry is stored under; empty where none was sent.
pub(in crate::api::http) fn stored_type(given: Option<&str>) -> Result<&str, ApiError> {
    let given = given.unwrap_or_default();
    check_media_type(given)
        .map_err(|detail| ApiError::new(ErrorKind::InvalidHeader, format!("Content-Type: {detail}")))?;
    Ok(given)
}
