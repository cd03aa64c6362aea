//! The stored data: the records that change the database, the store that applies them, and a folder for each kind of
//! data.

pub mod counts;
pub mod record;
pub mod store;
