//! The narrow seam to the file system: a flat directory of files, and nothing else.
//!
//! Everything the database keeps goes through [`Disk`]. [`RealDisk`] is the directory; the simulation has a
//! faulty twin that loses what was not synced, tears and flips, runs full and fails to sync. What is relied on: a file
//! that was synced, and whose name was synced with the directory, is there after a power loss with the bytes it had;
//! a rename within the directory is atomic. Nothing is relied on of bytes that were not synced.
#![allow(clippy::disallowed_methods, reason = "the one place that may touch the file system")]

use crate::base::failpoint;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// The file whose lock says that a process writes the directory.
pub const LOCK: &str = "LOCK";

/// A directory of files.
pub trait Disk: Send + Sync {
    /// Makes a file, empty, replacing one of that name.
    ///
    /// # Errors
    /// The system's error; a file of this name, possibly the old one, may be there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that is there.
    ///
    /// # Errors
    /// `NotFound`, or as the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing the one that had it.
    ///
    /// # Errors
    /// The system's error; the file has either of the two names.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file away; one that is not there is no error.
    ///
    /// # Errors
    /// The system's error; the file may be there or not. A file that is not there is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files, sorted.
    ///
    /// # Errors
    /// The system's error if the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// The system's error; the changes may be lost in a power failure, also after a later success.
    fn sync_directory(&self) -> io::Result<()>;
    /// Identifies the file that has this name now; `None` if there is none, or this disk cannot tell files apart.
    ///
    /// # Errors
    /// The system's error, except for a file that is not there.
    fn id(&self, name: &str) -> io::Result<Option<FileId>> {
        let _ = name;
        Ok(None)
    }
    /// Checks that the path of the directory still leads to this one, and that it holds the lock that was taken in it.
    ///
    /// # Errors
    /// `NotFound` if it is not, with what has become of it; else as the system says, and nothing is known.
    fn check_in_place(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The identity of a file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

/// One file: appended to by one writer, read anywhere.
#[allow(clippy::len_without_is_empty, reason = "a file of no bytes is not a case anybody asks for")]
pub trait DiskFile: Send + Sync {
    /// Writes all bytes at the end. After an error any part of them may be there.
    ///
    /// # Errors
    /// The system's error, for example if the disk is full; any part of the bytes may be there then.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all bytes durable.
    ///
    /// # Errors
    /// The system's error. Whether the bytes are durable is then unknown, also after a later success.
    fn sync(&self) -> io::Result<()>;
    /// Reads at `offset` until `buffer` is full or the file ends; gives how many bytes were read.
    ///
    /// # Errors
    /// The system's error if the file cannot be read; reaching its end is no error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Length in bytes.
    ///
    /// # Errors
    /// The system's error if the file's metadata cannot be read.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// The system's error; the file has the old or the new length.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Identifies the file; `None` if this disk cannot tell files apart.
    ///
    /// # Errors
    /// The system's error if the file's metadata cannot be read.
    fn id(&self) -> io::Result<Option<FileId>> {
        Ok(None)
    }
}

/// Publishes a file whole: written under a temporary name, synced, renamed, the directory synced. Whatever happens
/// on the way, the old file or the new one is there.
///
/// # Errors
/// The error of whichever step failed: writing, syncing, renaming, or syncing the directory. The old file is whole
/// then, or the new one.
pub fn publish(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(name);
    failpoint::pass("file.begin");
    let file = disk.create(&temporary)?;
    file.append(bytes)?;
    failpoint::pass("file.written");
    // Synced before it has its name: after a power loss a name must not lead to a file whose bytes are missing.
    file.sync()?;
    failpoint::pass("file.synced");
    disk.rename(&temporary, name)?;
    failpoint::pass("file.renamed");
    // A rename is durable only with the directory.
    disk.sync_directory()?;
    failpoint::pass("file.done");
    Ok(())
}

/// The name a file has until it is whole. Files of such names are left over from a crash and mean nothing.
pub fn temporary_name(name: &str) -> String {
    format!("{name}{TEMPORARY}")
}

/// Returns whether a write has failed for want of room, or because the file system can only be read: it may succeed
/// later, and what is there can be read meanwhile.
pub fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem)
}

/// The ending of temporary names.
pub const TEMPORARY: &str = ".new";

/// Reads a whole file.
///
/// # Errors
/// `FileTooLarge` if the file has more than `most_bytes`; the system's error if it cannot be read.
pub fn read_all(file: &dyn DiskFile, most_bytes: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?;
    if len > most_bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes, at most {most_bytes} expected")));
    }
    let mut bytes = vec![0; len as usize];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// A directory of the real file system.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    /// The directory itself: whatever takes its name, nothing is read, written or removed there.
    held: Option<File>,
    /// The lock that was taken.
    lock: OnceLock<FileId>,
}

