//! Keys of entries: any text of 1 to 512 bytes, slashes too, but `.` and `..`.

use super::super::form;
use crate::api::error::{ApiError, ErrorKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use std::borrow::Cow;

pub(in crate::api::http) use crate::base::names::check_key as check;

/// Encoded in a path: everything that a client on the way could take for something else, slashes too.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Reads the key that a path ends with.
pub(in crate::api::http) fn of_path(encoded: &str) -> Result<Cow<'_, str>, ApiError> {
    let key =
        form::decode_path(encoded.as_bytes(), ErrorKind::InvalidParameter).map_err(|error| error.about("the key"))?;
    check(&key).map_err(|detail| ApiError::new(ErrorKind::InvalidParameter, detail))?;
    Ok(key)
}

/// The same key as the end of a path that every client and proxy passes on as it is.
///
/// # Errors
/// If it is no key.
pub(in crate::api::http) fn for_path(encoded: &str) -> Result<String, ApiError> {
    let key = of_path(encoded)?;
    Ok(percent_encoding::utf8_percent_encode(&key, ENCODED).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_rest_of_a_path_decoded_once() {
        for (encoded, key) in [
            ("a", "a"),
            ("a/b//c/", "a/b//c/"),
            ("a%2Fb", "a/b"),
            ("a+b", "a+b"),
            ("%E5%8C%97", "北"),
            ("%2525", "%25"),
            ("%00", "\0"),
            ("...", "..."),
            (&"k".repeat(512), &"k".repeat(512)),
        ] {
            assert_eq!(of_path(encoded).expect(encoded), key);
        }
        for (encoded, said) in [
            ("%zz", "hexadecimal"),
            ("a%", "hexadecimal"),
            ("%ff", "UTF-8"),
            ("", "1 to 512"),
            (".", "no key"),
            ("%2e.", "no key"),
        ] {
            let refused = format!("{:?}", of_path(encoded).expect_err(encoded));
            assert!(refused.contains(said), "{refused}");
        }
        assert!(of_path(&"k".repeat(513)).is_err());
    }

    #[test]
    fn a_key_that_is_passed_on_is_the_same_key() {
        for encoded in ["a/../b", "a b", "%5C", "a?b", "ü+%2e%2e/x", "%00", "a%0Ab"] {
            let passed = for_path(encoded).expect(encoded);
            assert!(!passed.contains(['/', '\\', '?', '#']), "{passed}");
            assert_eq!(of_path(&passed).expect("encoded"), of_path(encoded).expect("encoded"));
        }
        assert!(for_path("..").is_err() && for_path("%2e").is_err());
    }
}
