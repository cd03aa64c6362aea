//! The sum of a count and an amount, as far as the operation lets it go.

use crate::{
    base::limits,
    data::counts::{CountsRefusal, WriteOp},
};

/// The count behind an amount, or the refusal if that goes too far.
#[inline]
pub(super) fn sum_of(op: WriteOp, count: i64, amount: i64) -> Result<i64, fn(String) -> CountsRefusal> {
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
