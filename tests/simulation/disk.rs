//! A disk in memory with the faults a real one has.
//!
//! What a process writes goes to pages of a cache ("data"); a sync brings the pages it has touched to the medium
//! ("durable"). A killed process leaves the cache as it is. At a power loss the cache is gone, and of what was not
//! synced each page holds its old bytes, the bytes of any moment since, or the front of one and the back of another,
//! and the file any length it had since; each operation on the directory has happened or not. A sync that fails has
//! brought some pages to the medium, and a later one does not try the others again, because the cache calls them
//! clean ("fsyncgate", Rebello et al. 2020).

use crate::{plant::Bug, random::Random};
use memdb::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::Arc,
};

/// What is left of what was not synced, when the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    Nothing,
    Everything,
    Anything,
}

/// A fault that the next operation of its kind will meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before, in, or after the mutating operation that comes after so many others.
    CrashIn(usize),
    /// The next sync of a file fails.
    Sync,
    /// The next sync of the directory fails.
    SyncDirectory,
    /// The next append fails after any part of its bytes.
    Append,
    /// The next truncation fails.
    Truncate,
    /// So many operations that take room fail, appends after a part of their bytes.
    Full(usize),
    /// The next read fails.
    Read,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Unlink { name: String, inode: u64 },
}

/// One file: its bytes in the cache now and at the last sync, on the medium, and the changes between the first two.
#[derive(Clone, Debug, Default)]
struct Inode {
    data: Vec<u8>,
    clean: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

impl Inode {
    fn change(&mut self, change: Change) {
        apply(&mut self.data, &change);
        self.changes.push(change);
    }

    /// Every content each changed page has had since the last sync, what the medium holds first, and every length.
    fn versions(&self, page: usize) -> (BTreeMap<usize, Vec<Vec<u8>>>, Vec<usize>) {
        let mut pages: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        let mut lengths = vec![self.durable.len()];
        let mut data = self.clean.clone();
        for change in &self.changes {
            let (from, to) = match change {
                Change::Write { offset, bytes } => (*offset, offset + bytes.len()),
                Change::Truncate { len } => (*len, data.len()),
            };
            apply(&mut data, change);
            for number in from / page..to.div_ceil(page) {
                let versions = pages.entry(number).or_insert_with(|| vec![page_of(&self.durable, number, page)]);
                versions.push(page_of(&data, number, page));
            }
            lengths.push(data.len());
        }
        (pages, lengths)
    }

    /// What the medium may hold if it stops here.
    fn medium(&self, page: usize, survives: Survives, random: &mut Random) -> Vec<u8> {
        if self.changes.is_empty() || survives == Survives::Nothing {
            return self.durable.clone();
        }
        let (pages, lengths) = self.versions(page);
        let len = match survives {
            Survives::Everything => self.data.len(),
            _ if random.percent(60) => *random.pick(&lengths),
            _ => {
                let (low, high) = (lengths.iter().min().expect("one at least"), lengths.iter().max().expect("too"));
                random.between(*low, *high)
            }
        };
        let mut medium = self.durable.clone();
        for (number, versions) in pages {
            let mut bytes = versions.last().expect("one at least").clone();
            if survives == Survives::Anything {
                bytes.clone_from(random.pick(&versions));
                if random.percent(25) {
                    let torn = random.below(page);
                    bytes[torn..].copy_from_slice(&random.pick(&versions)[torn..]);
                }
            }
            let end = (number + 1) * page;
            if medium.len() < end {
                medium.resize(end, 0);
            }
            medium[number * page..end].copy_from_slice(&bytes);
        }
        medium.resize(len, 0);
        medium
    }

    fn lose_cache(&mut self, medium: Vec<u8>) {
        *self = Self { data: medium.clone(), clean: medium.clone(), durable: medium, changes: Vec::new() };
    }
}

fn apply(data: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            data.truncate(*offset); // all writes are at the end
            data.extend_from_slice(bytes);
        }
        Change::Truncate { len } => data.truncate(*len),
    }
}

