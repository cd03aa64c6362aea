//! The MANIFEST: what a database is, and what its starts and stops have promised.
//!
//! One small file, replaced whole. It is written at every start of a leader and at a clean stop, when a replica comes
//! or goes for good, at a promise, and on a replica at a new epoch and after a full sync: never on the write path.

use crate::{
    base::failpoint,
    base::limits,
    base::position::{Epoch, EpochTable, Position},
    storage::disk::{self, Disk, DiskFile},
    storage::file_header::{
        self, DatabaseIdentity, FILE_HEADER_BYTES, FileDamage, FileError, FileHeader, FileKind, MANIFEST,
    },
};
use bincode::{Decode, Encode};

/// The contents of the MANIFEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The database.
    pub identity: DatabaseIdentity,
    /// The part that changes.
    pub state: ManifestState,
}

/// The part of the MANIFEST that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ManifestState {
    /// The epoch of the last start.
    pub epoch: Epoch,
    /// The end of every epoch before it.
    pub epochs: EpochTable,
    /// Set by a clean stop: the last record, which is synced. The next start takes it away.
    pub clean_stop: Option<Position>,
    /// Incremented on every write of this file, so that a follower of the files notices a write that changes nothing
    /// else, and opens the log anew.
    pub generation: u64,
    /// The machine's boot at the last start: a change without a clean stop means the machine itself went down.
    /// Empty where no leader has started since a follower wrote here.
    pub boot_id: String,
    /// The URL of the leader, or of the node that was promised the lead last.
    pub leader_url: Option<String>,
    /// URLs of replicas that have been connected, and are not forgotten.
    pub replicas: Vec<String>,
    /// A later epoch, that this node has promised to somebody who is about to lead in it: nobody who leads in an
    /// earlier one is followed any more. 0: none.
    pub promised: Epoch,
    /// The name of the node, by which a cluster knows it as long as it has this directory. Empty: none yet.
    pub node_name: String,
    /// A random number that stays as long as every record which was acknowledged here is here
    /// ([`ManifestState::keeps_incarnation`]). 0: none yet, the next start draws one.
    pub incarnation: u64,
    /// The machine's boot at the last start in any role, for the incarnation: `boot_id` says of a follower nothing.
    pub incarnation_boot: String,
}

/// The part of a MANIFEST of format 1 that changes.
#[derive(Decode)]
struct ManifestStateV1 {
    epoch: Epoch,
    epochs: EpochTable,
    clean_stop: Option<Position>,
    generation: u64,
    boot_id: String,
    leader_url: Option<String>,
    replicas: Vec<String>,
    promised: Epoch,
}

impl From<ManifestStateV1> for ManifestState {
    fn from(old: ManifestStateV1) -> Self {
        let ManifestStateV1 { epoch, epochs, clean_stop, generation, boot_id, leader_url, replicas, promised } = old;
        let state = Self { epoch, epochs, clean_stop, generation, boot_id, ..Self::default() };
        Self { leader_url, replicas, promised, ..state }
    }
}

