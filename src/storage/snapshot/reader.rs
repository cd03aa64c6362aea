//! Reads a snapshot back, into a store or only to see that it is whole: a file, or bytes as they come.

use super::{
    block::{self, BLOCK_HEADER_BYTES, BlockKind, MAX_BLOCK_BYTES, SnapshotTrailer},
    entries,
};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::limits,
    base::position::{Position, Sequence},
    data::record::{NamespaceChange, WordCount},
    data::store::{DedupEntry, DedupLimits, DedupName, Store},
    storage::bounds,
    storage::disk::{Disk, DiskFile},
    storage::file_header::{
        self, DatabaseIdentity, FILE_HEADER_BYTES, FileDamage, FileError, FileHeader, FileKind, SNAPSHOT_PREFIX,
        parse_name, u32_at,
    },
    storage::wal::RawRecord,
};
use bincode::Decode;

/// Loads a snapshot into an empty store.
///
/// # Errors
/// If it cannot be read, is damaged, or does not lead to the state its trailer states. The store is then of no use.
pub fn load(
    disk: &dyn Disk,
    name: &str,
    identity: &DatabaseIdentity,
    store: &mut Store,
) -> Result<SnapshotTrailer, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    let (mut blocks, mut state) = (BlockReader::begin(name, *identity), State::default());
    while blocks.read_piece(&*file, |kind, at, payload, header| state.take(kind, payload, header, store, name, at))? {}
    let trailer = blocks.end()?;
    state.end(&trailer, name, store)?;
    Ok(trailer)
}

/// Reads a whole snapshot and checks every checksum.
///
/// # Errors
/// If it cannot be read or is damaged.
pub fn verify(file: &dyn DiskFile, name: &str, identity: &DatabaseIdentity) -> Result<SnapshotTrailer, FileError> {
    let mut blocks = BlockReader::begin(name, *identity);
    while blocks.read_piece(file, |_, _, _, _| Ok(()))? {}
    Ok(blocks.end()?)
}

/// Loads a snapshot from its bytes as they come. It holds no more of them than one block at a time.
pub struct SnapshotLoader {
    blocks: BlockReader,
    state: State,
    store: Store,
}

impl SnapshotLoader {
    /// Begins to load a snapshot of this database.
    pub fn new(identity: DatabaseIdentity, window: DedupLimits) -> Self {
        Self::of_file("the snapshot", identity, window)
    }

    /// As [`SnapshotLoader::new`], for a file of this name: damage is reported with it, and the state must be the one
    /// that the name says.
    pub fn of_file(name: &str, identity: DatabaseIdentity, window: DedupLimits) -> Self {
        let store = Store::new(identity.hasher(), window);
        Self { blocks: BlockReader::begin(name, identity), state: State::default(), store }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// If they are damaged; the loader is then of no use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FileDamage> {
        let Self { blocks, state, store } = self;
        let name = blocks.name.clone();
        blocks.feed(bytes, |kind, at, payload, header| state.take(kind, payload, header, store, &name, at))
    }

    /// Bytes taken so far.
    pub fn taken(&self) -> u64 {
        self.blocks.taken()
    }

    /// All bytes were given: the state they lead to.
    ///
    /// # Errors
    /// If something is missing, or they do not lead to the state the trailer states.
    pub fn finish(mut self) -> Result<(Store, SnapshotTrailer), FileDamage> {
        let trailer = self.blocks.end()?;
        self.state.end(&trailer, &self.blocks.name, &mut self.store)?;
        Ok((self.store, trailer))
    }
}

/// The state that the blocks have led to, besides the store.
#[derive(Default)]
struct State {
    /// Chain and sequence behind the last record; `None`: there was none yet.
    reached: Option<(u64, Sequence)>,
    /// True if the last block was one of the image.
    in_image: bool,
}

