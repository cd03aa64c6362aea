//! Large batches, whose buffers a commit group takes over: blocks of a bulk upload, and long texts.

use super::{CountStep, PendingCounts, PendingNamespace};
use crate::{base::failpoint::inject, base::hash::weight, data::counts::word_counts::WordCounts};

/// A batch of so many words gives its buffer of counts to a group that has no words yet. A smaller one does not: the
/// group's own buffer is larger.
pub(super) const TAKEN_OVER_WORDS: usize = 256;

impl PendingCounts {
    /// Returns whether a batch becomes a record of its own: a block of text comes without an index, and making one
    /// costs more than a record.
    pub(crate) fn is_block(counts: &WordCounts) -> bool {
        !counts.is_indexed() && counts.len() >= TAKEN_OVER_WORDS
    }
}

impl PendingNamespace {
    /// Makes a batch's word counts the group's, in exchange for the empty ones, so that its words need not go into
    /// another index.
    pub(super) fn take_over(&mut self, batch: &mut WordCounts, steps: &[CountStep]) {
        std::mem::swap(&mut self.counts, batch);
        let mut digest = self.digest;
        for (hash, step) in self.counts.hashes().zip(steps) {
            digest = digest.wrapping_sub(weight(hash, step.before)).wrapping_add(weight(hash, step.after));
        }
        self.digest = digest;
        inject!(TakesOverAmounts, return);
        self.counts.amounts_mut().zip(steps).for_each(|(amount, step)| *amount = step.after);
    }
}
