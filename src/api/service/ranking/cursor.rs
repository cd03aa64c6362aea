//! The cursor of a page of `/top`: the count and the word at its end, in a text that means nothing to clients.
//!
//! ```text
//! byte     0  version, 1
//!       1– 4  tag of the database
//!       5– 8  CRC-32C of the namespace
//!       9–12  CRC-32C of the prefix
//!      13–20  count of the last word
//!      21 …   the last word
//!    last 4   CRC-32C of all in front of it
//! ```
//!
//! It holds no position: a page is of the position at which it is read.

use crate::{
    api::error::{ApiError, ErrorKind},
    base::position::DatabaseTag,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// The order that a cursor is a place in.
#[derive(Clone, Copy)]
pub(super) struct CursorScope<'a> {
    pub(super) database: DatabaseTag,
    pub(super) namespace: &'a str,
    pub(super) prefix: &'a str,
}

/// The end of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RankingCursor {
    count: i64,
    word: String,
}

impl RankingCursor {
    pub(super) fn place(&self) -> (i64, &str) {
        (self.count, &self.word)
    }

    /// The text for clients of the cursor behind a word.
    pub(super) fn text(count: i64, word: &str, scope: CursorScope<'_>) -> String {
        let mut bytes = Vec::with_capacity(32 + word.len());
        bytes.push(VERSION);
        bytes.extend(scope.fields().into_iter().flatten());
        bytes.extend(count.to_le_bytes());
        bytes.extend(word.as_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the text of a cursor that belongs to `scope`.
    ///
    /// # Errors
    /// If it is no cursor, or one of another database, namespace or prefix.
    pub(super) fn parse(text: &str, scope: CursorScope<'_>) -> Result<Self, ApiError> {
        let (fields, cursor) = Self::decode(text).ok_or_else(|| {
            refused("is no cursor: send the Memdb-Next of an answer of /top as it came, or none to begin")
        })?;
        let wanted = scope.fields();
        for (at, what) in ["database", "namespace", "prefix"].into_iter().enumerate() {
            if fields[at] != wanted[at] {
                let detail = format!("is a cursor of another {what}: begin without one, or ask as for the page before");
                return Err(refused(&detail));
            }
        }
        Ok(cursor)
    }

    fn decode(text: &str) -> Option<([[u8; 4]; 3], Self)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (bytes, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
        if checksum != crc32c::crc32c(bytes).to_le_bytes() {
            return None;
        }
        let rest = bytes.strip_prefix(&[VERSION])?;
        let (database, rest) = rest.split_first_chunk()?;
        let (namespace, rest) = rest.split_first_chunk()?;
        let (prefix, rest) = rest.split_first_chunk()?;
        let (count, word) = rest.split_first_chunk()?;
        let word = std::str::from_utf8(word).ok()?.to_owned();
        Some(([*database, *namespace, *prefix], Self { count: i64::from_le_bytes(*count), word }))
    }
}

impl CursorScope<'_> {
    fn fields(self) -> [[u8; 4]; 3] {
        let crc = |text: &str| crc32c::crc32c(text.as_bytes()).to_le_bytes();
        [self.database.number().to_le_bytes(), crc(self.namespace), crc(self.prefix)]
    }
}

fn refused(detail: &str) -> ApiError {
    ApiError::new(ErrorKind::InvalidParameter, format!("after {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> CursorScope<'static> {
        CursorScope { database: DatabaseTag::of(7), namespace: "words", prefix: "ab" }
    }

    #[test]
    fn a_cursor_comes_back_in_its_order_alone() {
        for (count, word) in [(5, "abc"), (i64::MIN, "ab"), (i64::MAX, "ab北京")] {
            let text = RankingCursor::text(count, word, scope());
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            assert_eq!(RankingCursor::parse(&text, scope()).expect("its own").place(), (count, word));
            for (other, said) in [
                (CursorScope { database: DatabaseTag::of(8), ..scope() }, "another database"),
                (CursorScope { namespace: "other", ..scope() }, "another namespace"),
                (CursorScope { prefix: "", ..scope() }, "another prefix"),
            ] {
                let refused = RankingCursor::parse(&text, other).expect_err(said);
                assert_eq!(refused.kind(), ErrorKind::InvalidParameter);
                assert!(refused.redis_text().contains(said), "{}", refused.redis_text());
            }
        }
    }

    #[test]
    fn a_text_that_is_no_cursor_is_refused_whatever_was_done_to_it() {
        let text = RankingCursor::text(5, "abc", scope());
        for cut in 0..text.len() {
            assert!(RankingCursor::parse(&text[..cut], scope()).is_err(), "cut at {cut}");
            let mut other = text.clone().into_bytes();
            other[cut] = if other[cut] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("ASCII");
            assert!(RankingCursor::parse(&other, scope()).is_err(), "another letter at {cut}");
        }
        for bad in ["", "a", "hello", "1-2-00000007", "%%%", "AAAA AAAA", &format!("{text}=")] {
            assert!(RankingCursor::parse(bad, scope()).is_err(), "{bad}");
        }
    }
}
