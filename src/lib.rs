//! memdb: an in-memory word-count database. (The map comes here.)

pub mod client;
pub mod config;
pub mod hash;
pub mod leader;
pub mod limits;
pub mod position;
pub mod store;
pub mod tally;
pub mod tokenizer;
