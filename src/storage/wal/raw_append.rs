//! The append of a follower: the leader's records as they came, byte for byte.

use super::{
    Log, RawRecord, RecordHeader,
    log::{AppendError, write},
};

impl Log {
    /// Appends one whole record as it came from the leader, byte for byte.
    ///
    /// Its `synced_upto` speaks of the leader's medium, not of this one: [`super::scan_copied`] does not rely on it.
    ///
    /// # Errors
    /// [`AppendError`] says whether the log can go on.
    ///
    /// # Panics
    /// If `bytes` are not one whole record that goes on with this history, or its epoch is newer than the log's
    /// ([`Log::start_epoch`]): whoever received it has to check.
    pub fn append_raw(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let raw = RawRecord::parse(bytes, self.identity.hash_seed).expect("a follower appends whole records");
        let RecordHeader { position, chain, .. } = raw.header;
        assert_eq!(raw.header.record_bytes(), bytes.len(), "one record at a time");
        // Asserted, though the receiver has checked it: one record in the wrong place makes everything behind it
        // useless.
        assert!(raw.goes_on_from(self.sequence, self.chain), "record {position} does not follow {}", self.sequence);
        assert!(position.epoch <= self.epoch, "record {position} before its epoch was begun");
        self.rotate_if_due().map_err(AppendError::Undone)?;
        write(&*self.file, self.len, bytes)?;
        self.len += bytes.len() as u64;
        (self.sequence, self.chain) = (position.sequence, chain);
        Ok(())
    }
}
