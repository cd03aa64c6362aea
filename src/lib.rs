//! memdb: an in-memory word-count database. (The map comes here.)

pub mod api;
pub mod hash;
pub mod leader;
pub mod limits;
pub mod metrics;
pub mod position;
pub mod store;
pub mod tally;
pub mod tokenizer;
