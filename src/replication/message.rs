//! The messages that nodes send each other, as bytes.
//!
//! bincode behind a version; records follow an append request as they are in the log, with their own checksums.
//! Decoding never allocates for more than was received.

use crate::{
    base::limits,
    base::position::{Epoch, EpochTable, Position, Sequence},
    data::store::StateId,
    storage::file_header::{self, DatabaseIdentity},
    text::tokenizer::Analyzer,
};
use bincode::{BorrowDecode, Decode, Encode, config};

/// Content type of an [`AppendRequest`], of an [`AppendAnswer`], and of records alone.
pub const RECORDS_TYPE: &str = "application/vnd.memdb.records";
/// Content type of an announced [`NodeState`].
pub const HELLO_TYPE: &str = "application/vnd.memdb.hello";
/// Content type of a snapshot file.
pub const SNAPSHOT_TYPE: &str = "application/vnd.memdb.snapshot";

const VERSION: u16 = 2;

/// As the codec of files, with a bound that suits messages: nobody vouches for these bytes with a checksum.
const CODEC: config::Configuration<config::LittleEndian, config::Varint, config::Limit<MOST_BYTES>> =
    config::standard().with_limit::<MOST_BYTES>();
const MOST_BYTES: usize = 1 << 20;
const _: () = assert!(limits::EPOCHS_REMEMBERED * 16 + limits::MAX_REPLICAS * limits::MAX_URL_BYTES < MOST_BYTES);

/// One run of one process: drawn at random at its start.
pub type NodeId = u128;

/// The command of an append request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AppendCommand {
    /// Report your state; change nothing.
    Probe,
    /// I am about to lead in `epoch`: promise to follow nobody of an earlier one, and to lead no more.
    Promise,
    /// You are on my history: apply what follows `after`.
    Append,
    /// The leader's records do not reach back to the replica's state: load a snapshot.
    InstallSnapshot,
}

/// The members of a cluster, as its leader knows them: URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ClusterMembers {
    /// The leader.
    pub leader: String,
    /// The replicas that are known.
    pub replicas: Vec<String>,
}

impl ClusterMembers {
    /// Checks that they fit into a MANIFEST.
    fn check(&self) -> Result<(), String> {
        let is_long = |url: &String| url.len() > limits::MAX_URL_BYTES;
        if self.replicas.len() > limits::MAX_REPLICAS || is_long(&self.leader) || self.replicas.iter().any(is_long) {
            return Err("it names more nodes, or longer URLs, than there may be".to_owned());
        }
        Ok(())
    }
}

/// From a leader to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRequest<'a> {
    /// The database.
    pub identity: DatabaseIdentity,
    /// This run of the leader.
    pub leader: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The end of each epoch before it; left out (empty) once the replica is known to be in this epoch.
    pub epochs: EpochTable,
    /// The leader's last position, with digest and chain.
    pub last: StateId,
    /// The request.
    pub command: AppendCommand,
    /// For [`AppendCommand::Append`]: the position of the replica that the leader has found to be on its history.
    pub after: Position,
    /// Answer only once everything is synced.
    pub durable: bool,
    /// The other members; left out where the replica knows them.
    pub members: Option<ClusterMembers>,
    /// Whole records, as they are in the log.
    pub records: &'a [u8],
}

#[derive(Encode, BorrowDecode)]
struct AppendRequestHead {
    version: u16,
    database_id: u128,
    shard_id: u32,
    analyzer: u16,
    analyzer_version: u16,
    hash_seed: u64,
    leader: NodeId,
    epoch: Epoch,
    epochs: EpochTable,
    last: StateId,
    command: AppendCommand,
    after: Position,
    durable: bool,
    members: Option<ClusterMembers>,
}

impl<'a> AppendRequest<'a> {
    /// The question where a node stands, of whoever does not lead (yet), and knows of `epoch`.
    pub fn probe(identity: DatabaseIdentity, epoch: Epoch) -> Self {
        Self {
            identity,
            leader: 0,
            epoch,
            epochs: EpochTable::default(),
            last: StateId::default(),
            command: AppendCommand::Probe,
            after: Position::ZERO,
            durable: false,
            members: None,
            records: &[],
        }
    }

    /// The question whether a node promises `epoch` to the run `leader` of a node that is at `url`.
    pub fn promise(identity: DatabaseIdentity, epoch: Epoch, leader: NodeId, url: &str) -> Self {
        let members = Some(ClusterMembers { leader: url.to_owned(), replicas: Vec::new() });
        Self { command: AppendCommand::Promise, leader, members, ..Self::probe(identity, epoch) }
    }

