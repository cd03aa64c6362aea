//! Clients that are slow, greedy or gone, and bulk data at the edge of the budget, against a real leader: what it
//! costs, that the others are served meanwhile, and that every count is exact. `make hostile` is the long form, with
//! 10,000 connections of each kind.
//!
//! Time-outs are tested in `tests/http`, where they can be short. A peer that has vanished without a word (half-open)
//! is to the server one that says nothing, or takes nothing: it ends by the same time-outs.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests of real processes: real time, real files"
)]

mod budget;
#[path = "../faults/cluster.rs"]
#[allow(dead_code, reason = "real processes, of which less is needed here")]
mod cluster;
mod crowd;
#[path = "../faults/web.rs"]
#[allow(dead_code, reason = "what clients send, of which less is needed here")]
mod web;