fn page_of(data: &[u8], number: usize, page: usize) -> Vec<u8> {
    let start = (number * page).min(data.len());
    let mut bytes = data[start..(start + page).min(data.len())].to_vec();
    bytes.resize(page, 0);
    bytes
}

/// How much of an operation takes place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Part,
    Whole,
}

/// The machine's disk: what outlives a process.
pub struct Machine {
    random: Random,
    page: usize,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    process: u64,
    crashed: bool,
    faults: Vec<Fault>,
    bug: Option<Bug>,
    /// Faults that have been met.
    pub met: usize,
    /// Whether the last fault was that there is no room.
    pub was_full: bool,
    /// What was done and met since it was last taken.
    pub events: Vec<String>,
}

impl Machine {
    pub fn new(random: Random, page: usize, bug: Option<Bug>) -> Self {
        Self {
            random,
            page,
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            process: 0,
            crashed: false,
            faults: Vec::new(),
            bug,
            met: 0,
            was_full: false,
            events: Vec::new(),
        }
    }

    pub fn arm(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub fn heal(&mut self) {
        self.faults.clear();
    }

    pub fn crashed(&self) -> bool {
        self.crashed
    }

    /// The process is gone; what it gave to the system is not.
    pub fn kill(&mut self) {
        self.process += 1;
        self.crashed = false;
        self.faults.clear();
    }

    /// The machine is gone; what was synced is not.
    pub fn lose_power(&mut self, survives: Survives) {
        self.kill();
        for change in std::mem::take(&mut self.name_changes) {
            let happens = match survives {
                Survives::Nothing => false,
                Survives::Everything => true,
                Survives::Anything => self.random.percent(50),
            };
            if happens {
                rename(&mut self.durable_names, &change);
            }
        }
        self.names = self.durable_names.clone();
        let linked: Vec<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| linked.contains(inode));
        for inode in self.inodes.values_mut() {
            let medium = inode.medium(self.page, survives, &mut self.random);
            inode.lose_cache(medium);
        }
    }

