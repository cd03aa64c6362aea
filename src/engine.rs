//! The roles that a node can have for one database, as state machines that are handed the time, what reads are answered
//! from, and the shard, which is both together.

pub mod file_follower;
pub mod leader;
pub mod replica;
pub mod shard;
pub mod view;
