//! Entries over HTTP: what the routes of a cache (`cache`) and of posts (`api/http/posts/`) share.
//!
//! `key`, `ttl` and `tags` read what clients send, and write it back; `answer` has the head and the body of one entry,
//! `command` reads a write and writes the body of its answer, both for the routes and the fast path alike; `read` and
//! `write` take requests to the service, `listing` has pages of entries and several at once, `many` the body that
//! writes several.

pub(super) mod answer;
pub(super) mod cache;
pub(super) mod command;
#[cfg(feature = "failpoints")]
pub mod fuzz_api;
pub(super) mod key;
pub(super) mod listing;
mod many;
pub(super) mod media_type;
pub(super) mod read;
pub(super) mod tags;
pub(super) mod through;
pub(super) mod ttl;
pub(super) mod write;