/// The data directory's lock, held while this lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl RealDisk {
    /// The directory, made if it is not there.
    ///
    /// # Errors
    /// The system's error if the directory or one above it cannot be made, opened or synced.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let missing = directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
        fs::create_dir_all(directory)?;
        // The directory's own name must last as long as what is synced in it: so each parent that got a new name is.
        for parent in fs::canonicalize(directory)?.ancestors().skip(1).take(missing) {
            File::open(parent)?.sync_all()?;
        }
        Self::existing(directory)
    }

    /// The directory, which must be there.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or as the system says.
    pub fn existing(directory: &Path) -> io::Result<Self> {
        let held = File::open(directory)?;
        if !held.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let directory = std::path::absolute(directory)?;
        Ok(Self { directory, held: Some(held), lock: OnceLock::new() })
    }

    /// Removes a directory in which nothing is but its lock. Whoever waits for that finds the directory gone.
    ///
    /// # Errors
    /// The system's error, for example if something else is in it.
    pub fn remove_empty(directory: &Path, lock: DirectoryLock) -> io::Result<()> {
        fs::remove_file(directory.join(LOCK))?;
        fs::remove_dir(directory)?;
        drop(lock); // held until here, so that nobody begins a database in it meanwhile
        Ok(())
    }

    /// The directory, whether or not it is there yet, and whichever has its name at the time: to look into it now and
    /// then.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), held: None, lock: OnceLock::new() }
    }

    /// Takes the lock of the directory, which one process at a time can hold. It goes with the process.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it, or as the system says.
    pub fn lock(&self) -> io::Result<DirectoryLock> {
        let mut file = match self.open_file(LOCK, OFlags::RDWR | OFlags::CREATE) {
            // One that is there can be locked without being written.
            Err(error) if is_no_room(&error) => self
                .open_file(LOCK, OFlags::RDONLY)
                .map_err(|_| io::Error::new(error.kind(), format!("{LOCK} cannot be made: {error}")))?,
            opened => opened?,
        };
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder); // only for the message
                io::Error::new(io::ErrorKind::WouldBlock, format!("held by process {}", holder.trim()))
            }
            fs::TryLockError::Error(error) => error,
        })?;
        // Who it is, for whoever asks: on a full disk that is not worth refusing to start.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        let _ = self.lock.set(FileId::of(&file.metadata()?)); // taken again: it is the same file
        Ok(DirectoryLock { _file: file })
    }

    /// The process that holds the lock, if one does. Nothing is made or changed.
    ///
    /// # Errors
    /// The system's error if the lock's file is there and cannot be read.
    pub fn holder(&self) -> io::Result<Option<String>> {
        let mut file = match self.open_file(LOCK, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None), // and let go with the file
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder); // only for the message
                Ok(Some(holder.trim().to_owned()))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// A name in the directory, as the system takes it.
    fn entry(&self, name: &str) -> (BorrowedFd<'_>, PathBuf) {
        match &self.held {
            Some(held) => (held.as_fd(), name.into()),
            None => (CWD, self.directory.join(name)),
        }
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let (directory, name) = self.entry(name);
        Ok(rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))?.into())
    }

    fn open_directory(&self) -> io::Result<File> {
        self.open_file(".", OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn is_file(&self, name: &str) -> io::Result<bool> {
        let (directory, name) = self.entry(name);
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }
}

impl FileId {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Gives what was found under a name: `NotFound` becomes `None`.
fn found<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(there) => Ok(Some(there)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::StaleNetworkFileHandle => Ok(None),
            _ => Err(error),
        },
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = match self.open_file(name, OFlags::RDWR | OFlags::APPEND) {
            // Enough to read it; a write fails when it is tried.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                self.open_file(name, OFlags::RDONLY)?
            }
            opened => opened?,
        };
        Ok(Arc::new(RealFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let ((directory, from), (_, to)) = (self.entry(from), self.entry(to));
        Ok(rustix::fs::renameat(directory, from, directory, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (directory, name) = self.entry(name);
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()).map_err(io::Error::from) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.open_directory()?)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue }; // one that is not UTF-8 is none of ours
            let is_file = match entry.file_type() {
                FileType::RegularFile => true,
                FileType::Unknown => found(self.is_file(name))?.unwrap_or(false), // this file system does not say
                _ => false,
            };
            if is_file {
                names.push(name.to_owned());
            }
        }
        // Names sort as positions do, and all who read a directory rely on oldest first.
        names.sort_unstable();
        Ok(names)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.open_directory()?.sync_all()
    }

    fn id(&self, name: &str) -> io::Result<Option<FileId>> {
        let (directory, name) = self.entry(name);
        let stat = found(rustix::fs::statat(directory, name, AtFlags::empty()).map_err(io::Error::from))?;
        Ok(stat.map(|stat| FileId { device: stat.st_dev, inode: stat.st_ino }))
    }

    fn check_in_place(&self) -> io::Result<()> {
        let Some(held) = &self.held else { return Ok(()) };
        let path = self.directory.display();
        let gone = |what: String| Err(io::Error::new(io::ErrorKind::NotFound, what));
        match found(fs::metadata(&self.directory))? {
            None => return gone(format!("the data directory {path} was removed or moved")),
            Some(there) if FileId::of(&there) != FileId::of(&held.metadata()?) => {
                return gone(format!("another directory stands in the place of the data directory {path}"));
            }
            Some(_) => {}
        }
        match self.lock.get() {
            Some(lock) if self.id(LOCK)? != Some(*lock) => {
                gone(format!("{LOCK} in {path} was removed, moved or replaced: a second process could write there"))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // A file without a name is no failure here: a finished segment may be pruned before it is synced. Whether the
        // files are still there is for `storage/wal/check.rs` to say.
        // `sync_data` covers the length, which is all of the metadata that an append changes; times need no write of
        // their own.
        self.file.sync_data()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn id(&self) -> io::Result<Option<FileId>> {
        Ok(Some(FileId::of(&self.file.metadata()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let disk = RealDisk::new(directory.path()).expect("it is there");
        (directory, disk)
    }

    #[test]
    fn one_process_holds_the_lock_and_whoever_asks_learns_which() {
        let (directory, disk) = disk();
        assert_eq!(disk.holder().expect("readable"), None);
        let lock = disk.lock().expect("free");
        let other = RealDisk::existing(directory.path()).expect("there");
        let me = std::process::id().to_string();
        assert_eq!(other.holder().expect("readable"), Some(me.clone()));
        let refused = other.lock().expect_err("held");
        assert_eq!((refused.kind(), refused.to_string()), (io::ErrorKind::WouldBlock, format!("held by process {me}")));
        drop(lock);
        assert_eq!(other.holder().expect("readable"), None);
        assert!(other.lock().is_ok());
    }

    #[test]
    fn published_files_replace_and_leave_no_temporary_one() {
        let (_directory, disk) = disk();
        for bytes in [&b"one"[..], b"another"] {
            publish(&disk, "file", bytes).expect("the disk works");
            assert_eq!(disk.list().expect("readable"), ["file"]);
            assert_eq!(read_all(&*disk.open("file").expect("there"), 100).expect("readable"), bytes);
        }
        let file = disk.open("file").expect("there");
        assert_eq!(read_all(&*file, 6).expect_err("longer").kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_is_appended_to_read_anywhere_and_cut() {
        let (directory, disk) = disk();
        let file = disk.create("file").expect("made");
        file.append(b"hello ").and_then(|()| file.append(b"world")).and_then(|()| file.sync()).expect("the disk works");
        let mut buffer = [0; 8];
        assert_eq!(file.read_at(6, &mut buffer).expect("readable"), 5);
        assert_eq!(&buffer[..5], b"world");
        assert_eq!(file.read_at(99, &mut buffer).expect("readable"), 0);
        file.truncate(5).expect("the disk works");
        file.append(b"!").expect("the disk works");
        assert_eq!(read_all(&*file, 100).expect("readable"), b"hello!");
        fs::create_dir(directory.path().join("folder")).expect("made");
        assert_eq!(disk.list().expect("readable"), ["file"], "folders are none of ours");
        disk.remove("file").and_then(|()| disk.remove("file")).expect("gone is gone");
        assert_eq!(disk.open("file").map(|_| ()).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_that_was_moved_or_replaced_is_reported_and_nothing_is_touched_under_its_name() {
        let parent = tempfile::TempDir::new().expect("a directory");
        let (path, away) = (parent.path().join("data"), parent.path().join("away"));
        let disk = RealDisk::new(&path).expect("made");
        let _lock = disk.lock().expect("free");
        let in_place = || disk.check_in_place().map_err(|error| (error.kind(), error.to_string()));
        assert_eq!(in_place(), Ok(()));
        fs::rename(&path, &away).expect("moved");
        let (kind, what) = in_place().expect_err("moved");
        assert!(kind == io::ErrorKind::NotFound && what.contains("removed or moved"), "{what}");
        fs::create_dir(&path).expect("made");
        fs::write(path.join("other"), b"").expect("written");
        assert!(in_place().expect_err("another").1.contains("another directory"));
        disk.create("file")
            .and_then(|_| disk.rename("file", "name"))
            .and_then(|()| disk.remove("other"))
            .expect("works");
        assert_eq!(disk.list().expect("readable"), ["LOCK", "name"], "it is the directory that was opened");
        assert!(path.join("other").exists() && !path.join("name").exists());
        fs::remove_dir_all(&path).and_then(|()| fs::rename(&away, &path)).expect("moved back");
        assert_eq!(in_place(), Ok(()));
        fs::rename(path.join("LOCK"), path.join("LOCK.old")).expect("moved");
        assert!(in_place().expect_err("no lock").1.contains("second process"));
        fs::write(path.join("LOCK"), b"1\n").expect("another");
        assert!(in_place().is_err(), "a file of that name is not the lock");
    }

    #[test]
    fn ids_tell_files_apart_and_a_file_that_was_removed_is_synced_all_the_same() {
        let (_directory, disk) = disk();
        let file = disk.create("file").expect("made");
        assert_eq!(disk.id("file").expect("readable"), file.id().expect("readable"));
        disk.remove("file").expect("removed");
        file.sync().expect("a pruned segment may still have a sync under way");
        assert_eq!(disk.id("file").expect("readable"), None);
        let other = disk.create("file").expect("made");
        assert_ne!(other.id().expect("readable"), file.id().expect("readable"));
    }
}
