//! Sockets: how bytes come in and go out, whatever the protocol.
//!
//! [`http_client`] builds every HTTP client and reads its errors. Over it go [`peer_link`], the way to another node,
//! with [`append_connection`] for what the leader sends all the time
//! and [`peer_credentials`] for who the node is, [`write_forwarder`], the way of a client's write
//! to the leader, [`read_fallback`], that of a read to a node that can answer it, [`stats_client`], which asks other
//! nodes for their numbers, and [`origin_client`], which fetches values from an origin. For what comes in, [`listener`]
//! accepts connections and runs the serving threads of a protocol; [`address_limits`] and [`budget`] bound what clients
//! may hold, together and each, and [`timer`] is the timer of a connection. [`tls`] is what protects either way, and
//! [`client_stream`] is a client's connection, with it or without.

pub mod address_limits;
mod append_connection;
pub mod budget;
pub mod client_stream;
pub mod http_client;
pub mod link_error;
pub mod listener;
mod node_stream;
pub mod origin_client;
pub mod peer_credentials;
pub mod peer_link;
pub mod read_fallback;
pub mod stats_client;
pub mod timer;
pub mod tls;
pub mod write_forwarder;
