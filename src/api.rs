//! The protocols by which clients reach a node.
//!
//! Each protocol has a folder of its own; nothing below knows that there is one.

pub mod error;
pub mod http;
pub mod service;
