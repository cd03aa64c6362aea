//! The documents and the source tree: commands run, tests named are there, bounds are the code's, modules keep their
//! order.

mod commands;
mod guarantees;
mod limits;
