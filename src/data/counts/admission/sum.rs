//! The sum of a count and an amount, as far as the operation lets it go.

use super::{BatchSums, CountStep, PendingNamespace};
use crate::{
    base::limits,
    data::counts::{
        CountsRefusal, WriteOp,
        index::{EntryOffset, IndexWriter, PAIR_BYTES, Prefetcher},
        word_counts::WordCounts,
    },
};

impl PendingNamespace {
    /// Adds a batch up with the counts there are. Returns an upper bound of the memory that its words will add.
    /// `is_near`: the budget is so near that pairs of counts have to be looked for.
    pub(super) fn sum_up(
        &mut self,
        words: Option<&IndexWriter>,
        op: WriteOp,
        batch: &WordCounts,
        is_near: bool,
        sums: &mut BatchSums,
    ) -> Result<usize, CountsRefusal> {
        let mut added = 0;
        sums.counts.clear();
        sums.offsets.clear();
        let mut ahead = Prefetcher::new(batch.hashes().map(|hash| (hash, EntryOffset::UNKNOWN)));
        for counted in batch.iter() {
            if let Some(words) = words {
                ahead.fetch(words);
            }
            let (before, offset) = self.count(words, counted.hash, counted.word);
            sums.offsets.push(offset);
            let after = sum_of(op, before, counted.amount).map_err(|refuse| refuse(counted.word.to_owned()))?;
            if before == 0 {
                added += self.reservation.of_word(words, counted.hash, counted.word);
            } else if is_near
                && let Some(words) = words
                && words.widens(counted.hash, counted.word, after)
                // An earlier batch of the group has paid for it.
                && !words.widens(counted.hash, counted.word, before)
            {
                added += PAIR_BYTES;
            }
            sums.counts.push(CountStep { before, after });
        }
        Ok(added)
    }
}

/// The count behind an amount, or the refusal if that goes too far.
#[inline]
fn sum_of(op: WriteOp, count: i64, amount: i64) -> Result<i64, fn(String) -> CountsRefusal> {
    let sum = count.checked_add(amount).ok_or(match op {
        WriteOp::AddGiven => (|word| CountsRefusal::BeyondBound { word }) as fn(String) -> CountsRefusal,
        _ => |word| CountsRefusal::Overflow { word },
    })?;
    match op {
        WriteOp::AddGiven => {
            // A count that text has taken beyond the bound may come back towards it, and not go further.
            let bound = limits::MAX_GIVEN_COUNT.unsigned_abs().max(count.unsigned_abs());
            if sum.unsigned_abs() <= bound { Ok(sum) } else { Err(|word| CountsRefusal::BeyondBound { word }) }
        }
        // A post takes back what it has counted: below zero somebody else has taken that away already.
        WriteOp::Exchange if amount < 0 && sum < 0 => Err(|word| CountsRefusal::BelowZero { word }),
        _ => Ok(sum),
    }
}
