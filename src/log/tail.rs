//! Reads whole records from a log that is being written, from a known place on.

use super::{
    record::{RECORD_HEADER_BYTES, RawRecord},
    scan::segments,
};
use crate::{
    disk::{Disk, DiskFile},
    format::{Damage, FILE_HEADER_BYTES, FileError, Identity},
    limits,
    position::{Position, Sequence},
};
use std::sync::Arc;

/// A place between two records of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment's name.
    pub segment: String,
    /// Bytes of the segment before the place.
    pub offset: u64,
    /// The sequence of the record behind it.
    pub sequence: Sequence,
}

/// Follows the log from a [`Place`].
pub struct Tail {
    identity: Identity,
    place: Place,
    file: Arc<dyn DiskFile>,
}

impl Tail {
    /// Opens the segment of `place`.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(disk: &dyn Disk, identity: Identity, place: Place) -> Result<Self, FileError> {
        let file = disk.open(&place.segment).map_err(FileError::io(&place.segment))?;
        Ok(Self { identity, place, file })
    }

    /// Puts the bytes of whole records, up to the one numbered `upto`, at the end of `bytes`: some hundred KiB a
    /// call, nothing once all were given.
    ///
    /// # Errors
    /// If a record that was written cannot be read back as it was.
    pub fn read(&mut self, disk: &dyn Disk, upto: Sequence, bytes: &mut Vec<u8>) -> Result<(), FileError> {
        let (start, mut want) = (bytes.len(), limits::COPY_BYTES);
        while bytes.len() == start && self.place.sequence <= upto {
            bytes.resize(start + want, 0);
            let read = self
                .file
                .read_at(self.place.offset, &mut bytes[start..])
                .map_err(FileError::io(&self.place.segment))?;
            bytes.truncate(start + read);
            let whole = self.whole_records(&bytes[start..], upto)?;
            bytes.truncate(start + whole);
            self.place.offset += whole as u64;
            if whole > 0 {
                break;
            }
            if read == 0 {
                self.next_segment(disk)?; // this one is finished
            } else if read < want {
                return Err(self.damage("a record that was applied is not whole in the log").into());
            } else {
                want *= 2; // a record larger than the buffer
            }
        }
        Ok(())
    }

    /// The bytes of whole records at the front of `bytes`, up to `upto`.
    fn whole_records(&mut self, bytes: &[u8], upto: Sequence) -> Result<usize, FileError> {
        let mut at = 0;
        while self.place.sequence <= upto && at + RECORD_HEADER_BYTES <= bytes.len() {
            match RawRecord::parse(&bytes[at..], self.identity.hash_seed) {
                Ok(raw) if raw.header.position.sequence == self.place.sequence => at += raw.header.record_bytes(),
                Ok(raw) => return Err(self.damage(&format!("record {} is out of place", raw.header.position)).into()),
                Err(super::BadRecord::Cut) => break,
                Err(bad) => return Err(self.damage(&bad.to_string()).into()),
            }
            self.place.sequence += 1;
        }
        Ok(at)
    }

    fn next_segment(&mut self, disk: &dyn Disk) -> Result<(), FileError> {
        let is_next =
            |(name, first): &(String, Position)| first.sequence == self.place.sequence && *name > self.place.segment;
        let Some((segment, _)) = segments(disk)?.into_iter().find(is_next) else {
            return Err(self.damage("the log ends before a record that was applied").into());
        };
        self.file = disk.open(&segment).map_err(FileError::io(&segment))?;
        self.place = Place { segment, offset: FILE_HEADER_BYTES as u64, sequence: self.place.sequence };
        Ok(())
    }

    fn damage(&self, what: &str) -> Damage {
        Damage::new(&self.place.segment, self.place.offset, what)
    }
}
