//! STUB, being replaced: same interface.
use std::borrow::Cow;

/// How text becomes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Analyzer {
    /// Unicode word boundaries, NFKC, lower case.
    Standard,
    /// Split at Unicode white space, nothing folded.
    Whitespace,
}

impl Analyzer {
    /// Calls `each` with every word of `text`, in order, folded.
    pub fn for_each_word(self, text: &str, mut each: impl FnMut(&str)) {
        for word in text.split_whitespace() {
            each(&self.fold(word));
        }
    }

    /// The form a name has in reads and in `/update`: what was counted as a word can be asked for as that word.
    pub fn fold(self, name: &str) -> Cow<'_, str> {
        match self {
            Analyzer::Standard => Cow::Owned(name.to_lowercase()),
            Analyzer::Whitespace => Cow::Borrowed(name),
        }
    }
}
impl Analyzer {
    pub const fn code(self) -> u16 {
        match self {
            Analyzer::Standard => 1,
            Analyzer::Whitespace => 2,
        }
    }
    pub const fn version(self) -> u16 {
        1
    }
    pub fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Analyzer::Standard),
            2 => Some(Analyzer::Whitespace),
            _ => None,
        }
    }
}
impl std::fmt::Display for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
