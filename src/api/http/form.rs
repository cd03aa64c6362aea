//! `application/x-www-form-urlencoded`, strictly: for queries and form bodies alike.
//!
//! What does not decode is refused, never guessed: a lenient decoder would count other words than were meant.

use crate::{
    api::error::{ApiError, ErrorKind},
    text::tokenizer,
};
use std::borrow::Cow;

/// The raw name and value of every pair, in order. Empty pairs (`a=1&&b=2`) are skipped.
pub(super) fn pairs(encoded: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    encoded.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let middle = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        (&pair[..middle], pair.get(middle + 1..).unwrap_or_default())
    })
}

/// Decodes one name or value: `+` is a space, `%41` is `A`, the result is UTF-8.
pub(super) fn decode(encoded: &[u8], kind: ErrorKind) -> Result<Cow<'_, str>, ApiError> {
    decode_with(encoded, kind, b' ')
}

/// Decodes a part of a path: `+` is itself there.
pub(super) fn decode_path(encoded: &[u8], kind: ErrorKind) -> Result<Cow<'_, str>, ApiError> {
    decode_with(encoded, kind, b'+')
}

fn decode_with(encoded: &[u8], kind: ErrorKind, plus: u8) -> Result<Cow<'_, str>, ApiError> {
    if memchr::memchr2(b'%', b'+', encoded).is_none() {
        return Ok(Cow::Borrowed(utf8(encoded)?));
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'+' => plus,
            b'%' => match hex_pair(rest.as_slice()) {
                Some(byte) => {
                    rest.nth(1);
                    byte
                }
                None => {
                    let at = encoded.len() - rest.len() - 1;
                    return Err(ApiError::new(
                        kind,
                        format!("the % at byte {at} of an encoded value is not followed by two hexadecimal digits; encode a percent sign as %25"),
                    ));
                }
            },
            byte => byte,
        });
    }
    match String::from_utf8(decoded) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(error) => utf8(error.as_bytes()).map(|text| Cow::Owned(text.to_owned())),
    }
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*bytes.first()?)?, digit(*bytes.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
}

/// The bytes as text.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    tokenizer::decode_utf8(bytes).map_err(|error| ApiError::new(ErrorKind::InvalidUtf8, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        let all: Vec<_> = pairs(b"a=1&&b&=2&c=x=y").collect();
        let expected: [(&[u8], &[u8]); 4] = [(b"a", b"1"), (b"b", b""), (b"", b"2"), (b"c", b"x=y")];
        assert_eq!(all, expected);
        assert_eq!(pairs(b"").count(), 0);
    }

    #[test]
    fn decodes_what_is_sound_and_refuses_the_rest() {
        let decoded = |text: &str| decode(text.as_bytes(), ErrorKind::InvalidBody).map(Cow::into_owned).ok();
        for (encoded, expected) in [
            ("plain", Some("plain")),
            ("a+b%20c", Some("a b c")),
            ("%E5%8c%97", Some("北")),
            ("%2B%25%26", Some("+%&")),
            ("%00", Some("\0")),
            ("100%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
            ("%ff", None),
        ] {
            assert_eq!(decoded(encoded).as_deref(), expected, "{encoded}");
        }
    }

    #[test]
    fn a_plus_in_a_path_is_a_plus() {
        let decoded = |text| decode_path(text, ErrorKind::InvalidParameter).expect("sound");
        assert_eq!((&*decoded(b"a+b%2Fc%20d"), &*decoded(b"+")), ("a+b/c d", "+"));
        assert!(decode_path(b"a%2", ErrorKind::InvalidParameter).is_err());
    }

    #[test]
    fn offsets_of_bad_utf8_count_decoded_bytes() {
        let problem = decode(b"a%20b%ff", ErrorKind::InvalidBody).expect_err("not UTF-8");
        assert!(String::from_utf8_lossy(&problem.body()).contains("offset 3 "), "{problem:?}");
    }
}
