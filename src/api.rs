//! The API of a node: the service, its errors, and the protocols over it.
//!
//! Each protocol has a folder of its own; nothing below knows that there is one.

pub mod auth;
pub mod error;
pub mod http;
pub mod service;
