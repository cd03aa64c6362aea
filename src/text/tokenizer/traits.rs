//! Properties of single characters, and so of most texts at a glance.
//!
//! Nearly every word is in normal form and in lower case already, and finding that out by the tables of
//! `char` and of `unicode-normalization` costs several times what ICU takes to find the word. So what they say is put
//! together once, in a byte for each character below U+10000 (64 KiB, filled at the first use).

use std::sync::LazyLock;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

/// A set of properties: of a character, or those that every character of a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CharTraits(u8);

impl CharTraits {
    /// Surely in NFC.
    pub(super) const COMPOSED: Self = Self(1);
    /// Surely in NFKC.
    pub(super) const COMPATIBLE: Self = Self(2);
    /// Its own lower case.
    pub(super) const LOWER: Self = Self(4);
    /// Makes its segment a word, as written and as folded.
    const LETTER_OR_DIGIT: Self = Self(8);
    /// A mark with a combining class: two of them in a row may have to change places.
    const MARK: Self = Self(16);
    /// Stays as it is when a text is prepared ([`super::invisible::prepared`]).
    pub(super) const KEPT: Self = Self(32);
    /// Folds to nothing but letters, digits, marks and underscores, or to itself: folding brings no sign into a word.
    pub(super) const WHOLE: Self = Self(64);
    /// An underscore or another tie between words, as written or as folded.
    pub(super) const CONNECTOR: Self = Self(128);

    /// Returns whether all of `wanted` are among these.
    pub(super) const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Gives the traits that all characters of `text` have, less the normal forms where marks follow each other. A
    /// trait that is missing may hold all the same; one that is there does hold.
    pub(super) fn of_all(text: &str) -> Self {
        let mut all = u8::MAX;
        let mut before = 0;
        for char in text.chars() {
            let traits = of(char).0;
            let two_marks = traits & before & Self::MARK.0 != 0;
            all &= if two_marks { traits & !(Self::COMPOSED.0 | Self::COMPATIBLE.0) } else { traits };
            before = traits;
        }
        Self(all)
    }
}

/// Returns whether a letter or digit in `segment` makes it a word.
pub(super) fn is_word(segment: &str) -> bool {
    segment.chars().any(|char| of(char).has(CharTraits::LETTER_OR_DIGIT))
}

/// Returns whether a character makes its segment a word. Every such character folds to one that is a letter or digit;
/// the half-width sound marks are the only letters that do not: they fold to combining marks.
pub(super) fn is_letter_or_digit(char: char) -> bool {
    char.is_alphanumeric() && !matches!(char, '\u{ff9e}' | '\u{ff9f}')
}

/// Returns whether a character has these traits.
#[inline]
pub(super) fn has(char: char, traits: CharTraits) -> bool {
    of(char).has(traits)
}

/// The connectors of the property ExtendNumLet that are their own folded form; the others fold to `_`.
fn is_connector(char: char) -> bool {
    matches!(char, '_' | '\u{203f}' | '\u{2040}' | '\u{2054}')
}

const TABLED: u32 = 0x1_0000;

static TABLE: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let traits = |code| char::from_u32(code).map_or(0, |char| find(char).0);
    (0..TABLED).map(traits).collect()
});

#[inline]
fn of(char: char) -> CharTraits {
    TABLE.get(char as usize).map_or_else(|| find(char), |&traits| CharTraits(traits))
}

fn find(char: char) -> CharTraits {
    let once = || std::iter::once(char);
    let is_compatible = is_nfkc_quick(once()) == IsNormalized::Yes;
    let is_of_words = |char| is_letter_or_digit(char) || is_combining_mark(char) || is_connector(char);
    [
        (CharTraits::COMPOSED, is_nfc_quick(once()) == IsNormalized::Yes),
        (CharTraits::COMPATIBLE, is_compatible),
        (CharTraits::LOWER, char.to_lowercase().eq(once())),
        (CharTraits::LETTER_OR_DIGIT, is_letter_or_digit(char)),
        (CharTraits::MARK, canonical_combining_class(char) != 0),
        (CharTraits::KEPT, super::invisible::prepared(char).eq(once())),
        (CharTraits::WHOLE, is_compatible || once().nfkc().all(is_of_words)),
        (CharTraits::CONNECTOR, once().nfkc().all(is_connector)),
    ]
    .into_iter()
    .fold(CharTraits(0), |all, (one, held)| if held { CharTraits(all.0 | one.0) } else { all })
}
