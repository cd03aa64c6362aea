//! A directory in memory: a copy of real files that a test may spoil, thousands of times a second.

use memdb::storage::disk::{Disk, DiskFile};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

/// The files of a directory, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A [`Disk`] over [`Files`]. It keeps everything at once: what a crash loses is the simulation's matter.
pub struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
}

impl MemoryDisk {
    pub fn new(files: &Files) -> Arc<Self> {
        let file = |bytes: &Vec<u8>| Arc::new(MemoryFile { bytes: Mutex::new(bytes.clone()) });
        Arc::new(Self { files: Mutex::new(files.iter().map(|(name, bytes)| (name.clone(), file(bytes))).collect()) })
    }

    pub fn files(&self) -> Files {
        let files = self.files.lock().expect("no panic inside");
        files.iter().map(|(name, file)| (name.clone(), file.bytes.lock().expect("no panic inside").clone())).collect()
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::new(MemoryFile { bytes: Mutex::new(Vec::new()) });
        self.files.lock().expect("no panic inside").insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let files = self.files.lock().expect("no panic inside");
        files.get(name).map(|file| Arc::clone(file) as Arc<dyn DiskFile>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().expect("no panic inside");
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().expect("no panic inside").remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().expect("no panic inside").keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.lock().expect("no panic inside").extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes.lock().expect("no panic inside");
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().expect("no panic inside").len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().expect("no panic inside").truncate(len as usize);
        Ok(())
    }
}
