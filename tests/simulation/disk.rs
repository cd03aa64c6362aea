//! A disk in memory with the faults a real one has.
//!
//! What a process writes goes to pages of a cache ("data"); a sync brings the pages it has touched to the medium
//! ("durable"). A killed process leaves the cache as it is. At a power loss the cache is gone, and of what was not
//! synced each page holds its old bytes, the bytes of any moment since, or the front of one and the back of another,
//! and the file any length it had since; each operation on the directory has happened or not. A sync that fails has
//! brought some pages to the medium, and a later one does not try the others again, because the cache calls them clean
//! ("fsyncgate", Rebello et al. 2020). A write can be misplaced: a sync reports success, and a page of what it wrote
//! never came to the medium, or took the place of another page.

mod inode;

pub use inode::Survives;

use crate::plant::Bug;
use inode::{Change, Inode, page_of};
use memdb::storage::disk::{Disk, DiskFile, FileId};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::Arc,
};
use testkit::Random;

/// A fault that the next operation of its kind will meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before, in, or after the mutating operation that comes after so many others.
    CrashIn(usize),
    /// The same at the rename that comes after so many others: what is published is published by one.
    CrashInRename(usize),
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
    /// Of what the next sync of a file writes one page is lost, or takes the place of another; the sync says nothing.
    Misplaced,
}

