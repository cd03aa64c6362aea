//! What a leader takes back from its replicas when it has lost the end of its log.
//!
//! One writer per epoch makes what a replica has of the last epoch an extension of what the leader has.

use super::Hello;
use crate::{format::Identity, log::RawRecord, position::Epoch, store::Store};

/// What the replicas' answers mean for a leader that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nobody has more.
    Nobody,
    /// This one, by its place among the answers, has the most.
    From(usize),
    /// This one has seen a later epoch: somebody else has led.
    HigherEpoch(usize, Epoch),
}

/// Chooses among the replicas that have answered a leader whose last epoch was `epoch` and whose records end at `last`.
pub fn choose(hellos: &[Hello], database: u128, epoch: Epoch, last: u64) -> Choice {
    let mine = || hellos.iter().enumerate().filter(|(_, hello)| hello.database == Some(database));
    if let Some((at, hello)) = mine().find(|(_, hello)| hello.epoch > epoch) {
        return Choice::HigherEpoch(at, hello.epoch);
    }
    let ahead =
        mine().filter(|(_, hello)| !hello.diverged && hello.position.epoch == epoch && hello.position.sequence > last);
    let most = ahead.max_by_key(|(_, hello)| hello.position.sequence);
    most.map_or(Choice::Nobody, |(at, _)| Choice::From(at))
}

/// Applies whole records that go on with what the store has; gives how many.
///
/// # Errors
/// If one does not. Those before it are applied: they did.
pub fn extend(store: &mut Store, identity: &Identity, epoch: Epoch, mut records: &[u8]) -> Result<u64, String> {
    let mut applied = 0;
    while !records.is_empty() {
        let raw = RawRecord::parse(records, identity.hash_seed).map_err(|bad| bad.to_string())?;
        let (position, mark) = (raw.header.position, store.mark());
        if position.sequence != mark.position.sequence + 1 || position.epoch > epoch || !raw.follows(mark.chain) {
            return Err(format!("record {position} does not go on from {}", mark.position));
        }
        let record = raw.record().map_err(|bad| bad.to_string())?;
        store.apply(&record, raw.header.chain).map_err(|diverged| diverged.to_string())?;
        records = &records[raw.header.record_bytes()..];
        applied += 1;
    }
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    fn hello(database: Option<u128>, seen: Epoch, position: (u64, u64), diverged: bool) -> Hello {
        Hello {
            node: 1,
            url: String::new(),
            database,
            epoch: seen,
            position: Position::new(position.0, position.1),
            chain: 0,
            synced: None,
            diverged,
            local: false,
        }
    }

    #[test]
    fn whoever_has_the_most_of_the_last_epoch_gives_it_back() {
        let has = |sequence| hello(Some(7), 3, (3, sequence), false);
        assert_eq!(choose(&[], 7, 3, 10), Choice::Nobody);
        assert_eq!(choose(&[has(9), has(10)], 7, 3, 10), Choice::Nobody);
        assert_eq!(choose(&[has(11), has(14), has(12)], 7, 3, 10), Choice::From(1));
        let others = [
            hello(None, 0, (0, 0), false),
            hello(Some(8), 9, (9, 99), false),
            hello(Some(7), 3, (2, 50), false), // lost before this epoch began
            hello(Some(7), 3, (3, 50), true),
        ];
        assert_eq!(choose(&others, 7, 3, 10), Choice::Nobody);
        assert_eq!(choose(&[has(11), hello(Some(7), 4, (3, 10), false)], 7, 3, 10), Choice::HigherEpoch(1, 4));
    }
}
