//! A directory in memory: files that a test may spoil, thousands of times a second, on a disk that fails when it is
//! told to.

use memdb::storage::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

/// The files of a directory, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A [`Disk`] over [`Files`]. It keeps everything at once: what a power loss takes is the simulation's matter.
///
/// A clone is the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Arc<MemoryFile>>>>,
    pub faults: Arc<Faults>,
}

/// The faults of a [`MemoryDisk`]: none, to begin with.
pub struct Faults {
    /// Bytes that may still be written.
    pub room: AtomicUsize,
    pub appends_fail: AtomicBool,
    pub syncs_fail: AtomicBool,
    pub truncates_fail: AtomicBool,
    /// Changes that may still be made before there is no room for more, or the process is killed.
    pub changes: AtomicUsize,
}

struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    faults: Arc<Faults>,
}

impl MemoryDisk {
    /// A disk with these files.
    pub fn new(files: &Files) -> Arc<Self> {
        Self::with(files, Faults::default())
    }

    /// A disk that does so many changes and no more, the last of them in part: what is there then is what a kill
    /// leaves.
    pub fn killed_after(changes: usize, files: &Files) -> Arc<Self> {
        Self::with(files, Faults { changes: AtomicUsize::new(changes), ..Faults::default() })
    }

    fn with(files: &Files, faults: Faults) -> Arc<Self> {
        let faults = Arc::new(faults);
        let file =
            |bytes: &Vec<u8>| Arc::new(MemoryFile { bytes: Mutex::new(bytes.clone()), faults: Arc::clone(&faults) });
        let files = files.iter().map(|(name, bytes)| (name.clone(), file(bytes))).collect();
        Arc::new(Self { files: Arc::new(Mutex::new(files)), faults })
    }

    /// A copy of all files.
    pub fn files(&self) -> Files {
        self.files.lock().iter().map(|(name, file)| (name.clone(), file.bytes.lock().clone())).collect()
    }

    /// Bytes in all files together.
    pub fn bytes(&self) -> usize {
        self.files.lock().values().map(|file| file.bytes.lock().len()).sum()
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            room: AtomicUsize::new(usize::MAX),
            appends_fail: AtomicBool::new(false),
            syncs_fail: AtomicBool::new(false),
            truncates_fail: AtomicBool::new(false),
            changes: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Faults {
    fn change(&self) -> io::Result<()> {
        let left = |left: usize| if left == usize::MAX { Some(left) } else { left.checked_sub(1) };
        // What a full disk says. A kill leaves the same behind, as nobody goes on after it.
        self.changes.fetch_update(Relaxed, Relaxed, left).map(drop).map_err(|_| ErrorKind::StorageFull.into())
    }

    fn sync(&self) -> io::Result<()> {
        if self.syncs_fail.load(Relaxed) { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.change()?;
        let file = Arc::new(MemoryFile { bytes: Mutex::default(), faults: Arc::clone(&self.faults) });
        self.files.lock().insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files.lock().get(name).cloned().ok_or(ErrorKind::NotFound)?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.change()?;
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.change()?;
        self.files.lock().remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.faults.sync()
    }
}

impl DiskFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if let Err(killed) = self.faults.change() {
            self.bytes.lock().extend_from_slice(&bytes[..bytes.len() / 2]); // torn
            return Err(killed);
        }
        if self.faults.appends_fail.load(Relaxed) {
            self.bytes.lock().extend_from_slice(&bytes[..bytes.len() / 2]);
            return Err(io::Error::other("on purpose"));
        }
        let room = self.faults.room.load(Relaxed);
        let fits = bytes.len().min(room);
        self.bytes.lock().extend_from_slice(&bytes[..fits]);
        if room != usize::MAX {
            self.faults.room.store(room - fits, Relaxed);
        }
        if fits == bytes.len() { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.sync()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes.lock();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.faults.change()?;
        if self.faults.truncates_fail.load(Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.bytes.lock().truncate(len as usize);
        Ok(())
    }
}
