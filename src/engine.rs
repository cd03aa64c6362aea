//! The roles that a node can have for one database, as state machines that are handed the time, and what reads are
//! answered from.

pub mod file_follower;
pub mod leader;
pub mod replica;
pub mod view;
