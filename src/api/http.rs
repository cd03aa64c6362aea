//! Counts over HTTP.
//!
//! A request reads straight down: `serve` accepts and deals connections to threads; `connection` tells
//! HTTP/1 from HTTP/2 and runs hyper; `door` lies between hyper and the socket, keeps the time and lets only sound
//! heads (`head`) pass; `front` refuses what no route should see; `routes` names every route as a warp filter; `reads`
//! and `writes` answer; `problem` is the one shape of everything wrong.

mod body;
mod connection;
mod door;
mod form;
mod framing;
mod front;
mod head;
mod headers;
mod operations;
mod problem;
mod query;
mod reads;
mod routes;
mod serve;
mod settings;
mod sync;
mod update;
mod writes;

pub use serve::Server;
pub use settings::HttpSettings;

use crate::{
    leader::{AckLevel, Leader},
    metrics::Metrics,
    tokenizer::Analyzer,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// What the routes answer from: handed in by the node, cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Writes go through it, and it knows the counts.
    pub leader: Leader,
    /// How text becomes words.
    pub analyzer: Analyzer,
    /// Where requests are counted, and what `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Whether the node serves current data.
    pub readiness: Readiness,
    /// What `/status` tells beside the live numbers.
    pub about: Arc<About>,
}

/// What `/status` tells that does not change while the node runs.
#[derive(Clone, Debug)]
pub struct About {
    /// `leader`, and later the other roles.
    pub role: &'static str,
    /// The database's id as text, once it has one.
    pub database_id: Option<String>,
    /// The level a write is acknowledged at when its request names none.
    pub default_ack: AckLevel,
}

/// Whether the node serves current data: `/health/ready`. The node says so, the routes read it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that the node serves current data, or that it does not (while it starts, and once it stops).
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether the node serves current data.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