/// Returns whether a text can be the name of a node: 1 to [`limits::MAX_NODE_NAME_BYTES`] of `a-z 0-9 . _ -`.
pub fn is_node_name(text: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=limits::MAX_NODE_NAME_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

impl ManifestState {
    /// The highest epoch that was seen.
    pub fn highest(&self) -> Epoch {
        self.epoch.max(self.promised)
    }

    /// Returns whether a follower wrote these files last: no leader has started on them since. The leader it followed
    /// may be there still, and take the next epoch itself.
    pub fn has_followed(&self) -> bool {
        self.epoch > 0 && self.boot_id.is_empty()
    }

    /// Returns whether the node that these files belong to led the latest epoch that it knows of.
    pub fn has_led(&self) -> bool {
        self.epoch > 0 && !self.has_followed() && self.promised <= self.epoch
    }

    /// The node that was promised the lead last, if the node that these files belong to led before and has not heard
    /// since of anybody who leads.
    pub fn awaited_successor(&self) -> Option<&str> {
        let awaits = self.epoch > 0 && !self.has_followed() && self.promised > self.epoch;
        self.leader_url.as_deref().filter(|_| awaits)
    }

    /// Notes that `epoch` was promised to the node at `candidate`, or, if that is `None`, that somebody leads in it.
    pub fn promise(&mut self, epoch: Epoch, candidate: Option<&str>) {
        self.promised = epoch;
        match candidate {
            Some(url) => self.leader_url = Some(url.to_owned()),
            // Whoever leads may acknowledge what is not here, so these files are a follower's from now on.
            None => self.boot_id.clear(),
        }
    }

    /// Notes that the node that these files belong to has promised `epoch` to itself.
    pub fn promise_itself(&mut self, epoch: Epoch) {
        self.promised = epoch;
    }

    /// Returns whether the incarnation stays at a start in the boot `boot_id`: whether every record that was
    /// acknowledged from this directory is sure to be there. `was_cut`: the start cuts the end off the log.
    pub fn keeps_incarnation(&self, boot_id: &str, was_cut: bool) -> bool {
        // Who was acknowledged before the sync relies on the system's memory, which a kill spares and another boot does
        // not. What the log lacks then need not show: its end may be whole, and come too early.
        let has_lost_memory = self.clean_stop.is_none() && self.incarnation_boot != boot_id;
        // None: a file of format 1, a directory that was empty, or evidence that was about to go
        // ([`Manifest::forget_incarnation`]).
        self.incarnation != 0 && !was_cut && !has_lost_memory
    }

    /// Returns whether the node that these files belong to has begun `epoch` as its leader.
    pub fn has_begun(&self, epoch: Epoch) -> bool {
        self.has_led() && self.epoch == epoch
    }
}

impl Manifest {
    /// Reads the MANIFEST; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, FileError> {
        let file = match disk.open(MANIFEST) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(FileError::io(MANIFEST))?,
        };
        Self::read_file(&*file, MANIFEST).map(Some)
    }

    /// Reads a MANIFEST that is open.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read_file(file: &dyn DiskFile, name: &str) -> Result<Self, FileError> {
        let bytes = disk::read_all(file, limits::MAX_MANIFEST_BYTES as u64).map_err(FileError::io(name))?;
        Ok(Self::decode(&bytes)?)
    }

    /// Replaces the MANIFEST durably, under the next generation.
    ///
    /// # Errors
    /// The error of the step that failed: writing, syncing, renaming, or syncing the directory. The old MANIFEST or the
    /// new one is there then.
    pub fn write(&mut self, disk: &dyn Disk) -> Result<(), FileError> {
        self.state.generation += 1;
        failpoint::pass("manifest.begin");
        // Replaced whole and not changed in place: a torn MANIFEST could not be mended from anything, and no start
        // would be possible.
        disk::publish(disk, MANIFEST, &self.encode()).map_err(FileError::io(MANIFEST))?;
        failpoint::pass("manifest.done");
        Ok(())
    }

    /// Forgets the incarnation, durably, before something is done that leaves records out and no trace of it, such as a
    /// cut of the log: whoever starts next draws a new one, also if it was killed halfway.
    ///
    /// # Errors
    /// If the MANIFEST cannot be written: then that must not be done.
    pub fn forget_incarnation(&mut self, disk: &dyn Disk) -> Result<(), FileError> {
        if self.state.incarnation == 0 {
            return Ok(());
        }
        self.state.incarnation = 0;
        self.write(disk)
    }

    /// The file's bytes: header, payload, CRC32C of both.
    pub fn encode(&self) -> Vec<u8> {
        let header = FileHeader::new(FileKind::Manifest, self.identity, Position::ZERO, 0);
        let mut bytes = header.encode().to_vec();
        file_header::encode_into(&self.state, &mut bytes);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// [`FileDamage`] if the bytes are cut off, a checksum does not match, or the content cannot be decoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileDamage> {
        let header = FileHeader::decode(MANIFEST, bytes)?;
        if header.kind != FileKind::Manifest {
            return Err(FileDamage::new(MANIFEST, 0, format!("this is a {:?} file", header.kind)));
        }
        let at = FILE_HEADER_BYTES as u64;
        let Some((rest, crc)) = bytes[FILE_HEADER_BYTES..].split_last_chunk::<4>() else {
            return Err(FileDamage::new(MANIFEST, bytes.len() as u64, "the file ends before its checksum"));
        };
        // Over the header too, though it has a checksum: a payload behind the header of another database must not pass.
        if crc32c::crc32c(&bytes[..bytes.len() - 4]) != u32::from_le_bytes(*crc) {
            return Err(FileDamage::new(MANIFEST, at, "the checksum does not match, or the file is cut"));
        }
        let state = match header.version {
            1 => file_header::decode::<ManifestStateV1>(rest).map(ManifestState::from),
            _ => file_header::decode::<ManifestState>(rest),
        };
        let state = state.map_err(|what| FileDamage::new(MANIFEST, at, what))?;
        if !state.node_name.is_empty() && !is_node_name(&state.node_name) {
            return Err(FileDamage::new(MANIFEST, at, format!("{:?} is no name of a node", state.node_name)));
        }
        Ok(Self { identity: header.identity, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::Analyzer;

    #[test]
    fn comes_back_and_every_cut_or_flip_is_found() {
        let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };
        let mut state = ManifestState {
            epoch: 3,
            boot_id: "boot".into(),
            clean_stop: Some(Position::new(3, 7)),
            node_name: "n-5f2a9c01".into(),
            incarnation: u64::MAX,
            incarnation_boot: "boot".into(),
            ..ManifestState::default()
        };
        state.epochs.end(Position::new(2, 5));
        let manifest = Manifest { identity, state };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for len in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_name_has_1_to_64_of_its_characters() {
        let longest = "n".repeat(limits::MAX_NODE_NAME_BYTES);
        for (name, is_one) in
            [("n-5f.2_a", true), (&longest, true), ("", false), ("N", false), ("é", false), ("a/b", false)]
        {
            assert_eq!(is_node_name(name), is_one, "{name:?}");
        }
        assert!(!is_node_name(&(longest + "n")));
        let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };
        let decoded = |name: &str| {
            let state = ManifestState { node_name: name.into(), ..ManifestState::default() };
            Manifest::decode(&Manifest { identity, state }.encode())
        };
        assert!(decoded("").is_ok() && decoded("a").is_ok(), "a repaired one may have none");
        assert!(decoded("A").expect_err("a capital letter").to_string().contains("no name of a node"));
    }

    #[test]
    fn an_incarnation_stays_exactly_as_long_as_no_acknowledged_record_can_be_missing() {
        const CUT: bool = true;
        let running = ManifestState { incarnation: 5, incarnation_boot: "boot".into(), ..ManifestState::default() };
        let stopped = ManifestState { clean_stop: Some(Position::new(3, 7)), ..running.clone() };
        let none = ManifestState { incarnation: 0, ..stopped.clone() };
        let leads_in_another = ManifestState { boot_id: "other".into(), ..running.clone() };
        for (case, state, boot_id, was_cut, stays) in [
            ("a clean stop", &stopped, "boot", !CUT, true),
            ("a clean stop, then another boot", &stopped, "other", !CUT, true),
            ("a kill in the same boot", &running, "boot", !CUT, true),
            ("another boot without a clean stop", &running, "other", !CUT, false),
            ("the boot of the incarnation decides, not a leader's", &leads_in_another, "other", !CUT, false),
            ("a cut in the same boot", &running, "boot", CUT, false),
            ("a cut behind a clean stop", &stopped, "boot", CUT, false),
            ("no incarnation yet", &none, "boot", !CUT, false),
        ] {
            assert_eq!(state.keeps_incarnation(boot_id, was_cut), stays, "{case}");
        }
    }
}
