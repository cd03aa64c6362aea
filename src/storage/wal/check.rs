//! Looks whether the files are still there that a log is written to, with what was written: somebody may remove, move,
//! replace or cut them meanwhile, and what is appended and synced then is found by no later start.

use super::Log;
use crate::{
    base::clock::Monotonic,
    base::limits,
    base::position::Position,
    storage::disk::{Disk, DiskFile},
    storage::file_header::{
        DatabaseIdentity, FILE_HEADER_BYTES, FileHeader, FileKind, LOG_PREFIX, MANIFEST, SNAPSHOT_PREFIX, parse_name,
    },
};
use std::{io, sync::Arc};

/// Work for the thread that syncs: looks whether the directory still has the files that a start would need.
#[derive(Clone)]
pub struct FileCheck {
    disk: Arc<dyn Disk>,
    name: String,
    file: Arc<dyn DiskFile>,
    identity: DatabaseIdentity,
    /// Bytes of the file when the check was taken: it may have more by now, and no fewer.
    len: u64,
    /// Segments that were there when the last check ended, or were begun since.
    segments: Vec<String>,
}

/// The result of a [`FileCheck`]: the segments that are there. `NotFound` names the file that is gone; after any other
/// error nothing is known.
pub type FileCheckResult = io::Result<Vec<String>>;

impl FileCheck {
    /// Checks the files. It takes some system calls, none of which writes.
    ///
    /// # Errors
    /// `NotFound`, with what is gone; else as the system says.
    pub fn run(&self) -> FileCheckResult {
        self.disk.check_in_place()?;
        let names = self.disk.list()?;
        // The segment that is written to is asked for by itself: syncs of a file that has lost its name go on
        // succeeding.
        for name in [MANIFEST, &self.name] {
            if !names.iter().any(|there| there == name) {
                return Err(gone(format!("{name} was removed or moved")));
            }
        }
        // The name alone says little: a copy that was put back in its place has it too.
        if self.disk.id(&self.name)? != self.file.id()? {
            return Err(gone(format!("another file stands in the place of {}", self.name)));
        }
        self.check_content()?;
        let missing = self.segments.iter().enumerate().filter(|(_, name)| !names.contains(name));
        // Listed after the segments: a snapshot that makes one needless was published before that one was removed.
        let mut oldest = None;
        for (at, name) in missing {
            if oldest.is_none() {
                oldest = Some(self.oldest_snapshot()?);
            }
            let next = self.segments.get(at + 1).and_then(|next| parse_name(LOG_PREFIX, next));
            let is_needless =
                next.zip(oldest.flatten()).is_some_and(|(next, oldest)| next.sequence <= oldest.sequence + 1);
            if !is_needless {
                return Err(gone(format!("{name} was removed or moved")));
            }
        }
        Ok(names.into_iter().filter(|name| parse_name(LOG_PREFIX, name).is_some()).collect())
    }

    /// Checks that the segment that is written to holds what was written, as far as its length and its header tell.
    fn check_content(&self) -> io::Result<()> {
        let len = self.file.len()?;
        if len < self.len {
            return Err(gone(format!("{} was cut off: it has {len} bytes, and {} were written", self.name, self.len)));
        }
        let mut header = [0; FILE_HEADER_BYTES];
        let read = self.file.read_at(0, &mut header)?;
        let decoded = FileHeader::decode_of(&self.name, &header[..read], FileKind::Log, &self.identity);
        decoded.map(drop).map_err(|damage| gone(format!("the header of {} was overwritten: {damage}", self.name)))
    }

    fn oldest_snapshot(&self) -> io::Result<Option<Position>> {
        Ok(self.disk.list()?.iter().find_map(|name| parse_name(SNAPSHOT_PREFIX, name)))
    }
}

fn gone(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, what)
}

impl Log {
    /// Gives the check whether the files are still there.
    pub fn check(&self) -> FileCheck {
        FileCheck {
            disk: Arc::clone(&self.disk),
            name: self.name.clone(),
            file: Arc::clone(&self.file),
            identity: self.identity,
            len: self.len,
            segments: self.segments.clone(),
        }
    }

    /// Takes the result of a [`FileCheck`]; returns what is gone, if that is known. A check that was started before the
    /// log went on to another segment, or for another log, says nothing about this one.
    pub fn checked(&mut self, check: &FileCheck, found: &FileCheckResult) -> Option<String> {
        if !Arc::ptr_eq(&check.file, &self.file) {
            return None;
        }
        match found {
            Ok(there) => {
                self.segments.clone_from(there);
                // Asked by who appends, so that nothing is under way. In front of the next record then stands something
                // that a start refuses.
                return self.file.len().ok().filter(|&len| len != self.len).map(|len| {
                    let (name, written) = (&self.name, self.len);
                    format!("somebody else writes to {name}: it has {len} bytes, and {written} were written")
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(error.to_string()),
            // A check that could not be made, for want of descriptors say, has found nothing, and is no reason to give
            // the files up.
            Err(_) => {}
        }
        None
    }
}

/// The schedule of file checks.
#[derive(Clone, Copy, Debug)]
pub struct CheckSchedule {
    next: Monotonic,
    running: bool,
}

impl CheckSchedule {
    /// The first is due a while after `now`: whoever has files now has just found them.
    pub fn new(now: Monotonic) -> Self {
        Self { next: now.after_ms(limits::FILE_CHECK_MS), running: false }
    }

    /// Returns whether a check is to be started at `now`: one is under way then, until [`CheckSchedule::ended`].
    pub fn due(&mut self, now: Monotonic) -> bool {
        if self.running || now < self.next {
            return false;
        }
        (self.running, self.next) = (true, now.after_ms(limits::FILE_CHECK_MS));
        true
    }

    /// The check that was begun has ended.
    pub fn ended(&mut self) {
        self.running = false;
    }

    /// Makes the next check due at once, because something was not found.
    pub fn hurry(&mut self) {
        self.next = Monotonic::default();
    }

    /// Gives the time of the next check; `None` while one is under way.
    pub fn next(&self) -> Option<Monotonic> {
        (!self.running).then_some(self.next)
    }
}
