//! The inputs of `memdb import`: a file is read twice, to look through it and then to cut it into batches; a pipe once.

use crate::output::CommandError;
use flate2::read::MultiGzDecoder;
use memdb::client::{
    import::{ImportBatch, ImportBatcher},
    import_reader::{ImportFault, ImportFormat, ImportSums, read_items},
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3;

/// Blocks of an input that are read at once.
const READ_BYTES: usize = 1 << 20;

/// Returns whether what a path names can be read only once.
pub(super) fn is_pipe(path: &Path) -> bool {
    path == Path::new("-") || !path.is_file() && path.exists()
}

/// The place of a file on the disk, its length, and the time of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SourceStamp {
    place: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl SourceStamp {
    fn of(file: &File) -> Option<Self> {
        let found = file.metadata().ok()?;
        let changed = (found.mtime(), found.mtime_nsec());
        Some(Self { place: (found.dev(), found.ino()), bytes: found.len(), changed })
    }
}

/// An input that is open, decompressed.
pub(super) struct OpenInput {
    text: Box<dyn Read + Send>,
    /// The same file once more; a pipe has none.
    file: Option<File>,
}

impl OpenInput {
    #[allow(clippy::disallowed_methods, reason = "a file of the user, none of a database")]
    pub(super) fn open(path: &Path) -> Result<Self, CommandError> {
        let failed = |error: io::Error| CommandError::Failed(format!("cannot read {}: {error}", path.display()));
        let (raw, file): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).map_err(failed)?;
            let same = (!is_pipe(path)).then(|| file.try_clone()).transpose().map_err(failed)?;
            (Box::new(file), same)
        };
        let mut input = BufReader::with_capacity(READ_BYTES, raw);
        let start = input.fill_buf().map_err(failed)?;
        let text: Box<dyn Read + Send> = if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(MultiGzDecoder::new(input))
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(zstd::stream::read::Decoder::with_buffer(input).map_err(failed)?)
        } else {
            Box::new(input)
        };
        Ok(Self { text, file })
    }

    fn stamp(&self) -> Option<SourceStamp> {
        self.file.as_ref().and_then(SourceStamp::of)
    }
}

/// The content of a file when it was looked through.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenFile {
    pub(super) sums: ImportSums,
    /// The hash of its text, behind what else decides which batches there are.
    pub(super) hash: u128,
    stamp: Option<SourceStamp>,
}

impl SeenFile {
    /// Reads a file to its end.
    pub(super) fn look_through(
        input: OpenInput,
        format: ImportFormat,
        ns: Option<&str>,
        mut hash: Xxh3,
    ) -> Result<Self, ImportFault> {
        let stamp = input.stamp();
        let text = HashedInput { input: input.text, hash: &mut hash };
        let sums = read_items(format, BufReader::with_capacity(READ_BYTES, text), ns, &mut |_| Ok(()))?;
        Ok(Self { sums, hash: hash.digest128(), stamp })
    }
}

/// The reason why no more of an input was cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutFault {
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] ImportFault),
    /// It is another file than the one that was looked through.
    #[error("it changed since it was looked through")]
    Changed,
}

/// Cuts an input into batches, and gives the last one, which is not full. Blocks.
///
/// Of an input that is wrong the open batch is not given: as it will be once the input is right, it has more items.
pub(super) fn cut(
    input: OpenInput,
    format: ImportFormat,
    ns: Option<&str>,
    (mut hash, seen): (Xxh3, Option<SeenFile>),
    batches: &mpsc::Sender<ImportBatch>,
) -> Result<(ImportSums, Option<ImportBatch>), CutFault> {
    let OpenInput { text, file } = input;
    let has_changed = || seen.is_some_and(|seen| file.as_ref().and_then(SourceStamp::of) != seen.stamp);
    let mut batcher = ImportBatcher::default();
    let text = HashedInput { input: text, hash: &mut hash };
    let read = read_items(format, BufReader::with_capacity(READ_BYTES, text), ns, &mut |read| {
        let line = read.line;
        for batch in batcher.take(read)? {
            // At each of them: nothing else is to be remembered under the name of what it held.
            if has_changed() || batches.blocking_send(batch).is_err() {
                return Err(ImportFault { line, reason: "stopped".to_owned() }); // whoever sends them says why
            }
        }
        Ok(())
    });
    // A change within the same tick of the disk's clock leaves the stamp.
    if has_changed() || read.is_ok() && seen.is_some_and(|seen| seen.hash != hash.digest128()) {
        return Err(CutFault::Changed);
    }
    Ok((read?, batcher.end()))
}

/// An input that is hashed as it is read.
struct HashedInput<'a, R> {
    input: R,
    hash: &'a mut Xxh3,
}

impl<R: Read> Read for HashedInput<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.hash.update(&into[..read]);
        Ok(read)
    }
}
