//! Writes one snapshot in small steps, beside the Writer.

use super::{
    block::{self, BlockKind, SnapshotTrailer},
    entries, prune,
    reader::BlockReader,
};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::{self, inject},
    base::limits,
    base::position::Position,
    data::entries::{CollectionId, CollectionKind, Entry},
    data::store::{DedupCursor, EntryScan, NamespaceScan, StateId, StoreReader},
    storage::disk::{Disk, DiskFile, temporary_name},
    storage::file_header::{
        self, DatabaseIdentity, FileDamage, FileError, FileHeader, FileKind, SNAPSHOT_PREFIX, position_name, u32_at,
    },
    storage::wal::{LiveLogOffset, LogTail},
};
use std::{io, sync::Arc};

/// Payload bytes at which an image block is written.
const BLOCK_BYTES: usize = 256 << 10;

/// A snapshot being written.
pub struct SnapshotJob {
    disk: Arc<dyn Disk>,
    identity: DatabaseIdentity,
    reader: StoreReader,
    start: StateId,
    place: LiveLogOffset,
    temporary: String,
    file: Arc<dyn DiskFile>,
    bytes: u64,
    crc: u32,
    words: u64,
    entries: u64,
    time_ms: LoggedTime,
    stage: JobStage,
}

enum JobStage {
    Image { namespaces: Vec<String>, walk: Option<(String, NamespaceScan)>, payload: Vec<u8> },
    Entries { scan: EntryScan, collection: (CollectionKind, Box<str>), piece: std::vec::IntoIter<Entry> },
    Window { cursor: DedupCursor },
    Records { end: StateId, tail: LogTail },
    Verify { end: StateId, blocks: BlockReader },
    Publish { end: StateId },
    Prune { published: PublishedSnapshot },
}

/// The result of a step of a [`SnapshotJob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStep {
    /// There is more to do.
    More,
    /// The snapshot is published.
    Done(PublishedSnapshot),
}

/// A snapshot that is on disk, durable under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedSnapshot {
    /// The position that it is a state at.
    pub position: Position,
    /// Its size.
    pub bytes: u64,
}

impl SnapshotJob {
    /// Begins a snapshot of what `reader` shows. `start` and `place` are the Writer's at this moment or before.
    ///
    /// # Errors
    /// The system's error if the file cannot be created or written.
    pub fn start(
        disk: Arc<dyn Disk>,
        identity: DatabaseIdentity,
        reader: StoreReader,
        start: StateId,
        place: LiveLogOffset,
    ) -> Result<Self, FileError> {
        let temporary = temporary_name(SNAPSHOT_PREFIX);
        let header = FileHeader::new(FileKind::Snapshot, identity, start.position, start.chain).encode();
        let file = disk.create(&temporary).map_err(FileError::io(&temporary))?;
        file.append(&header).map_err(FileError::io(&temporary))?;
        failpoint::pass("snapshot.begin");
        let mut namespaces: Vec<String> = reader.read().namespaces().into_iter().map(|(name, _)| name).collect();
        namespaces.reverse();
        let crc = u32_at(&header, header.len() - 4);
        let stage = JobStage::Image { namespaces, walk: None, payload: Vec::new() };
        Ok(Self {
            disk,
            identity,
            reader,
            start,
            place,
            temporary,
            file,
            bytes: header.len() as u64,
            crc,
            words: 0,
            entries: 0,
            time_ms: LoggedTime::ZERO,
            stage,
        })
    }

