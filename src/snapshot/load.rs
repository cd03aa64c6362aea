//! Reads a snapshot back, into a store or only to see that it is whole.

use super::block::{self, BLOCK_HEADER_BYTES, BlockKind, MAX_BLOCK_BYTES, Trailer};
use crate::{
    disk::{Disk, DiskFile},
    format::{
        self, Damage, FILE_HEADER_BYTES, FileError, FileHeader, FileKind, Identity, SNAPSHOT_PREFIX, parse_name, u32_at,
    },
    log::RawRecord,
    position::Sequence,
    record::{Change, WordCount},
    store::{Entry, Store},
};

/// Loads a snapshot into an empty store.
///
/// # Errors
/// If it cannot be read, is damaged, or does not lead to the state its trailer states. The store is then of no use.
pub fn load(disk: &dyn Disk, name: &str, identity: &Identity, store: &mut Store) -> Result<Trailer, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    let mut chain = None;
    let trailer = read_blocks(&*file, name, identity, |kind, offset, payload, header| {
        let damage = |what: String| Damage::new(name, offset, what);
        match kind {
            BlockKind::Image => load_image(payload, store).map_err(damage),
            BlockKind::Window => {
                let entries: Vec<Entry> = format::decode(payload).map_err(damage)?;
                entries.into_iter().for_each(|entry| store.restore_window(entry));
                Ok(())
            }
            BlockKind::Records => {
                let (after, sequence) = chain.unwrap_or((header.chain, header.position.sequence));
                chain = Some(load_records(payload, identity, store, after, sequence).map_err(damage)?);
                Ok(())
            }
            BlockKind::Trailer => Ok(()),
        }
    })?;
    let end = trailer.end;
    if parse_name(SNAPSHOT_PREFIX, name).is_some_and(|named| named != end.position) {
        return Err(Damage::new(name, 0, format!("it is a state at {}, its name says another", end.position)).into());
    }
    let (found_chain, found_sequence) = chain.unwrap_or((trailer.start.chain, trailer.start.position.sequence));
    if (found_chain, found_sequence) != (end.chain, end.position.sequence) {
        return Err(
            Damage::new(name, 0, format!("its records lead to {found_sequence}, not to {}", end.position)).into()
        );
    }
    if store.digest() != end.digest {
        let what = format!("its counts have digest {:016x}, not {:016x} as it states", store.digest(), end.digest);
        return Err(Damage::new(name, 0, what).into());
    }
    store.set_mark(end, trailer.time_ms);
    Ok(trailer)
}

/// Reads a whole snapshot and checks every checksum.
///
/// # Errors
/// If it cannot be read or is damaged.
pub fn verify(file: &dyn DiskFile, name: &str, identity: &Identity) -> Result<Trailer, FileError> {
    read_blocks(file, name, identity, |_, _, _, _| Ok(()))
}

fn load_image(payload: &[u8], store: &mut Store) -> Result<(), String> {
    let (namespace, mut rest): (&str, &[u8]) = format::borrow_decode_front(payload)?;
    let mut counts = Vec::new();
    while !rest.is_empty() {
        let ((word, count), behind) = format::borrow_decode_front(rest)?;
        counts.push(WordCount { word, count });
        rest = behind;
    }
    if counts.iter().any(|counted| counted.word.is_empty() || counted.word.len() > crate::limits::MAX_WORD_BYTES) {
        return Err("a word that is empty or too long".into());
    }
    store.load_image(&Change { namespace, dropped: false, counts });
    Ok(())
}

/// Applies records over the image; gives the chain and the sequence behind the last.
fn load_records(
    payload: &[u8],
    identity: &Identity,
    store: &mut Store,
    mut chain: u64,
    mut sequence: Sequence,
) -> Result<(u64, Sequence), String> {
    let mut rest = payload;
    while !rest.is_empty() {
        let raw = RawRecord::parse(rest, identity.hash_seed).map_err(|error| error.to_string())?;
        let position = raw.header.position;
        if position.sequence != sequence + 1 || !raw.follows(chain) {
            return Err(format!("record {position} does not follow {sequence}"));
        }
        store.apply_over_image(&raw.record().map_err(|error| error.to_string())?, raw.header.chain);
        (chain, sequence) = (raw.header.chain, position.sequence);
        rest = &rest[raw.header.record_bytes()..];
    }
    Ok((chain, sequence))
}

/// Reads block after block, checks each, and gives it to `each`; the trailer ends the file.
fn read_blocks(
    file: &dyn DiskFile,
    name: &str,
    identity: &Identity,
    mut each: impl FnMut(BlockKind, u64, &[u8], &FileHeader) -> Result<(), Damage>,
) -> Result<Trailer, FileError> {
    let mut blocks = Blocks::begin(file, name, identity)?;
    loop {
        let at = blocks.at;
        let kind = blocks.next(file, name)?;
        each(kind, at, &blocks.payload, &blocks.header)?;
        if let Some(trailer) = blocks.trailer {
            return Ok(trailer);
        }
    }
}

/// A snapshot that is read block by block. The file is handed in each time, so that its owner keeps it.
pub(super) struct Blocks {
    header: FileHeader,
    file_bytes: u64,
    at: u64,
    crc: u32,
    payload: Vec<u8>,
    /// The trailer, once it is reached and all is whole.
    pub(super) trailer: Option<Trailer>,
}

impl Blocks {
    /// Reads the file's header.
    pub(super) fn begin(file: &dyn DiskFile, name: &str, identity: &Identity) -> Result<Self, FileError> {
        let mut header = [0; FILE_HEADER_BYTES];
        let read = file.read_at(0, &mut header).map_err(FileError::io(name))?;
        Ok(Self {
            file_bytes: file.len().map_err(FileError::io(name))?,
            at: FILE_HEADER_BYTES as u64,
            crc: u32_at(&header, FILE_HEADER_BYTES - 4),
            header: FileHeader::decode_of(name, &header[..read], FileKind::Snapshot, identity)?,
            payload: Vec::new(),
            trailer: None,
        })
    }

    /// Reads and checks the next block.
    pub(super) fn next(&mut self, file: &dyn DiskFile, name: &str) -> Result<BlockKind, FileError> {
        let at = self.at;
        let damage = |what: &str| Damage::new(name, at, what);
        let mut block = [0; BLOCK_HEADER_BYTES];
        let read = file.read_at(at, &mut block).map_err(FileError::io(name))?;
        if read < BLOCK_HEADER_BYTES {
            return Err(damage("the file ends before its trailer").into());
        }
        let bytes = block::payload_bytes(&block);
        let behind = at + (BLOCK_HEADER_BYTES + bytes) as u64;
        if bytes > MAX_BLOCK_BYTES || behind > self.file_bytes {
            return Err(damage("the file ends inside a block, or the block's length is damaged").into());
        }
        self.payload.resize(bytes, 0);
        let read = file.read_at(at + BLOCK_HEADER_BYTES as u64, &mut self.payload).map_err(FileError::io(name))?;
        let (kind, crc) = block::check(name, at, &block, &self.payload[..read], self.crc)?;
        (self.at, self.crc) = (behind, crc);
        if kind == BlockKind::Trailer {
            if behind != self.file_bytes {
                return Err(Damage::new(name, behind, "bytes behind the trailer").into());
            }
            let trailer: Trailer = format::decode(&self.payload).map_err(|what| damage(&what))?;
            if trailer.start.position != self.header.position || trailer.start.chain != self.header.chain {
                return Err(damage("the trailer does not belong to this file").into());
            }
            self.trailer = Some(trailer);
        }
        Ok(kind)
    }
}
