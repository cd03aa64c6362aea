//! The stored data: the commands that ask for a change, the records that make it, the store that applies these, and a
//! folder for each kind of data.

pub mod command;
pub mod content_digest;
pub mod counters;
pub mod counts;
pub mod entries;
pub mod posts;
pub mod record;
pub mod store;