    /// The append request as bytes, without its records: they follow.
    pub fn encode_head(&self) -> Vec<u8> {
        let DatabaseIdentity { database_id, shard_id, analyzer, hash_seed } = self.identity;
        let head = AppendRequestHead {
            version: VERSION,
            database_id,
            shard_id,
            analyzer: analyzer.code(),
            analyzer_version: analyzer.version(),
            hash_seed,
            leader: self.leader,
            epoch: self.epoch,
            epochs: self.epochs.clone(),
            last: self.last,
            command: self.command,
            after: self.after,
            durable: self.durable,
            members: self.members.clone(),
        };
        let mut bytes = Vec::with_capacity(128);
        file_header::encode_into(&head, &mut bytes);
        bytes
    }

    /// Reads an append request; its records are the rest of `bytes`.
    ///
    /// # Errors
    /// If the bytes are cut off, of another version, or do not encode an append request: a message for the log.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        check_version(bytes)?;
        let (head, used): (AppendRequestHead, usize) =
            bincode::borrow_decode_from_slice(bytes, CODEC).map_err(|error| error.to_string())?;
        let records = &bytes[used..];
        let analyzer = Analyzer::from_code(head.analyzer, head.analyzer_version)
            .ok_or_else(|| format!("analyzer {} in version {}", head.analyzer, head.analyzer_version))?;
        let AppendRequestHead {
            database_id,
            shard_id,
            hash_seed,
            leader,
            epoch,
            epochs,
            last,
            command,
            after,
            durable,
            members,
            ..
        } = head;
        let identity = DatabaseIdentity { database_id, shard_id, analyzer, hash_seed };
        check_epoch(epoch)?;
        // Bounded where they are read: these URLs are noted in the MANIFEST, which has a bound of its own.
        members.as_ref().map_or(Ok(()), ClusterMembers::check)?;
        Ok(Self { identity, leader, epoch, epochs, last, command, after, durable, members, records })
    }
}

/// The state that a follower reports. The default is that of a node without an address that holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct NodeState {
    /// This run of the follower.
    pub node: NodeId,
    /// The URL by which others reach it.
    pub url: String,
    /// The database it holds; `None` as long as it holds nothing.
    pub database: Option<u128>,
    /// The highest epoch it has seen.
    pub epoch: Epoch,
    /// The last record it has applied.
    pub position: Position,
    /// The chain there.
    pub chain: u64,
    /// The last record it has synced; `None` if it keeps no files.
    pub synced: Option<Sequence>,
    /// True if it holds another history than its leader: only a snapshot helps.
    pub diverged: bool,
    /// True if it follows the leader's files and wants notifications instead of records.
    pub local: bool,
    /// True if it leads.
    pub leads: bool,
}

impl NodeState {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        file_header::encode_into(&(VERSION, self), &mut bytes);
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// If the bytes are cut off, of another version, or do not encode a node state: a message for the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let hello: Self = decode(bytes)?;
        check_epoch(hello.epoch.max(hello.position.epoch)).map(|()| hello)
    }
}

/// The result of an append request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AppendOutcome {
    /// All of it is applied, or was before.
    Applied,
    /// The records do not continue from the position of the follower.
    Gap,
    /// The records lead to another state than they state: the follower needs a snapshot.
    Diverged,
    /// The follower has seen a higher epoch.
    OldEpoch,
    /// The follower is led by another run of a leader in this very epoch: two copies of one directory lead.
    OtherLeader,
    /// The follower holds another database.
    OtherDatabase,
    /// The follower is loading a snapshot.
    Syncing,
    /// The append request could not be read.
    Unreadable(String),
}

/// From a replica to its leader.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AppendAnswer {
    /// The result of the append request.
    pub outcome: AppendOutcome,
    /// The state of the replica now.
    pub hello: NodeState,
}

impl AppendAnswer {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        file_header::encode_into(&(VERSION, self), &mut bytes);
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// If the bytes are cut off, of another version, or do not encode an answer: a message for the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let answer: Self = decode(bytes)?;
        check_epoch(answer.hello.epoch.max(answer.hello.position.epoch)).map(|()| answer)
    }
}

/// An epoch that no leader can have had would leave no room for the next.
fn check_epoch(epoch: Epoch) -> Result<(), String> {
    // A node that noted the largest number as seen would follow nobody any more, and could not lead either.
    if epoch <= limits::MAX_EPOCH { Ok(()) } else { Err(format!("epoch {epoch} cannot be")) }
}

