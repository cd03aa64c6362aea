//! The names of answers, under which a run counts them.

use crate::client::Wish;
use memdb::{
    data::counters::COUNTERS,
    data::counts::WriteOp,
    engine::leader::{WriteError, WriteReceipt},
};

/// What a client is told of its wish, in a few words.
pub fn name_of(answer: &Result<WriteReceipt, WriteError>, wish: &Wish) -> &'static str {
    let (of_lines, of_entries, of_counters) =
        (wish.hash.is_some(), !wish.entries.is_empty(), wish.namespace == COUNTERS);
    match answer {
        Ok(receipt) if receipt.replayed => "repeats answered as such",
        Ok(_) if of_lines => "lines counted",
        Ok(_) if of_entries => "entries written",
        Ok(_) if of_counters && wish.verb == WriteOp::Increment => "increments accepted",
        Ok(_) if of_counters => "counters taken away",
        Ok(_) => "writes counted",
        Err(WriteError::KeyReused) if of_lines => "lines of another text",
        Err(WriteError::KeyReused) => "names used again",
        Err(WriteError::StreamGap { .. }) if of_lines => "lines that stand elsewhere",
        Err(WriteError::StreamGap { .. }) => "gaps in streams",
        Err(WriteError::WindowFull | WriteError::StreamWindowFull) => "refusals by a full window",
        Err(WriteError::Overflow { .. }) => "refusals of an overflow",
        Err(WriteError::BeyondBound { .. }) => "refusals of an amount beyond the bound",
        Err(WriteError::MemoryFull) => "refusals for want of memory",
        Err(WriteError::PreconditionFailed) => "refusals of a condition",
        Err(WriteError::EntriesFull) => "refusals for want of room for entries",
        Err(WriteError::BelowZero { .. }) => "refusals to go below zero",
        Err(WriteError::CounterQueueFull(_)) => "refusals by a full queue of counters",
        Err(WriteError::RateExceeded(_)) => "refusals beyond the rate of a counter",
        Err(WriteError::OutcomeUnknown) => "unknown outcomes",
        Err(_) => "refusals after a failure",
    }
}