impl State {
    fn take(
        &mut self,
        kind: BlockKind,
        payload: &[u8],
        header: &FileHeader,
        store: &mut Store,
        name: &str,
        at: u64,
    ) -> Result<(), FileDamage> {
        let damage = |what: String| FileDamage::new(name, at, what);
        if std::mem::replace(&mut self.in_image, kind.is_image()) && !self.in_image {
            store.end_image();
        }
        match kind {
            BlockKind::Image => load_image(payload, store).map_err(damage)?,
            BlockKind::Entries => entries::load(payload, store).map_err(damage)?,
            BlockKind::Window => {
                let entries = window_entries(header.version, payload).map_err(damage)?;
                entries.into_iter().for_each(|entry| store.restore_window(entry));
            }
            BlockKind::Records => {
                inject!(ServesASnapshotBeforeItsEnd, return Ok(()));
                // The header says where the walk started, so the first record has to follow that; each is checked
                // against the one before.
                let (chain, sequence) = self.reached.unwrap_or((header.chain, header.position.sequence));
                let reached = load_records(payload, &header.identity, store, chain, sequence);
                self.reached = Some(reached.map_err(damage)?);
            }
            BlockKind::Trailer => {}
        }
        Ok(())
    }

    /// Holds what the trailer states against what the blocks have led to, and sets where the store stands.
    fn end(&self, trailer: &SnapshotTrailer, name: &str, store: &mut Store) -> Result<(), FileDamage> {
        let (start, end) = (trailer.start, trailer.end);
        inject!(ServesASnapshotBeforeItsEnd, {
            store.set_state_id(start, trailer.time_ms);
            return Ok(());
        });
        // The position is set last, once everything agrees: a store whose load failed stands nowhere.
        if parse_name(SNAPSHOT_PREFIX, name).is_some_and(|named| named != end.position) {
            return Err(FileDamage::new(name, 0, format!("it is a state at {}, its name says another", end.position)));
        }
        let (chain, sequence) = self.reached.unwrap_or((start.chain, start.position.sequence));
        if (chain, sequence) != (end.chain, end.position.sequence) {
            return Err(FileDamage::new(name, 0, format!("its records lead to {sequence}, not to {}", end.position)));
        }
        // Compared here and not at each record: the image may hold counts that are newer than the records over it, so
        // only the end has a digest that is known.
        if store.digest() != end.digest {
            let what = format!("its counts have digest {:016x}, not {:016x} as it states", store.digest(), end.digest);
            return Err(FileDamage::new(name, 0, what));
        }
        store.set_state_id(end, trailer.time_ms);
        Ok(())
    }
}

/// An entry of the window as format 1 has it.
#[derive(Decode)]
struct DedupEntryV1 {
    name: String,
    stream_sequence: u64,
    fingerprint: u128,
    running: u128,
    position: Position,
    time_ms: LoggedTime,
    words: u64,
    distinct: u64,
    left_out: u64,
}

/// The entries of a window block, in a snapshot of this version.
fn window_entries(version: u16, payload: &[u8]) -> Result<Vec<DedupEntry>, String> {
    if version > 1 {
        return file_header::decode(payload);
    }
    let entries: Vec<DedupEntryV1> = file_header::decode(payload)?;
    let scoped = entries.into_iter().map(|entry| DedupEntry {
        name: DedupName::new("", &entry.name),
        stream_sequence: entry.stream_sequence,
        fingerprint: entry.fingerprint,
        running: entry.running,
        position: entry.position,
        time_ms: entry.time_ms,
        words: entry.words,
        distinct: entry.distinct,
        left_out: entry.left_out,
        entries: 0,
    });
    Ok(scoped.collect())
}

fn load_image(payload: &[u8], store: &mut Store) -> Result<(), String> {
    let (namespace, mut rest): (&str, &[u8]) = file_header::borrow_decode_front(payload)?;
    let mut counts = Vec::new();
    while !rest.is_empty() {
        let ((word, count), behind) = file_header::borrow_decode_front(rest)?;
        counts.push(WordCount { word, count });
        rest = behind;
    }
    counts.iter().try_for_each(|counted| bounds::check_word(counted.word))?;
    if counts.iter().any(|counted| counted.count == 0) {
        return Err("a word with a count of zero".into());
    }
    store.load_image(&NamespaceChange { namespace, dropped: false, counts });
    Ok(())
}