impl Fault {
    /// Under which name it is counted.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::CrashIn(_) | Fault::CrashInRename(_) => "fault: process ends in an operation of the disk",
            Fault::Sync => "fault: sync fails",
            Fault::SyncDirectory => "fault: sync of the directory fails",
            Fault::Append => "fault: append fails",
            Fault::Truncate => "fault: truncation fails",
            Fault::Full(_) => "fault: no room for an operation",
            Fault::Read => "fault: read fails",
            Fault::Misplaced => "fault: page misplaced",
        }
    }
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Unlink { name: String, inode: u64 },
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
    /// Whether there is no room for anything until somebody makes some.
    pub has_no_room: bool,
    /// Faults that have been met.
    pub met: usize,
    /// The same by kind.
    pub met_by_kind: BTreeMap<&'static str, usize>,
    /// Whether the last fault was that there is no room.
    pub was_full: bool,
    /// Whether anybody wants to know of events.
    pub tells: bool,
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
            has_no_room: false,
            met: 0,
            met_by_kind: BTreeMap::new(),
            was_full: false,
            tells: true,
            events: Vec::new(),
        }
    }

    pub fn arm(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub fn heal(&mut self) {
        self.faults.clear();
        self.has_no_room = false;
    }

    /// Chance goes on from here: what comes next does not depend on how much of it was used before.
    pub fn reseed(&mut self, random: Random) {
        self.random = random;
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

    /// The machine is gone; what was synced is not. Tells whether a file lacks what a sync had reported.
    pub fn lose_power(&mut self, survives: Survives) -> bool {
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
        let lacks = self.inodes.values().any(|inode| !inode.misplaced.is_empty());
        for inode in self.inodes.values_mut() {
            let medium = inode.medium(self.page, survives, &mut self.random);
            inode.lose_cache(medium);
        }
        lacks
    }

    /// All files as they are now, for [`Machine::replace_by`].
    pub fn copy(&self) -> BTreeMap<String, Vec<u8>> {
        self.names.iter().map(|(name, inode)| (name.clone(), self.inodes[inode].data.clone())).collect()
    }

    /// The disk is replaced by another one, with these files and no others.
    pub fn replace_by(&mut self, files: &BTreeMap<String, Vec<u8>>) {
        self.names.clear();
        self.inodes.clear();
        self.name_changes.clear();
        for (name, bytes) in files {
            let mut inode = Inode::default();
            inode.lose_cache(bytes.clone());
            self.inodes.insert(self.next_inode, inode);
            self.names.insert(name.clone(), self.next_inode);
            self.next_inode += 1;
        }
        self.durable_names = self.names.clone();
    }

    /// Flips one bit of one file that is on the medium as it is in the cache; tells where.
    pub fn flip_a_bit(&mut self) -> Option<(String, usize)> {
        let (page, random) = (self.page, &mut self.random);
        let mut healthy =
            |inode: &Inode| !inode.data.is_empty() && inode.medium(page, Survives::Everything, random) == inode.data;
        let mut names: Vec<String> =
            self.names.iter().filter(|(_, inode)| healthy(&self.inodes[inode])).map(|(name, _)| name.clone()).collect();
        if self.random.percent(50) && names.iter().any(|name| name.starts_with("log-")) {
            names.retain(|name| name.starts_with("log-"));
        }
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
        let fault = self.faults.remove(at);
        self.was_full &= fault == Fault::Misplaced;
        self.meets(fault);
        Some(fault)
    }

    fn meets(&mut self, fault: Fault) {
        // What is misplaced is not noticed by who writes.
        self.met += usize::from(fault != Fault::Misplaced);
        *self.met_by_kind.entry(fault.name()).or_default() += 1;
    }

    /// Whether an operation that takes room finds none.
    fn finds_no_room(&mut self) -> bool {
        let armed = self.faults.iter().position(|fault| matches!(fault, Fault::Full(_)));
        if armed.is_none() && !self.has_no_room {
            return false;
        }
        self.was_full = true;
        self.meets(Fault::Full(1));
        if let Some(at) = armed
            && let Fault::Full(left) = &mut self.faults[at]
        {
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
            if self.tells {
                let failed = result.as_ref().err().map_or(String::new(), |error| format!(": {error}"));
                self.events.push(format!("{what}{failed}"));
            }
            return result;
        }
        let moment = self.random.below(3);
        match moment {
            0 => {}
            1 => drop(effect(self, Extent::Part)),
            _ => drop(effect(self, Extent::Whole)),
        }
        if self.tells {
            self.events.push(format!("{what}: CRASH {}", ["before it", "in it", "after it"][moment]));
        }
        self.crashed = true;
        self.meets(Fault::CrashIn(0));
        Err(gone())
    }

    /// A rename comes next.
    fn comes_to_a_rename(&mut self) {
        for fault in &mut self.faults {
            match fault {
                Fault::CrashInRename(0) => *fault = Fault::CrashIn(0),
                Fault::CrashInRename(renames) => *renames -= 1,
                _ => {}
            }
        }
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
        let misplaced = survives == Survives::Everything
            && self.faults.contains(&Fault::Misplaced)
            && !self.inode(inode).changes.is_empty();
        let file = self.inode(inode);
        let before = if misplaced { file.durable.clone() } else { Vec::new() };
        file.durable = file.medium(page, survives, &mut random);
        if extent == Extent::Part {
            return Ok(()); // the process is gone: the cache goes on to call its pages dirty
        }
        let mut written = Vec::new();
        if survives == Survives::Everything && (misplaced || !file.misplaced.is_empty()) {
            written = file.versions(page).0.into_keys().filter(|at| at * page < file.data.len()).collect();
            file.misplaced.retain(|at| !written.contains(at) && at * page < file.data.len());
        }
        file.changes.clear();
        file.clean = file.data.clone();
        if misplaced && !written.is_empty() {
            self.take_fault(|fault| *fault == Fault::Misplaced);
            self.misplace(inode, *random.pick(&written), &before, &mut random);
        }
        if failed { Err(io::Error::other("the sync failed")) } else { Ok(()) }
    }

    /// A page that was just synced is not where it should be; perhaps it took the place of another, of any file.
    fn misplace(&mut self, inode: u64, at: usize, before: &[u8], random: &mut Random) {
        let page = self.page;
        let old = page_of(before, at, page);
        let new = self.inode(inode).put_on_medium(at, &old, page);
        if random.percent(50) {
            let others: Vec<u64> = self.names.values().copied().collect();
            let to = if others.is_empty() { inode } else { *random.pick(&others) };
            let file = self.inode(to);
            let pages = file.durable.len().div_ceil(page);
            if pages > 0 {
                file.put_on_medium(random.below(pages), &new, page);
            }
        }
        if self.tells {
            self.events.push(format!("page {at} of inode {inode} is misplaced"));
        }
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
        let mut machine = self.machine.lock();
        machine.comes_to_a_rename();
        machine.operate(self.process, format_args!("rename {from} {to}"), |machine, extent| {
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

    fn id(&self, name: &str) -> io::Result<Option<FileId>> {
        let machine = self.machine.lock();
        machine.alive(self.process)?;
        Ok(machine.names.get(name).map(|&inode| FileId { device: 0, inode }))
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
            let event = format!("read {}: failed", self.name);
            machine.events.push(event);
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

    fn id(&self) -> io::Result<Option<FileId>> {
        Ok(Some(FileId { device: 0, inode: self.inode }))
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
