//! The words of one segment of a snapshot's image, gathered until the segment is complete.

/// Words of one segment, on their way in.
#[derive(Default)]
pub(super) struct SegmentBuffer {
    pub(super) text: String,
    pub(super) words: Vec<BufferedWord>,
}

pub(super) struct BufferedWord {
    pub(super) hash: u64,
    pub(super) count: i64,
    /// The end of the word in the text.
    pub(super) end: usize,
}

impl SegmentBuffer {
    pub(super) fn push(&mut self, hash: u64, word: &str, count: i64) {
        self.text.push_str(word);
        self.words.push(BufferedWord { hash, count, end: self.text.len() });
    }
}
