//! Folding: NFKC and lower case, to a fixed point.
//!
//! One round is not enough: `ϴ` is lower-cased to `θ` only after NFKC made it `Θ`, and lower-casing can leave
//! what NFKC would compose or reorder. A name is folded until a round changes nothing, and that is the definition
//! of folded.

use super::traits::CharTraits;
use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;

/// No text of more than this many bytes for each byte of its folded form exists: NFKC maps a character of at most 4
/// bytes to no less than 1 byte, composing joins at most 3 bytes into 1, lower case shortens 3 bytes to 2 at most.
/// So a segment far over a limit is known to be over it before its folded form, up to 11 times as long, is made.
pub(super) const MOST_SHRINKING: usize = 32;

/// The folded form of a name.
pub(super) fn normalize(name: &str) -> Cow<'_, str> {
    let traits = CharTraits::of_all(name);
    if is_surely_normalized(traits) {
        return Cow::Borrowed(name);
    }
    let mut folded = if traits.has(CharTraits::COMPATIBLE) { name.to_lowercase() } else { normalize_once(name) };
    // Ends: after the first round all is lower case and compatible characters are gone, so a later round only composes
    // or reorders marks, which NFKC does once and for all. The tests fold every character.
    while !is_surely_normalized(CharTraits::of_all(&folded)) {
        let again = normalize_once(&folded);
        if again == folded {
            break;
        }
        folded = again;
    }
    Cow::Owned(folded)
}

/// The text with canonically equal spellings made equal (NFC), which most texts are already.
pub(super) fn compose(text: &str) -> Cow<'_, str> {
    if CharTraits::of_all(text).has(CharTraits::COMPOSED) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

fn normalize_once(name: &str) -> String {
    name.nfkc().collect::<String>().to_lowercase()
}

fn is_surely_normalized(traits: CharTraits) -> bool {
    traits.has(CharTraits::COMPATIBLE) && traits.has(CharTraits::LOWER)
}
