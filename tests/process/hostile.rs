//! Clients that are slow, greedy or gone, and bulk data at the edge of the budget, against a real leader: what it
//! costs, that the others are served meanwhile, and that every count is exact. `make hostile` is the long form, with
//! 10,000 connections of each kind.
//!
//! Time-outs are tested in `tests/api`, where they can be short. A peer that has vanished without a word (half-open) is
//! to the server one that says nothing, or takes nothing: it ends by the same time-outs.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests of real processes: real time, real files"
)]

mod budget;
mod crowd;
mod handshakes;
