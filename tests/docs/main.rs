//! The documents: their commands work, the tests they name are there, the bounds they tell are the code's.

mod commands;
mod guarantees;
mod limits;
