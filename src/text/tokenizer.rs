//! Text becomes words, and a name becomes the word it was counted as.
//!
//! An [`Analyzer`] is a property of a database and is kept in its files: counts made under one set of rules
//! mean nothing under another. Three promises hold for every text:
//!
//! - a word is never empty, and under `standard` it holds at least one letter or digit;
//! - `normalize(word) == word` for every word counted, so what was counted can be asked for by that name;
//! - `normalize(fold(name)) == fold(name)` for every name.
//!
//! Texts of clients are hostile until shown otherwise: the work is linear in the bytes of the text, whatever they are.

mod ascii;
mod invisible;
mod normalize;
mod standard;
#[cfg(test)]
mod tests;
mod traits;
mod version2;
mod word_sink;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use word_sink::StandardVersion;

/// The rules by which text becomes words: an analyzer in one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Analyzer {
    /// Unicode word boundaries, with dictionaries for Chinese, Japanese, Thai, Lao, Khmer and Burmese; NFKC and lower
    /// case, without invisible characters; curly apostrophes are straight, underscores at the edges of a word go, and
    /// what NFKC makes a space separates; what holds no letter or digit is no word. Version 2, that of new databases.
    #[default]
    Standard,
    /// Version 1 of [`Analyzer::Standard`], for the databases that were made with it: Unicode word boundaries, NFKC and
    /// lower case, and nothing else.
    StandardV1,
    /// The text between Unicode white space, unchanged: exactly Go's `strings.Fields`.
    Whitespace,
}

impl Analyzer {
    /// Calls `each` with every word of `text`, in order, folded, however long.
    pub fn for_each_word(self, text: &str, each: impl FnMut(&str)) {
        self.words_within(text, usize::MAX, each);
    }

    /// Calls `each` with every word of `text` that has at most `max_bytes` bytes once folded, in order, folded.
    /// Returns how many words were left out because they are longer.
    pub fn words_within(self, text: &str, max_bytes: usize, mut each: impl FnMut(&str)) -> u64 {
        match self {
            Self::Standard => standard::words_within(StandardVersion::Two, text, max_bytes, each),
            Self::StandardV1 => standard::words_within(StandardVersion::One, text, max_bytes, each),
            Self::Whitespace => {
                let mut left_out = 0;
                // `char::is_whitespace` is the Unicode property White_Space, which is what Go's `unicode.IsSpace` is.
                for word in text.split_whitespace() {
                    if word.len() <= max_bytes {
                        each(word);
                    } else {
                        left_out += 1;
                    }
                }
                left_out
            }
        }
    }

    /// Puts text into the form its words are counted in, in place, if it is ASCII; `false`, and nothing is done, if it
    /// is not.
    pub fn normalize_ascii(self, text: &mut str) -> bool {
        let is_ascii = text.is_ascii();
        if is_ascii && self != Self::Whitespace {
            text.make_ascii_lowercase();
        }
        is_ascii
    }

    /// [`Analyzer::words_within`] for text that [`Analyzer::normalize_ascii`] has folded: the words are parts of it.
    #[inline]
    pub fn ascii_words_within<'t>(self, text: &'t str, max_bytes: usize, mut each: impl FnMut(&'t str)) -> u64 {
        let mut left_out = 0;
        let give = |word: &'t str| {
            if word.len() <= max_bytes {
                each(word);
            } else {
                left_out += 1;
            }
        };
        match self {
            Self::Standard => ascii::slices(text, give),
            Self::StandardV1 => ascii::slices_v1(text, give),
            Self::Whitespace => ascii::fields(text, give),
        }
        left_out
    }

    /// The form a name has in reads and in `/update`. A name is never segmented: it is one word as it stands. A name of
    /// nothing but underscores and invisible characters folds to nothing, which names no word.
    pub fn normalize(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Standard => version2::normalize(name),
            Self::StandardV1 => normalize::normalize(name),
            Self::Whitespace => Cow::Borrowed(name),
        }
    }

    /// The name users know it by: `standard` or `whitespace`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard | Self::StandardV1 => "standard",
            Self::Whitespace => "whitespace",
        }
    }

    /// The number it has in the headers of files and messages. Never reused, never 0.
    pub const fn code(self) -> u16 {
        match self {
            Self::Standard | Self::StandardV1 => 1,
            Self::Whitespace => 2,
        }
    }

    /// The analyzer with this [`Analyzer::code`] and [`Analyzer::version`], or `None` if this program knows none.
    pub const fn from_code(code: u16, version: u16) -> Option<Self> {
        match (code, version) {
            (1, 1) => Some(Self::StandardV1),
            (1, 2) => Some(Self::Standard),
            (2, 1) => Some(Self::Whitespace),
            _ => None,
        }
    }

    /// The version of its rules, kept in files beside [`Analyzer::code`].
    ///
    /// It is raised when any text would be counted differently. That includes new tables in ICU, in
    /// `unicode-normalization` or in Rust's own `char`: the test `the_rules_are_those_of_this_version` notices.
    /// Databases go on with the version they were made with, so the one before stays known.
    pub const fn version(self) -> u16 {
        match self {
            Self::StandardV1 | Self::Whitespace => 1,
            Self::Standard => 2,
        }
    }
}

impl fmt::Display for Analyzer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// No analyzer has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no analyzer is called `{0}`: use `standard` or `whitespace`")]
pub struct UnknownAnalyzer(String);

impl FromStr for Analyzer {
    type Err = UnknownAnalyzer;

    fn from_str(name: &str) -> Result<Self, UnknownAnalyzer> {
        match name {
            "standard" => Ok(Self::Standard),
            "whitespace" => Ok(Self::Whitespace),
            _ => Err(UnknownAnalyzer(name.to_owned())),
        }
    }
}

/// Bytes that should be text are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not UTF-8: the byte at offset {offset} cannot stand there; send UTF-8")]
pub struct InvalidUtf8 {
    /// Bytes before the first that is not part of a whole character.
    pub offset: usize,
}

/// The bytes as text.
///
/// # Errors
/// [`InvalidUtf8`] with the offset of the first byte that is not part of a whole character. Nothing is replaced: a
/// text with U+FFFD in it would be counted as something its sender never wrote.
pub fn decode_utf8(bytes: &[u8]) -> Result<&str, InvalidUtf8> {
    std::str::from_utf8(bytes).map_err(|error| InvalidUtf8 { offset: error.valid_up_to() })
}

/// For the fuzzer (`fuzz/fuzz_targets`): the paths one by one. Only in builds for tests.
#[cfg(feature = "failpoints")]
pub mod untrusted {
    use super::{
        Analyzer,
        standard::segment,
        word_sink::{StandardVersion, WordSink},
    };

    /// The words of a text under a version of `standard` by ICU over the whole of it; what the paths together must
    /// equal.
    pub fn words_by_icu(analyzer: Analyzer, text: &str, each: impl FnMut(&str)) {
        let version = if analyzer == Analyzer::StandardV1 { StandardVersion::One } else { StandardVersion::Two };
        segment(text, &mut WordSink::new(version, usize::MAX, each));
    }
}
