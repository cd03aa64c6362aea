//! Values, bounds and clocks that everything else is made of. No I/O, no async code.

pub mod address;
pub(crate) mod atomics;
pub mod clock;
pub mod failpoint;
pub mod hash;
pub mod limits;
pub mod line_budget;
#[cfg(test)]
pub(crate) mod log_capture;
pub mod metrics;
pub mod names;
pub mod position;
pub mod reload;
pub mod retry;
pub mod secret;
pub mod trace;
pub mod web_origin;
