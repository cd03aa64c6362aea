//! What version 2 makes of single characters before it looks for boundaries: invisible ones go, what NFKC makes white
//! space of is white space, and the apostrophes of print are straight.

use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};
use unicode_normalization::UnicodeNormalization;

/// Gives the characters that stand for `char` in a prepared text: mostly itself.
pub(super) fn prepared(char: char) -> impl Iterator<Item = char> {
    let (mut one, mut spelled) = (None, None);
    match char {
        '\u{200b}' => one = Some(' '),
        '\u{2018}' | '\u{2019}' | '\u{ff07}' => one = Some('\''),
        _ if is_ignorable(char) => {}
        // A space of its own separates as it is.
        _ if char.is_whitespace() && char != '\u{202f}' => one = Some(char),
        _ if std::iter::once(char).nfkc().any(char::is_whitespace) => spelled = Some(std::iter::once(char).nfkc()),
        _ => one = Some(char),
    }
    one.into_iter().chain(spelled.into_iter().flatten())
}

/// Returns whether the character is invisible.
pub(super) fn is_ignorable(char: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(char)
}
