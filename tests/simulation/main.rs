//! The simulation: the real cores under a faulty disk, crashes, clients that repeat, and a bad network; in one thread,
//! from one seed.
//!
//! `docs/simulation.md` says what it does, and how to replay what it has found. [`one_node`] and [`cluster`] share the
//! disks, the clients, the model, and the way a seed is run, replayed and shrunk.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod checker;
mod client;
mod client_histories;
mod cluster;
mod counters;
mod disk;
mod entries;
mod entry_histories;
mod forwarding;
mod history;
mod model;
mod one_node;
mod plant;
mod records;
mod run;
mod texts;