    /// Flips one bit of one file that is on the medium as it is in the cache; tells where.
    pub fn flip_a_bit(&mut self) -> Option<(String, usize)> {
        let (page, random) = (self.page, &mut self.random);
        let mut healthy =
            |inode: &Inode| !inode.data.is_empty() && inode.medium(page, Survives::Everything, random) == inode.data;
        let names: Vec<String> =
            self.names.iter().filter(|(_, inode)| healthy(&self.inodes[inode])).map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            return None;
        }
        let name = self.random.pick(&names).clone();
        let inode = self.inodes.get_mut(&self.names[&name]).expect("it has a name");
        let bit = self.random.below(inode.data.len() * 8);
        let mut data = std::mem::take(&mut inode.data);
        data[bit / 8] ^= 1 << (bit % 8);
        inode.lose_cache(data);
        Some((name, bit / 8))
    }

    fn take_fault(&mut self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at = self.faults.iter().position(wanted)?;
        self.met += 1;
        self.was_full = false;
        Some(self.faults.remove(at))
    }

    /// Whether an operation that takes room finds none.
    fn finds_no_room(&mut self) -> bool {
        let Some(at) = self.faults.iter().position(|fault| matches!(fault, Fault::Full(_))) else { return false };
        self.met += 1;
        self.was_full = true;
        if let Fault::Full(left) = &mut self.faults[at] {
            *left -= 1;
            if *left == 0 {
                self.faults.remove(at);
            }
        }
        true
    }

    /// Does a mutating operation, unless the process ends at it.
    fn operate<T>(
        &mut self,
        process: u64,
        what: std::fmt::Arguments<'_>,
        effect: impl FnOnce(&mut Self, Extent) -> io::Result<T>,
    ) -> io::Result<T> {
        self.alive(process)?;
        let mut ends = false;
        for fault in &mut self.faults {
            if let Fault::CrashIn(operations) = fault {
                ends |= *operations == 0;
                *operations = operations.saturating_sub(1);
            }
        }
        if !ends {
            let result = effect(self, Extent::Whole);
            let failed = result.as_ref().err().map_or(String::new(), |error| format!(": {error}"));
            self.events.push(format!("{what}{failed}"));
            return result;
        }
        let moment = self.random.below(3);
        match moment {
            0 => {}
            1 => drop(effect(self, Extent::Part)),
            _ => drop(effect(self, Extent::Whole)),
        }
        self.events.push(format!("{what}: CRASH {}", ["before it", "in it", "after it"][moment]));
        self.crashed = true;
        self.met += 1;
        Err(gone())
    }

    fn alive(&self, process: u64) -> io::Result<()> {
        if self.crashed || process != self.process { Err(gone()) } else { Ok(()) }
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("an open file has an inode")
    }

    fn append(&mut self, inode: u64, bytes: &[u8], extent: Extent) -> io::Result<()> {
        let full = self.finds_no_room();
        let failed = !full && self.take_fault(|fault| *fault == Fault::Append).is_some();
        let written = if full || extent == Extent::Part {
            self.random.below(bytes.len().max(1))
        } else if failed {
            if self.random.percent(40) { bytes.len() } else { self.random.between(0, bytes.len()) }
        } else {
            bytes.len()
        };
        let file = self.inode(inode);
        let offset = file.data.len();
        file.change(Change::Write { offset, bytes: bytes[..written].to_vec() });
        match (full, failed) {
            _ if self.bug == Some(Bug::ShortAppendIsOk) => Ok(()),
            (true, _) => Err(ErrorKind::StorageFull.into()),
            (_, true) => Err(io::Error::other("the append failed")),
            _ => Ok(()),
        }
    }

    fn sync(&mut self, inode: u64, extent: Extent) -> io::Result<()> {
        if self.bug == Some(Bug::SyncDoesNothing) {
            return Ok(());
        }
        let failed = self.take_fault(|fault| *fault == Fault::Sync).is_some();
        let survives = if failed || extent == Extent::Part { Survives::Anything } else { Survives::Everything };
        let (page, mut random) = (self.page, self.random.fork());
        let file = self.inode(inode);
        file.durable = file.medium(page, survives, &mut random);
        if extent == Extent::Part {
            return Ok(()); // the process is gone: the cache goes on to call its pages dirty
        }
        file.changes.clear();
        file.clean = file.data.clone();
        if failed { Err(io::Error::other("the sync failed")) } else { Ok(()) }
    }

    fn change_name(&mut self, change: NameChange) {
        rename(&mut self.names, &change);
        self.name_changes.push(change);
    }

    fn sync_directory(&mut self, extent: Extent) -> io::Result<()> {
        if self.bug == Some(Bug::DirectorySyncDoesNothing) {
            return Ok(());
        }
        let failed = self.take_fault(|fault| *fault == Fault::SyncDirectory).is_some();
        if failed || extent == Extent::Part {
            for change in &self.name_changes {
                if self.random.percent(50) {
                    rename(&mut self.durable_names, change);
                }
            }
            return Err(io::Error::other("the sync of the directory failed"));
        }
        self.name_changes.clear();
        self.durable_names = self.names.clone();
        Ok(())
    }
}

fn rename(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    let mut unlink = |name: &String, inode: u64| {
        if names.get(name) == Some(&inode) {
            names.remove(name);
        }
    };
    match change {
        NameChange::Link { name, inode } => drop(names.insert(name.clone(), *inode)),
        NameChange::Rename { from, to, inode } => {
            unlink(from, *inode);
            names.insert(to.clone(), *inode);
        }
        NameChange::Unlink { name, inode } => unlink(name, *inode),
    }
}

fn gone() -> io::Error {
    io::Error::other("the process is gone")
}

/// The disk as one process sees it: once that process has ended, nothing it still holds does anything.
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
    process: u64,
}

