//! The narrow seam to the file system: a flat directory of files, and nothing else.
//!
//! Everything the database keeps goes through [`Disk`]. [`RealDisk`] is the directory; the simulation has a
//! faulty twin that loses what was not synced, tears and flips, runs full and fails to sync. What is relied on: a file
//! that was synced, and whose name was synced with the directory, is there after a power loss with the bytes it had;
//! a rename within the directory is atomic. Nothing is relied on of bytes that were not synced.
#![allow(clippy::disallowed_methods, reason = "the one place that may touch the file system")]

use crate::failpoint;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A directory of files.
pub trait Disk: Send + Sync {
    /// Makes a file, empty, replacing one of that name.
    ///
    /// # Errors
    /// As the system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that is there.
    ///
    /// # Errors
    /// `NotFound`, or as the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing the one that had it.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file away; one that is not there is no error.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files, sorted.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_directory(&self) -> io::Result<()>;
}

/// One file: appended to by one writer, read anywhere.
#[allow(clippy::len_without_is_empty, reason = "a file of no bytes is not a case anybody asks for")]
pub trait DiskFile: Send + Sync {
    /// Writes all bytes at the end. After an error any part of them may be there.
    ///
    /// # Errors
    /// As the system says.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all bytes durable.
    ///
    /// # Errors
    /// As the system says. The bytes' fate is then unknown, also after a later success.
    fn sync(&self) -> io::Result<()>;
    /// Reads at `offset` until `buffer` is full or the file ends; gives how many bytes were read.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Length in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// As the system says.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// Publishes a file whole: written under a temporary name, synced, renamed, the directory synced. Whatever happens
/// on the way, the old file or the new one is there.
///
/// # Errors
/// As the system says.
pub fn publish(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(name);
    failpoint::pass("file.begin");
    let file = disk.create(&temporary)?;
    file.append(bytes)?;
    failpoint::pass("file.written");
    file.sync()?;
    failpoint::pass("file.synced");
    disk.rename(&temporary, name)?;
    failpoint::pass("file.renamed");
    disk.sync_directory()?;
    failpoint::pass("file.done");
    Ok(())
}

/// The name a file has until it is whole. Files of such names are left over from a crash and mean nothing.
pub fn temporary_name(name: &str) -> String {
    format!("{name}{TEMPORARY}")
}

/// The ending of temporary names.
pub const TEMPORARY: &str = ".new";

/// Reads a whole file.
///
/// # Errors
/// As the system says; `FileTooLarge` beyond `most_bytes`.
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
}

/// The data directory's lock, held while this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl RealDisk {
    /// The directory, made if it is not there.
    ///
    /// # Errors
    /// As the system says.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let missing = directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
        fs::create_dir_all(directory)?;
        // The directory's own name must last as long as what is synced in it: so each parent that got a new name is.
        for parent in fs::canonicalize(directory)?.ancestors().skip(1).take(missing) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// The directory, which must be there.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or as the system says.
    pub fn existing(directory: &Path) -> io::Result<Self> {
        if !fs::metadata(directory)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// The directory, whether or not it is there yet: to look into it now and then.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Takes the lock of the directory, which one process at a time can hold. It goes with the process.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it, or as the system says.
    pub fn lock(&self) -> io::Result<Lock> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path("LOCK"))?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder); // only for the message
                io::Error::new(io::ErrorKind::WouldBlock, format!("held by process {}", holder.trim()))
            }
            fs::TryLockError::Error(error) => error,
        })?;
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock { _file: file })
    }

    /// The process that holds the lock, if one does. Nothing is made or changed.
    ///
    /// # Errors
    /// As the system says.
    pub fn holder(&self) -> io::Result<Option<String>> {
        let mut file = match File::open(self.path("LOCK")) {
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

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        File::create(self.path(name))?;
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name);
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            // Enough to look at: whoever writes is told then.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                File::open(&path)?
            }
            opened => opened?,
        };
        Ok(Arc::new(RealFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string()); // a name that is not UTF-8 is none of ours
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
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
    fn one_process_holds_the_lock_and_whoever_asks_is_told_which() {
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
}
