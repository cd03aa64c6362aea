//! Offers to a replica with files: whatever comes, what it serves is its history gone on, by position, chain and
//! counts, and its files give the same again.

use super::seal::{self, IDENTITY, Seal, Sealed};
use crate::{
    counts_model::{CountsModel, entries_digest},
    disk::{Files, MemoryDisk},
    replica::{ReplicaEvent, TestReplica},
};
use memdb::{
    base::position::{EpochTable, Position},
    data::store::StateId,
    replication::{AppendCommand, AppendOutcome, AppendRequest},
    storage::disk::Disk,
    storage::file_header::MANIFEST,
    storage::manifest::{Manifest, ManifestState},
};
use std::sync::Arc;

/// Bytes of an offer besides its records: how it is sealed, its epoch, where it begins, what it wants.
const HEAD_BYTES: usize = 6;
/// Small, so that a segment is finished now and then.
const SEGMENT_BYTES: u64 = 1 << 12;

pub fn offer(data: &[u8]) {
    let state = ManifestState { epoch: 1, boot_id: "boot".into(), ..ManifestState::default() };
    let files = Files::from([(MANIFEST.to_owned(), Manifest { identity: IDENTITY, state }.encode())]);
    let disk = MemoryDisk::new(&files) as Arc<dyn Disk>;
    let mut replica = start(&disk);
    let (mut leader, mut epochs) = (Sealed::begin(), EpochTable::default());
    let mut rest = data;
    for turn in 0..8 {
        let Some((&head, behind)) = rest.split_first_chunk::<HEAD_BYTES>() else { break };
        let len = usize::from(u16::from_le_bytes([head[4], head[5]])).min(behind.len());
        one(&mut replica, (&mut leader, &mut epochs), head, behind[..len].to_vec(), turn);
        rest = &behind[len..];
    }
    if let Some(store) = replica.replica.store() {
        let (mark, model) = (store.mark(), CountsModel::of(store));
        let digest = model.digest(IDENTITY.hasher()).wrapping_add(entries_digest(store));
        assert_eq!(digest, mark.digest, "what is served has the digest of its position");
        drop(replica);
        // What is diverged is kept and refused until a snapshot has come; all else starts again where it was.
        if let Some(again) = start(&disk).replica.store() {
            // Where nothing was applied, a restart may know of a later epoch that stands at the same record.
            let (stands, what) = (again.mark(), "the files give the same again");
            assert!(stands.position.epoch >= mark.position.epoch, "{what}: {mark:?}, then {stands:?}");
            assert_eq!((stands.position.sequence, stands.chain), (mark.position.sequence, mark.chain), "{what}");
            assert_eq!(CountsModel::of(again), model, "{what}");
        }
    }
}

fn start(disk: &Arc<dyn Disk>) -> TestReplica {
    TestReplica::over(Some(Arc::clone(disk)), 1, 0, SEGMENT_BYTES)
}

/// One offer of a leader that stands here, and remembers how its epochs ended.
fn one(
    replica: &mut TestReplica,
    (leader, epochs): (&mut Sealed, &mut EpochTable),
    head: [u8; HEAD_BYTES],
    mut records: Vec<u8>,
    turn: u32,
) {
    let seal = Seal::of(head[0]);
    let before = leader.position;
    let here = replica.replica.store().map_or(Position::ZERO, |store| store.mark().position);
    // A new epoch, sometimes; it never goes back on the leader's side, but an offer may be an old one.
    leader.position.epoch += u64::from(head[1] % 8 == 1);
    if leader.position.epoch > before.epoch {
        epochs.end(Position::new(before.epoch, before.sequence));
    }
    let mut goes_on = leader.clone();
    seal::records(&mut records, seal, &mut goes_on);
    let last =
        StateId { position: goes_on.position, digest: goes_on.model.digest(IDENTITY.hasher()), chain: goes_on.chain };
    let offer = AppendRequest {
        identity: IDENTITY,
        leader: u128::from(head[1] / 128),
        epoch: leader.position.epoch.saturating_sub(u64::from(head[1] % 8 == 2)),
        epochs: epochs.clone(),
        last,
        command: [AppendCommand::Append, AppendCommand::Append, AppendCommand::Probe, AppendCommand::InstallSnapshot]
            [usize::from(head[2]) % 4],
        after: Position::new(here.epoch, here.sequence + u64::from(head[3] % 4 == 3)),
        durable: head[2] & 16 != 0,
        members: None,
        records: &records,
    };
    let mut bytes = offer.encode_head();
    bytes.extend_from_slice(&records);
    if seal == Seal::Raw && head[3] & 64 != 0 {
        bytes = records.clone();
    }
    let was = replica.replica.store().map(|store| (store.mark(), CountsModel::of(store)));
    (replica.now_ms, replica.seen, replica.answers) = (u64::from(turn), Vec::new(), Vec::new());
    replica.offered(&bytes, turn, None);
    replica.seen.iter().filter(|seen| matches!(seen, ReplicaEvent::Published(_))).for_each(|_| super::accepted());
    let applied = replica.answers.iter().any(|(_, answer)| answer.outcome == AppendOutcome::Applied);
    let now = replica.replica.store().map(|store| (store.mark(), CountsModel::of(store)));
    if let (Some((was, _)), Some((now, model))) = (&was, &now) {
        assert!(now.position.sequence >= was.position.sequence, "it never goes back");
        let entries = replica.replica.store().map_or(0, entries_digest);
        assert_eq!(model.digest(IDENTITY.hasher()).wrapping_add(entries), now.digest, "whole records only");
    }
    if applied && seal == Seal::Digests && offer.command == AppendCommand::Append {
        *leader = goes_on;
    } else if let Some((mark, model)) = now {
        // What the replica made of it is where the leader goes on.
        *leader = Sealed {
            position: Position::new(mark.position.epoch.max(leader.position.epoch), mark.position.sequence),
            chain: mark.chain,
            model,
        };
    }
}
