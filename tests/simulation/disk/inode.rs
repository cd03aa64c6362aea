//! One file of the disk in memory: what the cache has, what the medium has, and what may be left of the difference.

use std::collections::{BTreeMap, BTreeSet};
use testkit::Random;

/// What is left of what was not synced, when the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    Nothing,
    Everything,
    Anything,
}

#[derive(Clone, Debug)]
pub enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

/// One file: its bytes in the cache now and at the last sync, on the medium, and the changes between the first two.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    pub data: Vec<u8>,
    pub clean: Vec<u8>,
    pub durable: Vec<u8>,
    pub changes: Vec<Change>,
    /// Pages of which the medium holds something else than syncs have said.
    pub misplaced: BTreeSet<usize>,
}

impl Inode {
    pub fn change(&mut self, change: Change) {
        apply(&mut self.data, &change);
        self.changes.push(change);
    }

    /// Every content each changed page has had since the last sync, what the medium holds first, and every length.
    pub fn versions(&self, page: usize) -> (BTreeMap<usize, Vec<Vec<u8>>>, Vec<usize>) {
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
    pub fn medium(&self, page: usize, survives: Survives, random: &mut Random) -> Vec<u8> {
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

    /// Puts another page there, behind everybody's back; gives what was there. The file keeps its length.
    pub fn put_on_medium(&mut self, at: usize, bytes: &[u8], page: usize) -> Vec<u8> {
        let was = page_of(&self.durable, at, page);
        let end = self.durable.len().min((at + 1) * page);
        self.durable[at * page..end].copy_from_slice(&bytes[..end - at * page]);
        if page_of(&self.clean, at, page) != page_of(&self.durable, at, page) {
            self.misplaced.insert(at);
        }
        was
    }

    pub fn lose_cache(&mut self, medium: Vec<u8>) {
        *self = Self { data: medium.clone(), clean: medium.clone(), durable: medium, ..Self::default() };
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

pub fn page_of(data: &[u8], number: usize, page: usize) -> Vec<u8> {
    let start = (number * page).min(data.len());
    let mut bytes = data[start..(start + page).min(data.len())].to_vec();
    bytes.resize(page, 0);
    bytes
}