/// Applies records over the image; gives the chain and the sequence behind the last.
fn load_records(
    payload: &[u8],
    identity: &DatabaseIdentity,
    store: &mut Store,
    mut chain: u64,
    mut sequence: Sequence,
) -> Result<(u64, Sequence), String> {
    let mut rest = payload;
    while !rest.is_empty() {
        let raw = RawRecord::parse(rest, identity.hash_seed).map_err(|error| error.to_string())?;
        let position = raw.header.position;
        if !raw.goes_on_from(sequence, chain) {
            return Err(format!("record {position} does not follow {sequence}"));
        }
        let record = raw.record().map_err(|error| error.to_string())?;
        store.apply_over_image(&record, raw.header.chain).map_err(|error| error.to_string())?;
        (chain, sequence) = (raw.header.chain, position.sequence);
        rest = &rest[raw.header.record_bytes()..];
    }
    Ok((chain, sequence))
}

/// Takes a snapshot's bytes as they come, checks them, and gives its blocks.
pub(super) struct BlockReader {
    name: String,
    identity: DatabaseIdentity,
    header: Option<FileHeader>,
    /// The offset in the file at which the pending bytes begin.
    at: u64,
    crc: u32,
    /// The begin of a block, or of the file's header.
    pending: Vec<u8>,
    trailer: Option<SnapshotTrailer>,
    piece: Vec<u8>,
}

impl BlockReader {
    pub(super) fn begin(name: &str, identity: DatabaseIdentity) -> Self {
        let name = name.to_owned();
        Self { name, identity, header: None, at: 0, crc: 0, pending: Vec::new(), trailer: None, piece: Vec::new() }
    }

    fn taken(&self) -> u64 {
        self.at + self.pending.len() as u64
    }

    /// Reads some hundred KiB more of a file; `false` once it has ended.
    pub(super) fn read_piece(
        &mut self,
        file: &dyn DiskFile,
        each: impl FnMut(BlockKind, u64, &[u8], &FileHeader) -> Result<(), FileDamage>,
    ) -> Result<bool, FileError> {
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(limits::COPY_BYTES, 0);
        let read = file.read_at(self.taken(), &mut piece).map_err(FileError::io(&self.name))?;
        self.feed(&piece[..read], each)?;
        self.piece = piece;
        Ok(read > 0)
    }

