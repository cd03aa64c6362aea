//! A disk in memory that fails when it is told to.

use memdb::disk::{Disk, DiskFile};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// What goes wrong.
pub struct Faults {
    /// Bytes that may still be written.
    pub room: AtomicUsize,
    pub syncs_fail: AtomicBool,
    pub truncates_fail: AtomicBool,
}

#[derive(Clone)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Arc<MemoryFile>>>>,
    pub faults: Arc<Faults>,
}

struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    faults: Arc<Faults>,
}

impl MemoryDisk {
    pub fn new() -> Self {
        let faults = Faults {
            room: AtomicUsize::new(usize::MAX),
            syncs_fail: AtomicBool::new(false),
            truncates_fail: AtomicBool::new(false),
        };
        Self { files: Arc::default(), faults: Arc::new(faults) }
    }

    /// Bytes in all files together.
    pub fn bytes(&self) -> usize {
        self.files().values().map(|file| file.bytes().len()).sum()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<MemoryFile>>> {
        self.files.lock().expect("no test panics inside")
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::new(MemoryFile { bytes: Mutex::default(), faults: Arc::clone(&self.faults) });
        self.files().insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files().get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.faults.sync()
    }
}

impl Faults {
    fn sync(&self) -> io::Result<()> {
        if self.syncs_fail.load(Ordering::Relaxed) { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().expect("no test panics inside")
    }
}

impl DiskFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let room = self.faults.room.load(Ordering::Relaxed);
        let fits = bytes.len().min(room);
        self.bytes().extend_from_slice(&bytes[..fits]);
        if room != usize::MAX {
            self.faults.room.store(room - fits, Ordering::Relaxed);
        }
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.sync()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        if self.faults.truncates_fail.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.bytes().truncate(len as usize);
        Ok(())
    }
}
