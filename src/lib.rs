//! memdb: an in-memory word-count database. (The map comes here.)

pub mod api;
pub mod client;
pub mod config;
pub mod disk;
pub mod format;
pub mod hash;
pub mod leader;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod node;
pub mod position;
pub mod record;
pub mod recovery;
pub mod snapshot;
pub mod store;
pub mod tally;
pub mod tokenizer;
pub mod words;
