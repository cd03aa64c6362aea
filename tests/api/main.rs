//! The HTTP interface as a client sees it: a server on a loopback port, spoken to byte by byte.

mod bad_requests;
mod bounds;
mod browsers;
mod bulk;
mod cases;
mod compressed;
mod connections;
mod counters;
mod entries;
mod fast_path;
mod fast_path_entries;
mod follower_entries;
mod followers;
mod http2;
mod in_and_out;
mod node;
mod parameters;
mod post_rate;
mod posts;
mod routes;
mod shares;
mod through;
mod tls;
mod users;
mod watch;
mod writes;