    /// Does the next piece of work: some hundred words, some hundred KiB, or one operation of the disk.
    ///
    /// # Errors
    /// The system's error if the file cannot be written, synced or renamed, or an error if the log cannot be read. The
    /// job is over then, and what it wrote means nothing.
    pub fn step(&mut self) -> Result<JobStep, FileError> {
        // From the rename on it is a snapshot like any other, and pruning is soon done.
        if !matches!(self.stage, JobStage::Publish { .. } | JobStage::Prune { .. }) {
            self.check_live()?;
        }
        match &mut self.stage {
            JobStage::Image { .. } => self.walk_image()?,
            JobStage::Entries { .. } => self.walk_entries()?,
            JobStage::Window { cursor } => {
                let mut piece = self.reader.window_chunk(cursor, limits::WALK_ENTRIES);
                inject!(SnapshotsWithoutTheWindow, piece.clear());
                if piece.is_empty() {
                    self.end_walk()?;
                } else {
                    let mut payload = Vec::new();
                    file_header::encode_into(&piece, &mut payload);
                    self.write(BlockKind::Window, &payload)?;
                }
            }
            JobStage::Records { end, tail } => {
                let end = *end;
                let mut payload = Vec::new();
                tail.read(&*self.disk, end.position.sequence, &mut payload)?;
                if payload.is_empty() {
                    self.write_trailer(end)?;
                } else {
                    self.write(BlockKind::Records, &payload)?;
                    failpoint::pass("snapshot.records");
                }
            }
            JobStage::Verify { end, blocks } => {
                if !blocks.read_piece(&*self.file, |_, _, _, _| Ok(()))? {
                    if blocks.end()?.end != *end {
                        return Err(
                            FileDamage::new(&self.temporary, 0, "what was read back is not what was written").into()
                        );
                    }
                    self.stage = JobStage::Publish { end: *end };
                }
            }
            JobStage::Publish { end } => {
                let end = *end;
                self.publish(end)?;
            }
            JobStage::Prune { published } => {
                let published = *published;
                // Last: until the new snapshot is durable under its name, a start may need everything that is removed
                // here.
                prune(&*self.disk)?;
                failpoint::pass("snapshot.pruned");
                return Ok(JobStep::Done(published));
            }
        }
        Ok(JobStep::More)
    }

    /// Runs all steps that are left.
    ///
    /// # Errors
    /// As [`SnapshotJob::step`]. What was written so far is taken away then: on a full disk the log needs the room.
    pub fn run(self) -> Result<PublishedSnapshot, FileError> {
        self.run_with(|| {})
    }

    /// As [`SnapshotJob::run`], with something to do between two steps.
    ///
    /// # Errors
    /// As [`SnapshotJob::run`]: the system's error of the step that failed; the unfinished file is removed.
    pub fn run_with(mut self, mut between: impl FnMut()) -> Result<PublishedSnapshot, FileError> {
        loop {
            match self.step() {
                Ok(JobStep::More) => between(),
                Ok(JobStep::Done(published)) => return Ok(published),
                Err(error) => {
                    let _ = self.disk.remove(&self.temporary); // the first error is the one to report
                    return Err(error);
                }
            }
        }
    }

    fn walk_image(&mut self) -> Result<(), FileError> {
        let JobStage::Image { namespaces, walk, payload } = &mut self.stage else { unreachable!("only in this stage") };
        let Some((name, scan)) = walk else {
            match namespaces.pop() {
                // A namespace that is gone by now: the record that took it away is copied behind the image.
                Some(name) => *walk = self.reader.scan(&name).map(|scan| (name, scan)),
                None => {
                    let collection = (CollectionKind::Cache, Box::default());
                    let piece = Vec::new().into_iter();
                    self.stage = JobStage::Entries { scan: self.reader.scan_entries(), collection, piece };
                }
            }
            return Ok(());
        };
        if payload.is_empty() {
            file_header::encode_into(name, payload);
        }
        let words = &mut self.words;
        let more = scan.step(|word, count| {
            *words += 1;
            file_header::encode_into(&(word, count), payload);
        });
        if !more || payload.len() >= BLOCK_BYTES {
            let payload = std::mem::take(payload);
            if !more {
                *walk = None;
            }
            self.write(BlockKind::Image, &payload)?;
            failpoint::pass("snapshot.image");
        }
        Ok(())
    }

    fn walk_entries(&mut self) -> Result<(), FileError> {
        let JobStage::Entries { scan, collection, piece } = &mut self.stage else { unreachable!("only in this stage") };
        if piece.len() == 0 {
            // What is read at one position is held and not copied: it may be some hundred large values.
            let mut found = Vec::new();
            let more = scan.step(|CollectionId { kind, namespace }, entry| {
                if found.is_empty() {
                    *collection = (kind, namespace.into());
                }
                found.push(entry.clone());
            });
            inject!(SnapshotsWithoutEntries, found.clear());
            *piece = found.into_iter();
            if !more {
                self.stage = JobStage::Window { cursor: DedupCursor::default() };
            }
            return Ok(());
        }
        let mut payload = Vec::new();
        let id = CollectionId::new(collection.0, &collection.1);
        self.entries += entries::encode(id, piece, BLOCK_BYTES, &mut payload);
        self.write(BlockKind::Entries, &payload)?;
        failpoint::pass("snapshot.image");
        Ok(())
    }

