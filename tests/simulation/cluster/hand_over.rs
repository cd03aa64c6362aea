//! A role that ends in memory, as in `src/node/role_switch.rs`: it comes to rest, an operation of the disk at a time,
//! and the next role of the process goes on with its store and its open files. Now and then the process dies instead,
//! and reads its files.

use super::{follower::Following, leader::Leading, machines::Process, network::Place, simulation::Cluster};
use memdb::{data::store::StoreReader, storage::disk::Disk, storage::recovery::RecoveredDatabase};
use std::sync::Arc;

/// What is served between two roles.
pub type Served = Option<StoreReader>;

/// How a role ended.
pub enum HandOver {
    /// The next role goes on with this.
    Kept(Arc<dyn Disk>, Box<RecoveredDatabase>, Served),
    /// It has to read the files; the process goes on.
    ReadFiles,
    /// The process died on the way, and is still to be buried.
    Died,
}

/// Of a hundred roles that end, so many go on in memory. The others die and read their files.
pub const IN_MEMORY: usize = 80;
/// Rounds in which a role comes to rest.
const ROUNDS: usize = 1_000;

impl Cluster {
    /// A replica ends its role.
    pub fn replica_hands_over(&mut self, at: Place) -> Result<HandOver, String> {
        for _ in 0..ROUNDS {
            if self.nodes[at].machine.lock().crashed() {
                return Ok(HandOver::Died);
            }
            let Some(following) = self.nodes[at].following_mut() else { return Ok(HandOver::Died) };
            following.hands_over = true;
            following.replica.cancel_snapshot();
            if following.replica.is_at_rest() {
                let Process::Follows(following) = std::mem::replace(&mut self.nodes[at].process, Process::None) else {
                    unreachable!("it was looked at")
                };
                let Following { replica, disk, view, .. } = *following;
                let kept = replica.hand_over().zip(disk);
                let kept = kept.map(|(kept, disk)| HandOver::Kept(disk, Box::new(kept), view));
                return Ok(kept.unwrap_or(HandOver::ReadFiles));
            }
            let mut actions = Vec::new();
            following.replica.start_sync(&mut actions);
            self.act(at, actions)?;
            self.sync_replica(at)?;
            self.snapshot_replica(at)?;
        }
        Err(format!("replica {at} does not come to rest"))
    }

    /// A leader that has stood down ends its role.
    pub fn leader_hands_over(&mut self, at: Place) -> Result<HandOver, String> {
        for _ in 0..ROUNDS {
            if self.nodes[at].machine.lock().crashed() {
                return Ok(HandOver::Died);
            }
            let Some(leading) = self.nodes[at].leading_mut() else { return Ok(HandOver::Died) };
            leading.writer.cancel_snapshot();
            if leading.writer.is_at_rest() && leading.wanted.is_empty() {
                let Process::Leads(leading) = std::mem::replace(&mut self.nodes[at].process, Process::None) else {
                    unreachable!("it was looked at")
                };
                let view = Some(leading.reader.clone());
                let Leading { writer, manifest, disk, .. } = *leading;
                let kept = writer.hand_over(manifest).map(|kept| HandOver::Kept(disk, Box::new(kept), view));
                return Ok(kept.unwrap_or(HandOver::ReadFiles));
            }
            leading.writer.start_sync(&mut leading.wanted);
            self.sync_leader(at)?;
            self.snapshot_leader(at)?;
        }
        Err(format!("leader {at} does not come to rest"))
    }
}
