//! The sources of the records for one replica: memory, and behind that the log.

use super::{Feed, Since};
use crate::{
    disk::Disk,
    format::{FileError, Identity},
    limits,
    log::{self, Tail},
    position::Sequence,
};
use bytes::Bytes;

/// The records that one replica needs next.
#[derive(Debug, PartialEq, Eq)]
pub enum Gathered {
    /// These, in this order.
    Records(Vec<Bytes>),
    /// None: it has all there are.
    Nothing,
    /// They are neither in memory nor in the log.
    NeedSnapshot,
}

/// Follows one replica through memory and log.
#[derive(Default)]
pub struct CatchUp {
    /// In the log, the place behind this record.
    tail: Option<(Sequence, Tail)>,
}

impl CatchUp {
    /// Gives the records that follow `after`, up to the last one that the leader has applied: some hundred KiB at most,
    /// unless one record is larger. Reads the disk when the records are no longer in memory.
    ///
    /// # Errors
    /// If the log cannot be read; a snapshot helps then too.
    pub fn gather(
        &mut self,
        after: Sequence,
        last: Sequence,
        feed: &Feed,
        disk: &dyn Disk,
        identity: &Identity,
    ) -> Result<Gathered, FileError> {
        match feed.since(after, limits::OFFER_BYTES) {
            Since::Records(records) => {
                self.tail = None;
                Ok(Gathered::Records(records))
            }
            Since::Nothing => Ok(Gathered::Nothing),
            Since::Gone => self.read_log(after, last, disk, identity),
        }
    }

    /// The record that [`CatchUp::gather`] last gave from the log; `None` if they were in memory.
    pub fn behind(&self) -> Option<Sequence> {
        self.tail.as_ref().map(|(at, _)| *at)
    }

    fn read_log(
        &mut self,
        after: Sequence,
        last: Sequence,
        disk: &dyn Disk,
        identity: &Identity,
    ) -> Result<Gathered, FileError> {
        let mut tail = match self.tail.take() {
            Some((at, tail)) if at == after => tail,
            _ => match log::place_after(disk, identity, after)? {
                Some((place, _)) => Tail::open(disk, *identity, place)?,
                None => return Ok(Gathered::NeedSnapshot),
            },
        };
        let mut bytes = Vec::new();
        tail.read(disk, last, &mut bytes)?;
        if bytes.is_empty() {
            return Ok(Gathered::Nothing);
        }
        self.tail = Some((tail.place().sequence - 1, tail));
        Ok(Gathered::Records(vec![bytes.into()]))
    }
}
