//! `memdb restore`: a leader's directory, from what another node holds or from a backup.

use crate::{
    directory_copy::{CopyFlags, CopyPlace, with_bar},
    output::{CommandError, CommandResult},
};
use memdb::node::{self, NodeError, RestoreReport};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
EXAMPLES
  memdb restore http://127.0.0.1:8081 ./data
  memdb leader --data-dir ./data --replica http://127.0.0.1:8081

  memdb restore /backups/monday ./data
  ssh db-1 memdb backup - | memdb restore - ./data
  memdb restore --from http://127.0.0.1:8081 --data-dir ./data

For a leader whose own directory is lost. The node it comes from is a replica with a --data-dir that has all there is; \
compare the positions in `memdb status` of each, and take the highest. The directory must hold no database.

What comes is read to the last digest. If it is cut off or altered, nothing is left of it.

Exits 0 once all is there, 1 if not, 2 on wrong usage, 130 after Ctrl-C.";

/// Bytes of a stream that are read at once, …
const READ_BYTES: usize = 1 << 20;
/// … and pieces of so many that wait.
const PIECES_AHEAD: usize = 2;

/// Make a leader's directory from what a replica or a backup holds.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArguments {
    /// A node, such as http://127.0.0.1:8081; the directory of a backup; a stream of `memdb backup -` in a file, or -
    /// for standard input.
    #[arg(value_name = "FROM")]
    first: Option<String>,

    /// Directory to restore into; made if it is not there.
    #[arg(value_name = "DIR")]
    second: Option<String>,

    /// The same as FROM.
    #[arg(long, value_name = "FROM")]
    from: Option<String>,

    /// The same as DIR.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    #[command(flatten)]
    copy: CopyFlags,
}

impl RestoreArguments {
    /// The two places, in whichever way each is given.
    fn places(&self) -> Result<(String, PathBuf), CommandError> {
        let mut given = [&self.first, &self.second].into_iter().flatten();
        let from = self.from.as_ref().or_else(|| given.next());
        let directory = self.data_dir.clone().or_else(|| given.next().map(PathBuf::from));
        match (from, directory, given.next()) {
            (Some(from), Some(directory), None) => Ok((from.clone(), directory)),
            _ => Err(CommandError::Usage("say from where, and into which directory: memdb restore FROM DIR".into())),
        }
    }
}

pub fn run(arguments: &RestoreArguments) -> CommandResult {
    let (from, directory) = arguments.places()?;
    let copy = &arguments.copy;
    let (path, into) = (Path::new(&from), CopyPlace::Directory(&directory));
    let restored = if path.is_dir() {
        with_bar(|progress| node::restore_files(path, &directory, progress))
    } else if from == "-" || path.is_file() {
        of_stream(open(path)?, &directory)?
    } else {
        let credentials = copy.credentials()?;
        with_bar(|progress| copy.fetch(("FROM", &from), into, &credentials, progress))?
    };
    copy.tell(
        restored,
        into,
        "Restored",
        Some(format!("Start it with: memdb leader --data-dir {}", directory.display())),
    )
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, CommandError> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    #[allow(clippy::disallowed_methods, reason = "a file of the user, none of a database")]
    let file = File::open(path);
    Ok(Box::new(file.map_err(|error| CommandError::Failed(format!("cannot read {}: {error}", path.display())))?))
}

/// Restores from a stream. Ctrl-C ends it as a stream that breaks off would.
fn of_stream(input: Box<dyn Read + Send>, directory: &Path) -> Result<Result<RestoreReport, NodeError>, CommandError> {
    let (pieces, waiting) = mpsc::sync_channel(PIECES_AHEAD);
    let (stopping, stopped) = (pieces.clone(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&stopped);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut interrupts = {
        let _within = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    runtime.spawn(async move {
        if interrupts.recv().await.is_some() {
            stop.store(true, Ordering::Relaxed);
            // In line behind what was read, which is soon taken.
            let _ = tokio::task::spawn_blocking(move || stopping.send(Err(io::Error::other("stopped")))).await;
        }
    });
    // On a thread of its own: a read of standard input cannot be ended, and nobody waits for it.
    thread::Builder::new().name("memdb-input".to_owned()).spawn(move || read_pieces(input, &pieces))?;
    let mut input = PieceReader { pieces: waiting, piece: Vec::new(), at: 0 };
    let restored = with_bar(|progress| node::restore_stream(&mut input, directory, progress));
    runtime.shutdown_background();
    Ok(restored.map_err(|error| if stopped.load(Ordering::Relaxed) { NodeError::Interrupted } else { error }))
}

/// Reads an input to its end, which an empty piece tells, or until nobody wants more.
fn read_pieces(mut input: Box<dyn Read + Send>, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; READ_BYTES];
        let read = input.read(&mut piece);
        let is_end = !matches!(read, Ok(1..));
        let piece = read.map(|bytes| {
            piece.truncate(bytes);
            piece
        });
        if pieces.send(piece).is_err() || is_end {
            return;
        }
    }
}

/// The pieces that another thread reads.
struct PieceReader {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    /// Bytes of the piece that were taken.
    at: usize,
}

impl Read for PieceReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            self.piece = self.pieces.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            self.at = 0;
        }
        let read = (&self.piece[self.at..]).read(into)?;
        self.at += read;
        Ok(read)
    }
}
