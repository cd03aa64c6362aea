//! The sink of words that both ways of cutting a text share, and the versions of the rules.

/// The versions of the rules. All that a version decides is decided by this, so that the one before stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StandardVersion {
    One,
    Two,
}

/// The sink of normalized words: leaves out the long ones.
pub(super) struct WordSink<F> {
    pub(super) version: StandardVersion,
    pub(super) max_bytes: usize,
    each: F,
    pub(super) left_out: u64,
    /// The lower-case form of the text at hand, so that a word costs no allocation.
    pub(super) lower: String,
}

impl<F: FnMut(&str)> WordSink<F> {
    pub(super) fn new(version: StandardVersion, max_bytes: usize, each: F) -> Self {
        Self { version, max_bytes, each, left_out: 0, lower: String::new() }
    }

    /// Takes a word that is folded.
    #[inline]
    pub(super) fn push_normalized(&mut self, word: &str) {
        if word.len() > self.max_bytes {
            self.left_out += 1;
        } else {
            (self.each)(word);
        }
    }
}