    /// Takes the next bytes; gives each block that is whole with them, with its kind and where it is.
    fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(BlockKind, u64, &[u8], &FileHeader) -> Result<(), FileDamage>,
    ) -> Result<(), FileDamage> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(more) = self.next(&pending[used..], &mut each)? {
            used += more;
        }
        pending.drain(..used);
        self.pending = pending;
        Ok(())
    }

    /// Takes the file's header or one block from the front of `bytes`; gives its length, or `None` if it is not whole.
    fn next(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(BlockKind, u64, &[u8], &FileHeader) -> Result<(), FileDamage>,
    ) -> Result<Option<usize>, FileDamage> {
        let at = self.at;
        let damage = |what: &str| FileDamage::new(&self.name, at, what);
        if self.trailer.is_some() {
            return if bytes.is_empty() { Ok(None) } else { Err(damage("bytes behind the trailer")) };
        }
        let Some(header) = self.header else {
            if bytes.len() < FILE_HEADER_BYTES {
                return Ok(None);
            }
            self.header = Some(FileHeader::decode_of(&self.name, bytes, FileKind::Snapshot, &self.identity)?);
            self.crc = u32_at(bytes, FILE_HEADER_BYTES - 4);
            self.at += FILE_HEADER_BYTES as u64;
            return Ok(Some(FILE_HEADER_BYTES));
        };
        let Some((block, rest)) = bytes.split_first_chunk::<BLOCK_HEADER_BYTES>() else { return Ok(None) };
        let payload_bytes = block::payload_bytes(block);
        // The length is not covered by any checksum that could be checked before the payload is here. Without a bound,
        // a damaged one would wait for, and hold, gigabytes.
        if payload_bytes > MAX_BLOCK_BYTES {
            return Err(damage("the block's length is damaged"));
        }
        let Some(payload) = rest.get(..payload_bytes) else { return Ok(None) };
        let (kind, crc) = block::check(&self.name, at, block, payload, self.crc)?;
        if kind == BlockKind::Entries && header.version == 1 {
            return Err(damage("format 1 has no blocks of entries"));
        }
        if kind == BlockKind::Trailer {
            let trailer = SnapshotTrailer::decode(header.version, payload).map_err(|what| damage(&what))?;
            if trailer.start.position != header.position || trailer.start.chain != header.chain {
                return Err(damage("the trailer does not belong to this file"));
            }
            self.trailer = Some(trailer);
        }
        each(kind, at, payload, &header)?;
        self.crc = crc;
        self.at += (BLOCK_HEADER_BYTES + payload_bytes) as u64;
        Ok(Some(BLOCK_HEADER_BYTES + payload_bytes))
    }

    /// There is nothing more: the trailer, if all was whole.
    pub(super) fn end(&self) -> Result<SnapshotTrailer, FileDamage> {
        if self.header.is_none() {
            FileHeader::decode_of(&self.name, &self.pending, FileKind::Snapshot, &self.identity)?;
        }
        let what = if self.pending.len() < BLOCK_HEADER_BYTES {
            "the file ends before its trailer"
        } else {
            "the file ends inside a block, or the block's length is damaged"
        };
        self.trailer.ok_or_else(|| FileDamage::new(&self.name, self.at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::Analyzer;

    const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/snapshot-v1");
    const IDENTITY: DatabaseIdentity = DatabaseIdentity {
        database_id: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
        shard_id: 0,
        analyzer: Analyzer::StandardV1,
        hash_seed: 0x1716_1514_1312_1110,
    };

    fn loaded(bytes: &[u8], piece: usize) -> Result<(Store, SnapshotTrailer), FileDamage> {
        let mut loader = SnapshotLoader::new(IDENTITY, DedupLimits::default());
        for piece in bytes.chunks(piece) {
            loader.feed(piece)?;
        }
        assert_eq!(loader.taken(), bytes.len() as u64);
        loader.finish()
    }

    #[test]
    fn pieces_of_any_size_lead_to_the_same_state() {
        for piece in 1..=GOLDEN.len() {
            let (store, trailer) = loaded(GOLDEN, piece).expect("whole");
            assert_eq!((store.mark(), store.time_ms()), (trailer.end, trailer.time_ms), "{piece}");
            assert_eq!(store.mark().position, Position::new(1, 3));
            let reader = store.reader();
            assert_eq!((reader.read().count("words", "world"), reader.window_len()), (1 << 40, (1, 1)), "{piece}");
        }
    }

    #[test]
    fn every_cut_and_flip_and_what_is_too_much_is_found() {
        for piece in [7, 10_000] {
            for len in 0..GOLDEN.len() {
                assert!(loaded(&GOLDEN[..len], piece).is_err(), "cut at {len}");
            }
            for bit in 0..GOLDEN.len() * 8 {
                let mut flipped = GOLDEN.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(loaded(&flipped, piece).is_err(), "bit {bit}");
            }
            let too_much = loaded(&[GOLDEN, b"!"].concat(), piece).map(|_| ()).expect_err("behind the end");
            assert_eq!((too_much.offset, too_much.what.as_str()), (GOLDEN.len() as u64, "bytes behind the trailer"));
        }
    }

    #[test]
    fn a_file_must_hold_what_its_name_says() {
        let under = |name: &str| {
            let mut loader = SnapshotLoader::of_file(name, IDENTITY, DedupLimits::default());
            loader.feed(GOLDEN)?;
            loader.finish().map(|_| ())
        };
        assert_eq!(under("snapshot-0000000001-00000000000000000003"), Ok(()));
        let refused = under("snapshot-0000000001-00000000000000000004").expect_err("it is a state at 1-3");
        assert_eq!(refused.file, "snapshot-0000000001-00000000000000000004");
    }
}
