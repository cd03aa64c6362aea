//! Between nodes: replicas, local replicas, promotion and loss of a leader, in this process over real files and
//! sockets.

mod clocks;
mod dead_thread;
mod local_replica;
mod lost_leader;
mod node_identity;
mod promotion;
mod replica;
mod served;
