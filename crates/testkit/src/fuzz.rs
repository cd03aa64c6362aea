//! What is fuzzed: plain functions over bytes that panic where something does not hold.
//!
//! libFuzzer runs them (`fuzz_targets/`, `make fuzz`), and so does `tests/storage/fuzz_corpus.rs` on every build, over
//! the corpus and some thousand mutations of it. Bytes behind a checksum would never get past it, so most targets take
//! a first byte that says how far the rest is made right (`seal.rs`): not at all, its checksums, its chain, its
//! digests.

mod claim;
mod config;
mod counters;
mod entries;
mod fast_path;
mod http;
mod log;
mod message;
mod offer;
pub mod seal;
mod snapshot;
mod text;

use std::cell::Cell;

thread_local!(static ACCEPTED: Cell<u64> = const { Cell::new(0) });

/// An input was accepted: what is tested behind that was reached.
fn accepted() {
    ACCEPTED.set(ACCEPTED.get() + 1);
}

/// How many inputs were accepted in this thread.
pub fn inputs_accepted() -> u64 {
    ACCEPTED.get()
}

/// A target: its name, which is its folder in the corpus too, and what runs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: &[Target] = &[
    ("log", log::log),
    ("snapshot", snapshot::snapshot),
    ("manifest", snapshot::manifest),
    ("message", message::message),
    ("offer", offer::offer),
    ("http", http::http),
    ("head", http::head),
    ("fast_path", fast_path::fast_path),
    ("text", text::text),
    ("claim", claim::claim),
    ("entries", entries::entries),
    ("counters", counters::counters),
    ("config", config::config),
];

/// Runs one target.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = ALL.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}