    /// The walk is over: what the store shows now is the end this snapshot is a state at.
    fn end_walk(&mut self) -> Result<(), FileError> {
        failpoint::pass("snapshot.walked");
        // The end is read behind image and window: whatever changed while they were walked is in the records up to
        // here.
        let (end, time_ms) = self.reader.state_id_with_window();
        self.time_ms = time_ms;
        // Asked after the end was read: a state that was shown since the log was given up is in no file (a replica may
        // go on in memory), and must not become a snapshot in this directory.
        self.check_live()?;
        let tail = LogTail::open(&*self.disk, self.identity, self.place.place.clone())?;
        self.stage = JobStage::Records { end, tail };
        Ok(())
    }

    /// Whether its owner still wants it: a log that was given up stands for nothing any more, and a role that ends does
    /// not wait for a snapshot.
    fn check_live(&self) -> Result<(), FileError> {
        if self.place.is_live() {
            return Ok(());
        }
        Err(FileError::io(&self.temporary)(io::Error::other("the log was given up meanwhile")))
    }

    fn write_trailer(&mut self, end: StateId) -> Result<(), FileError> {
        let trailer =
            SnapshotTrailer { start: self.start, end, time_ms: self.time_ms, words: self.words, entries: self.entries };
        let mut payload = Vec::new();
        file_header::encode_into(&trailer, &mut payload);
        self.write(BlockKind::Trailer, &payload)?;
        failpoint::pass("snapshot.trailer");
        self.file.sync().map_err(FileError::io(&self.temporary))?;
        failpoint::pass("snapshot.synced");
        // Read back before it has its name: what is found wrong now costs nothing, since the snapshots before and the
        // log are there.
        let blocks = BlockReader::begin(&self.temporary, self.identity);
        self.stage = JobStage::Verify { end, blocks };
        Ok(())
    }

    /// The file was read back and is whole: it gets its name.
    fn publish(&mut self, end: StateId) -> Result<(), FileError> {
        let name = position_name(SNAPSHOT_PREFIX, end.position);
        failpoint::pass("snapshot.verified");
        self.disk.rename(&self.temporary, &name).map_err(FileError::io(&name))?;
        failpoint::pass("snapshot.renamed");
        self.disk.sync_directory().map_err(FileError::io(&name))?;
        failpoint::pass("snapshot.published");
        self.stage = JobStage::Prune { published: PublishedSnapshot { position: end.position, bytes: self.bytes } };
        Ok(())
    }

    fn write(&mut self, kind: BlockKind, payload: &[u8]) -> Result<(), FileError> {
        let (block, crc) = block::encode(kind, payload, self.crc);
        self.file.append(&block).map_err(FileError::io(&self.temporary))?;
        self.bytes += block.len() as u64;
        self.crc = crc;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::store::{DedupLimits, Store},
        storage::disk::RealDisk,
        storage::wal::Log,
        text::tokenizer::Analyzer,
    };

    const IDENTITY: DatabaseIdentity =
        DatabaseIdentity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 2 };

    /// After a sync that failed a replica goes on without its files, and its readers see what no file will ever tell
    /// of: an epoch, for one, that the MANIFEST does not know.
    #[test]
    fn a_snapshot_ends_with_the_log_it_copies_records_from() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()).expect("there"));
        let mut store = Store::new(IDENTITY.hasher(), DedupLimits::default());
        let mut log = Log::create(Arc::clone(&disk), IDENTITY, 1, StateId::default(), 1 << 20).expect("the disk works");
        let begin = |store: &Store, log: &Log| {
            let job = SnapshotJob::start(Arc::clone(&disk), IDENTITY, store.reader(), store.mark(), log.live_offset());
            job.expect("the disk works")
        };
        let job = begin(&store, &log);
        log.start_epoch(2).expect("the disk works"); // the same log, still written
        job.run().expect("nothing is in the way");

        let job = begin(&store, &log);
        drop(log);
        store.set_state_id(StateId { position: Position::new(3, 0), ..store.mark() }, LoggedTime::ZERO);
        let error = job.run().expect_err("nobody writes the log any more");
        assert!(error.to_string().contains("given up"), "{error}");
        let names = disk.list().expect("the disk works");
        let snapshots: Vec<_> = names.iter().filter(|name| name.starts_with(SNAPSHOT_PREFIX)).collect();
        assert_eq!(snapshots, [&position_name(SNAPSHOT_PREFIX, Position::ZERO)]);
    }
}