fn check_version(bytes: &[u8]) -> Result<(), String> {
    // The version alone is read first, since of another version nothing else can be relied on.
    let (version, _): (u16, usize) = bincode::decode_from_slice(bytes, CODEC).map_err(|error| error.to_string())?;
    if version == VERSION {
        return Ok(());
    }
    Err(format!("a message of version {version}; this release speaks version {VERSION}"))
}

fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, String> {
    check_version(bytes)?;
    let ((_, message), used): ((u16, T), usize) =
        bincode::decode_from_slice(bytes, CODEC).map_err(|error| error.to_string())?;
    if used == bytes.len() { Ok(message) } else { Err(format!("{} bytes too many", bytes.len() - used)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> AppendRequest<'static> {
        let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };
        let mut epochs = EpochTable::default();
        epochs.end(Position::new(1, 5));
        AppendRequest {
            identity,
            leader: 3,
            epoch: 2,
            epochs,
            last: StateId { position: Position::new(2, 9), digest: 1, chain: 2 },
            command: AppendCommand::Append,
            after: Position::new(1, 5),
            durable: true,
            members: Some(ClusterMembers { leader: "http://a:1".into(), replicas: vec!["http://b:2".into()] }),
            records: b"records",
        }
    }

    #[test]
    fn a_request_for_a_promise_names_its_run_and_its_address() {
        let offer = AppendRequest::promise(offer().identity, 4, 3, "http://a:1");
        assert_eq!((offer.command, offer.epoch, offer.leader), (AppendCommand::Promise, 4, 3));
        assert_eq!(offer.members.map(|members| members.leader), Some("http://a:1".to_owned()));
    }

    fn hello() -> NodeState {
        NodeState {
            node: 1,
            url: "http://127.0.0.1:8081".into(),
            database: Some(7),
            epoch: 2,
            position: Position::new(2, 9),
            chain: 2,
            ..NodeState::default()
        }
    }

    #[test]
    fn messages_come_back_and_every_cut_is_noticed() {
        let mut bytes = offer().encode_head();
        let head = bytes.len();
        bytes.extend_from_slice(b"records");
        assert_eq!(AppendRequest::decode(&bytes), Ok(offer()));
        assert!((0..head).all(|len| AppendRequest::decode(&bytes[..len]).is_err()));
        let bytes = hello().encode();
        assert_eq!(NodeState::decode(&bytes), Ok(hello()));
        assert!((0..bytes.len()).all(|len| NodeState::decode(&bytes[..len]).is_err()));
        let answer = AppendAnswer { outcome: AppendOutcome::Unreadable("x".into()), hello: hello() };
        assert_eq!(AppendAnswer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn an_epoch_that_leaves_no_room_for_the_next_is_refused() {
        for epoch in [limits::MAX_EPOCH + 1, u64::MAX] {
            let offer = AppendRequest { epoch, records: &[], ..offer() }.encode_head();
            assert!(AppendRequest::decode(&offer).is_err_and(|why| why.contains("cannot be")));
            assert!(NodeState::decode(&NodeState { epoch, ..hello() }.encode()).is_err());
            let hello = NodeState { position: Position::new(epoch, 1), ..hello() };
            assert!(AppendAnswer::decode(&AppendAnswer { outcome: AppendOutcome::Applied, hello }.encode()).is_err());
        }
    }

    #[test]
    fn more_nodes_than_a_manifest_holds_are_refused() {
        let with = |members| AppendRequest { members: Some(members), records: &[], ..offer() }.encode_head();
        let many =
            ClusterMembers { leader: String::new(), replicas: vec!["http://a:1".to_owned(); limits::MAX_REPLICAS + 1] };
        let long = ClusterMembers { leader: "x".repeat(limits::MAX_URL_BYTES + 1), replicas: Vec::new() };
        assert!(AppendRequest::decode(&with(many)).is_err() && AppendRequest::decode(&with(long)).is_err());
    }

    #[test]
    fn another_version_is_said_to_be_one() {
        let mut bytes = hello().encode();
        bytes[0] = VERSION as u8 + 1;
        assert!(NodeState::decode(&bytes).expect_err("newer").contains("version 3"));
    }

    #[test]
    fn a_length_that_is_made_up_allocates_nothing() {
        // A string that claims to have 2^60 bytes.
        let bytes = [&[VERSION as u8, 1, 253][..], &(1_u64 << 60).to_le_bytes()].concat();
        assert!(NodeState::decode(&bytes).is_err());
    }
}