impl SimDisk {
    pub fn new(machine: &Arc<Mutex<Machine>>) -> Self {
        let process = machine.lock().process;
        Self { machine: Arc::clone(machine), process }
    }

    fn file(&self, name: &str, inode: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { machine: Arc::clone(&self.machine), process: self.process, inode, name: name.to_owned() })
    }
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine.lock();
        let inode = machine.operate(self.process, format_args!("create {name}"), |machine, _| {
            if machine.finds_no_room() {
                return Err(ErrorKind::StorageFull.into());
            }
            if let Some(&inode) = machine.names.get(name) {
                machine.inode(inode).change(Change::Truncate { len: 0 });
                return Ok(inode);
            }
            let inode = machine.next_inode;
            machine.next_inode += 1;
            machine.inodes.insert(inode, Inode::default());
            machine.change_name(NameChange::Link { name: name.to_owned(), inode });
            Ok(inode)
        })?;
        drop(machine);
        Ok(self.file(name, inode))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let machine = self.machine.lock();
        machine.alive(self.process)?;
        let inode = *machine.names.get(name).ok_or(ErrorKind::NotFound)?;
        drop(machine);
        Ok(self.file(name, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.machine.lock().operate(self.process, format_args!("rename {from} {to}"), |machine, extent| {
            let inode = *machine.names.get(from).ok_or(ErrorKind::NotFound)?;
            let (from, to) = (from.to_owned(), to.to_owned());
            if machine.bug == Some(Bug::RenameInTwoSteps) {
                if let Some(&replaced) = machine.names.get(&to) {
                    machine.change_name(NameChange::Unlink { name: to.clone(), inode: replaced });
                }
                if extent == Extent::Part {
                    return Ok(());
                }
            } else if extent == Extent::Part {
                return Ok(()); // a rename is atomic: the other half of these crashes comes after it
            }
            machine.change_name(NameChange::Rename { from, to, inode });
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.machine.lock().operate(self.process, format_args!("remove {name}"), |machine, _| {
            if let Some(&inode) = machine.names.get(name) {
                machine.change_name(NameChange::Unlink { name: name.to_owned(), inode });
            }
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let machine = self.machine.lock();
        machine.alive(self.process)?;
        Ok(machine.names.keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.machine
            .lock()
            .operate(self.process, format_args!("sync the directory"), |machine, extent| machine.sync_directory(extent))
    }
}

struct SimFile {
    machine: Arc<Mutex<Machine>>,
    process: u64,
    inode: u64,
    name: String,
}

impl DiskFile for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let what = format_args!("append {} bytes to {}", bytes.len(), self.name);
        self.machine.lock().operate(self.process, what, |machine, extent| machine.append(self.inode, bytes, extent))
    }

    fn sync(&self) -> io::Result<()> {
        let what = format_args!("sync {}", self.name);
        self.machine.lock().operate(self.process, what, |machine, extent| machine.sync(self.inode, extent))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut machine = self.machine.lock();
        machine.alive(self.process)?;
        if machine.take_fault(|fault| *fault == Fault::Read).is_some() {
            machine.events.push(format!("read {}: failed", self.name));
            return Err(io::Error::other("the read failed"));
        }
        let data = &machine.inode(self.inode).data;
        let start = (offset as usize).min(data.len());
        let read = buffer.len().min(data.len() - start);
        buffer[..read].copy_from_slice(&data[start..start + read]);
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        let mut machine = self.machine.lock();
        machine.alive(self.process)?;
        Ok(machine.inode(self.inode).data.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let what = format_args!("truncate {} to {len}", self.name);
        self.machine.lock().operate(self.process, what, |machine, _| {
            if machine.take_fault(|fault| *fault == Fault::Truncate).is_some() {
                return Err(io::Error::other("the truncation failed"));
            }
            machine.inode(self.inode).change(Change::Truncate { len: len as usize });
            Ok(())
        })
    }
}
