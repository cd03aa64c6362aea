//! Folding: NFKC and lower case, to a fixed point.
//!
//! Level 0. One round is not enough: `ϴ` is lower-cased to `θ` only after NFKC made it `Θ`, and lower-casing can leave
//! what NFKC would compose or reorder. A name is folded until a round changes nothing, and that is the definition
//! of folded.

use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

/// No text of more than this many bytes for each byte of its folded form exists: NFKC maps a character of at most 4
/// bytes to no less than 1 byte, composing joins at most 3 bytes into 1, lower case shortens 3 bytes to 2 at most.
/// So a segment far over a limit is known to be over it before its folded form, up to 11 times as long, is made.
pub(super) const MOST_SHRINKING: usize = 32;

/// The folded form of a name.
pub(super) fn fold(name: &str) -> Cow<'_, str> {
    if is_surely_folded(name) {
        return Cow::Borrowed(name);
    }
    if name.is_ascii() {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    let mut folded = fold_once(name);
    // Ends: after the first round all is lower case and compatible characters are gone, so a later round only composes
    // or reorders marks, which NFKC does once and for all. The tests fold every character.
    while !is_surely_folded(&folded) {
        let again = fold_once(&folded);
        if again == folded {
            break;
        }
        folded = again;
    }
    Cow::Owned(folded)
}

/// The text with canonically equal spellings made equal (NFC), which most texts are already.
pub(super) fn compose(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        IsNormalized::No | IsNormalized::Maybe => Cow::Owned(text.nfc().collect()),
    }
}

fn fold_once(name: &str) -> String {
    name.nfkc().collect::<String>().to_lowercase()
}

/// Whether a look at each character alone shows that folding changes nothing. `false` means only that it may.
fn is_surely_folded(name: &str) -> bool {
    if name.is_ascii() {
        return !name.bytes().any(|byte| byte.is_ascii_uppercase());
    }
    name.chars().all(is_lower) && is_nfkc_quick(name.chars()) == IsNormalized::Yes
}

fn is_lower(char: char) -> bool {
    let mut lower = char.to_lowercase();
    lower.next() == Some(char) && lower.next().is_none()
}
