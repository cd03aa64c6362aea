//! The things that memdb's tests share, each of them once.
//!
//! A test binary of `tests/` is a set of cases; whatever two of them need is here. The crate is a dev-dependency of
//! `memdb` and depends on it in turn, with failpoints. So unit tests inside `src` cannot use it: its `memdb` is another
//! crate than their `crate`.

#![allow(missing_docs, reason = "a name that says it all is enough for those who read tests")]
#![allow(clippy::print_stderr, reason = "a node that a failing test leaves behind shows what it said")]
#![allow(clippy::disallowed_methods, reason = "tests own real time, real files and real threads")]

pub mod alone;
pub mod checker;
pub mod client;
pub mod counts_model;
pub mod database;
pub mod disk;
pub mod env;
pub mod events;
pub mod fuzz;
pub mod guard;
pub mod node;
pub mod process;
pub mod random;
pub mod replica;
pub mod tls;
pub mod wait;
pub mod wire;
pub mod words;

pub use alone::is_alone;
pub use env::number_from;
pub use random::Random;
pub use wait::{PATIENCE, wait_for, wait_for_within, wait_until};
