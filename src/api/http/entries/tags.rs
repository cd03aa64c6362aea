//! Tags of entries, and the conditions that name them.
//!
//! The tag of an entry is the SHA-256 of its value, in hexadecimal digits: equal values have equal tags, on every node
//! and in every database. Clients send it with its quotes, or bare as `/create` gives it.

use super::super::request::RouteRequest;
use crate::{
    api::error::{ApiError, ErrorKind},
    data::entries::WriteCondition,
};

/// Digits of a tag.
pub(in crate::api::http) const TAG_DIGITS: usize = 64;

/// A hash as a tag, without quotes.
pub(in crate::api::http) fn of_hash(hash: &[u8; 32]) -> [u8; TAG_DIGITS] {
    // Half a byte to a digit, all of them alike and without a table: the compiler does 32 bytes of that at once.
    let digit = |half: u8| half + if half < 10 { b'0' } else { b'a' - 10 };
    let mut tag = [0; TAG_DIGITS];
    for (digits, &byte) in tag.chunks_exact_mut(2).zip(hash) {
        (digits[0], digits[1]) = (digit(byte >> 4), digit(byte & 15));
    }
    tag
}

/// A tag as text.
pub(in crate::api::http) fn as_text(tag: &[u8; TAG_DIGITS]) -> &str {
    str::from_utf8(tag).expect("digits are ASCII")
}

/// Returns whether `If-None-Match` of a read names this tag.
pub(in crate::api::http) fn is_known(if_none_match: Option<&str>, tag: &[u8; TAG_DIGITS]) -> bool {
    let names = |list: &str| list.split(',').map(bare).any(|(_, one)| one == "*" || one.as_bytes() == tag);
    if_none_match.is_some_and(names)
}

/// One tag of a list without its quotes, and whether it is weak.
fn bare(one: &str) -> (bool, &str) {
    let one = one.trim();
    let (is_weak, one) = one.strip_prefix("W/").map_or((false, one), |one| (true, one));
    (is_weak, one.strip_prefix('"').and_then(|one| one.strip_suffix('"')).unwrap_or(one))
}

/// The headers of a write that say on which state of its entry it depends.
#[derive(Clone, Debug, Default)]
pub(in crate::api::http) struct ConditionHeaders {
    pub(in crate::api::http) if_match: Option<String>,
    pub(in crate::api::http) if_none_match: Option<String>,
}

impl ConditionHeaders {
    pub(in crate::api::http) fn of(request: &RouteRequest) -> Result<Self, ApiError> {
        Ok(Self { if_match: request.header_list("if-match")?, if_none_match: request.header_list("if-none-match")? })
    }

    /// Refuses conditions.
    ///
    /// # Errors
    /// If there is one: a client that relies on it must not be told that the write has succeeded.
    pub(in crate::api::http) fn check_none(&self) -> Result<(), ApiError> {
        if self.if_match.is_none() && self.if_none_match.is_none() {
            return Ok(());
        }
        let detail = "this route takes neither If-Match nor If-None-Match: they hold for one entry, in PUT, PATCH and DELETE \
                      of /cache/KEY and /posts/ID and in POST /create; nothing was applied";
        Err(ApiError::new(ErrorKind::InvalidHeader, detail))
    }

    /// The condition.
    ///
    /// # Errors
    /// If there are two.
    pub(in crate::api::http) fn condition(&self) -> Result<WriteCondition, ApiError> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Ok(WriteCondition::Always),
            (Some(_), Some(_)) => {
                Err(ApiError::new(ErrorKind::InvalidHeader, "send If-Match or If-None-Match, not both"))
            }
            // A weak tag is none of the tags that If-Match may name (RFC 9110, 13.1.1).
            (Some(list), None) => Ok(match all(list) {
                None => WriteCondition::Present,
                Some(tags) => WriteCondition::Matches(
                    tags.into_iter().filter(|(is_weak, _)| !is_weak).map(|(_, tag)| tag.into()).collect(),
                ),
            }),
            (None, Some(list)) => Ok(match all(list) {
                None => WriteCondition::Absent,
                Some(tags) => WriteCondition::MatchesNone(tags.into_iter().map(|(_, tag)| tag.into()).collect()),
            }),
        }
    }
}

/// The tags of a list; `None` for `*`.
fn all(list: &str) -> Option<Vec<(bool, &str)>> {
    let tags: Vec<_> = list.split(',').map(bare).filter(|(_, tag)| !tag.is_empty()).collect();
    if tags.iter().any(|(_, tag)| *tag == "*") { None } else { Some(tags) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_tag_is_the_hash_in_digits() {
        let tag = of_hash(&crate::data::entries::hash_of(b""));
        assert_eq!(as_text(&tag), TAG);
        for list in [TAG, &format!("\"{TAG}\""), &format!("W/\"{TAG}\""), &format!("\"x\" , {TAG}"), "*"] {
            assert!(is_known(Some(list), &tag), "{list}");
        }
        for list in ["", "\"\"", "\"x\"", &TAG[1..], &TAG.to_uppercase()] {
            assert!(!is_known(Some(list), &tag), "{list}");
        }
        assert!(!is_known(None, &tag));
    }

    #[test]
    fn conditions_are_read_with_and_without_quotes() {
        let read = |if_match: Option<&str>, if_none_match: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            ConditionHeaders { if_match: owned(if_match), if_none_match: owned(if_none_match) }.condition()
        };
        let both = || vec!["a".into(), "b".into()];
        for (headers, expected) in [
            ((None, None), WriteCondition::Always),
            ((Some("*"), None), WriteCondition::Present),
            ((None, Some("*")), WriteCondition::Absent),
            ((Some("\"a\", b"), None), WriteCondition::Matches(both())),
            ((Some("\"a\",W/\"c\", b"), None), WriteCondition::Matches(both())),
            ((Some("W/\"c\""), None), WriteCondition::Matches(vec![])),
            ((None, Some("\"a\", W/\"b\"")), WriteCondition::MatchesNone(both())),
        ] {
            assert_eq!(read(headers.0, headers.1).expect("sound"), expected, "{headers:?}");
        }
        assert!(read(Some("*"), Some("*")).is_err());
    }
}
