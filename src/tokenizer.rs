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
