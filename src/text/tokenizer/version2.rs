//! The additions of version 2 of `standard` to boundaries, NFKC and lower case.
//!
//! - Characters that nobody sees (Default_Ignorable_Code_Point) are removed, as NFKC_Casefold of UTS #15 does it, and
//!   before boundaries are looked for: `alice` is one word whatever is inside. The one that stands between words,
//!   U+200B, is a space.
//! - What NFKC makes white space of is white space from the begin: the narrow space of `10:30 PM`, which joins in
//!   UAX #29, and `ﷺ`, which is four words.
//! - The apostrophes of print, U+2018, U+2019 and U+FF07, are `'`, also before boundaries are looked for: a Hebrew
//!   letter keeps a straight one behind it, and `don’t` has the boundaries of `don't` whatever the script.
//! - Underscores and other connectors at the edges of a word go, with the marks that stand on them.

use super::invisible::{is_ignorable, prepared};
use super::normalize::compose;
use super::traits::{CharTraits, has};
use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// The text whose boundaries are looked for, in NFC.
pub(super) fn prepare(text: &str) -> Cow<'_, str> {
    if CharTraits::of_all(text).has(CharTraits::KEPT) {
        return compose(text);
    }
    let prepared = prepare_each(text);
    match compose(&prepared) {
        Cow::Borrowed(_) => Cow::Owned(prepared),
        Cow::Owned(composed) => Cow::Owned(composed),
    }
}

fn prepare_each(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for char in text.chars() {
        // By the table first: nearly every character stays.
        if has(char, CharTraits::KEPT) {
            all.push(char);
        } else {
            all.extend(prepared(char));
        }
    }
    all
}

/// The folded form of a name.
pub(super) fn normalize(name: &str) -> Cow<'_, str> {
    let name = trim(name);
    let is_surely_folded = |name: &str| {
        let traits = CharTraits::of_all(name);
        traits.has(CharTraits::KEPT) && traits.has(CharTraits::COMPATIBLE) && traits.has(CharTraits::LOWER)
    };
    if is_surely_folded(name) {
        return Cow::Borrowed(name);
    }
    let mut folded = normalize_once(name);
    // Ends as `normalize::normalize` does: what is prepared once has nothing left to prepare.
    while !is_surely_folded(&folded) {
        let again = normalize_once(&folded);
        if again == folded {
            break;
        }
        folded = again;
    }
    let trimmed = trim(&folded);
    if trimmed.len() == folded.len() { Cow::Owned(folded) } else { Cow::Owned(trimmed.to_owned()) }
}

fn normalize_once(name: &str) -> String {
    prepare_each(name).nfkc().collect::<String>().to_lowercase()
}

/// A word or name without the connectors at its edges, and without what nobody sees there.
pub(super) fn trim(name: &str) -> &str {
    trim_end(trim_start(name))
}

fn trim_start(name: &str) -> &str {
    let mut stands_on_connector = false;
    name.trim_start_matches(|char| {
        stands_on_connector |= has(char, CharTraits::CONNECTOR);
        has(char, CharTraits::CONNECTOR) || is_unseen(char) || stands_on_connector && is_combining_mark(char)
    })
}

fn trim_end(name: &str) -> &str {
    let mut end = name.len();
    for (at, char) in name.char_indices().rev() {
        let is_last = at + char.len_utf8() == end;
        if has(char, CharTraits::CONNECTOR) || is_last && is_unseen(char) {
            end = at;
        } else if !is_combining_mark(char) && !is_unseen(char) {
            break;
        }
    }
    &name[..end]
}

fn is_unseen(char: char) -> bool {
    !has(char, CharTraits::KEPT) && is_ignorable(char)
}
