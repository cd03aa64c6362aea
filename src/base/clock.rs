//! The clocks, as types that cannot be mixed, and the one that records are stamped by.
//!
//! | type | counts | may be set | for |
//! |---|---|---|---|
//! | [`Monotonic`] | the time that passes, of one machine | never | time-outs, pauses, ages |
//! | [`WallClock`] | milliseconds since 1970, as somebody has set them | at any time, either way | what people read |
//! | [`LoggedTime`] | milliseconds of one database | never | when a record was written |
//!
//! Logged time begins as wall time and goes on by elapsed time alone ([`LoggedClock`]). A wall clock that is set while
//! a node runs moves nothing that ages; the one place where a wall clock is believed, within a bound, is the start of a
//! leader ([`LoggedClock::of_a_leader`]). `docs/decisions/0014-two-clocks.md` says why.
//!
//! Nothing here reads a clock: readings are handed in ([`Clock`] is what a node reads them by).

use crate::{base::failpoint::inject, base::limits};
use bincode::{Decode, Encode};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A reading of the clock that only goes forward: milliseconds from some moment on, the same one for a whole process.
/// Readings of two processes have nothing to do with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(u64);

impl Monotonic {
    /// The reading of so many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// The milliseconds that have passed since `earlier`; 0 if that is later than this.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The reading so many milliseconds later.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// A reading of the clock that people set, in milliseconds since 1970. Two of them say nothing about the time between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallClock(u64);

impl WallClock {
    /// The reading of so many milliseconds since 1970.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Gives the milliseconds by which it is ahead of what a record states; negative if it is behind.
    pub const fn ahead_of_ms(self, logged: LoggedTime) -> i64 {
        self.0.wrapping_sub(logged.0) as i64
    }
}

/// The time at which a record was written, in milliseconds of its database: wall time when that began, elapsed time
/// since. Never less than that of the record before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LoggedTime(u64);

impl LoggedTime {
    /// Before the first record.
    pub const ZERO: Self = Self(0);
    /// Later than any record.
    pub const MAX: Self = Self(u64::MAX);

    /// The time of so many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// The milliseconds, as files and messages have them.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The age of what was logged at `earlier`, in milliseconds.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Logged time as it goes on behind a record: the time that passes is added to what that one states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoggedClock {
    logged: LoggedTime,
    at: Monotonic,
}

impl LoggedClock {
    /// Reads `last`, the time of the last record, at `now`.
    pub const fn reading(last: LoggedTime, now: Monotonic) -> Self {
        Self { logged: last, at: now }
    }

    /// The clock of whoever begins to lead behind a record of `last`.
    ///
    /// A process that has followed or led until now (`before`) goes on by what it has counted itself. One that starts
    /// does not know how long it was away: it believes the wall clock if that is at most
    /// [`limits::MAX_BELIEVED_LEAP_MS`] ahead of the last record, and else goes on from that record, as if no time had
    /// passed.
    pub fn of_a_leader(before: Option<Self>, last: LoggedTime, wall: WallClock, now: Monotonic) -> Self {
        inject!(PromotesByTheWallClock, return Self::reading(LoggedTime(wall.0).max(last), now));
        if let Some(before) = before {
            return before.behind(last, now);
        }
        let leap_ms = wall.0.saturating_sub(last.0);
        // Before the first record nothing can age.
        let mut is_believed = last == LoggedTime::ZERO || leap_ms <= limits::MAX_BELIEVED_LEAP_MS;
        inject!(BelievesAnyWallClock, is_believed = true);
        Self::reading(if is_believed { LoggedTime(wall.0).max(last) } else { last }, now)
    }

    /// The clock of whoever stands behind a record of `last`: this one, if that is the record it counts from.
    ///
    /// Behind another record it begins anew, also where it reads more: who has written that one may have counted less,
    /// and what was written then is as young as that.
    #[must_use]
    pub fn behind(self, last: LoggedTime, now: Monotonic) -> Self {
        if self.logged == last { self } else { Self::reading(last, now) }
    }

    /// Gives the time at which the clock reads `logged`, or has read it.
    pub const fn when(&self, logged: LoggedTime) -> Monotonic {
        self.at.after_ms(logged.since_ms(self.logged))
    }

    /// Reads the clock at `now`.
    pub const fn read(&self, now: Monotonic) -> LoggedTime {
        LoggedTime(self.logged.0.saturating_add(now.since_ms(self.at)))
    }

    /// By how much it is ahead of the monotonic clock, modulo 2^64.
    const fn ahead_ms(&self) -> u64 {
        self.logged.0.wrapping_sub(self.at.0)
    }
}

/// A [`LoggedClock`] that all threads of a process read without waiting, and that outlives the roles of a node. On a
/// node that follows it reads the last record's time and what has passed since it came, or what it has counted before:
/// what the leader's own reads, or a little less.
#[derive(Debug, Default)]
pub struct SharedLoggedClock {
    clock: Mutex<Option<LoggedClock>>,
    /// By how much logged time is ahead of the monotonic clock, modulo 2^64: one number, so that no reader sees half of
    /// it.
    ahead_ms: AtomicU64,
    is_set: AtomicBool,
}

impl SharedLoggedClock {
    /// Goes by `clock` from now on.
    pub fn set(&self, clock: LoggedClock) {
        *self.clock.lock() = Some(clock);
        self.show(clock);
    }

    /// Goes by `clock` from now on, whose record may be one of long ago: what is read does not go back, and is ahead
    /// until that clock has come as far. Called by one thread, as [`SharedLoggedClock::set`] is.
    pub fn follow(&self, clock: LoggedClock) {
        let is_first = self.clock.lock().replace(clock).is_none();
        let ahead_ms = clock.ahead_ms().wrapping_sub(self.ahead_ms.load(Ordering::Relaxed));
        if is_first || ahead_ms as i64 > 0 {
            self.show(clock);
        }
    }

    fn show(&self, clock: LoggedClock) {
        self.ahead_ms.store(clock.ahead_ms(), Ordering::Relaxed);
        self.is_set.store(true, Ordering::Release);
    }

    /// The clock, for a role that goes on with it; `None` before there was any record, or a leader.
    pub fn get(&self) -> Option<LoggedClock> {
        *self.clock.lock()
    }

    /// Reads the clock at `now`, without waiting; `None` before there was any record, or a leader.
    pub fn read(&self, now: Monotonic) -> Option<LoggedTime> {
        let is_set = self.is_set.load(Ordering::Acquire);
        is_set.then(|| LoggedTime(now.0.wrapping_add(self.ahead_ms.load(Ordering::Relaxed))))
    }
}

/// The source of a node's time: the machine's clocks, or a test's.
pub trait Clock: Send + Sync {
    /// The time that passes. Never less than before.
    fn monotonic(&self) -> Monotonic;

    /// Reads the machine's time of day.
    fn wall(&self) -> WallClock;
}

/// A clock for tests and the fuzzer: no time passes.
#[cfg(feature = "failpoints")]
pub(crate) struct StoppedClock;

#[cfg(feature = "failpoints")]
impl Clock for StoppedClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic::default()
    }

    fn wall(&self) -> WallClock {
        WallClock::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAP_MS: u64 = limits::MAX_BELIEVED_LEAP_MS;
    const LAST: LoggedTime = LoggedTime(1_800_000_000_000);
    const NOW: Monotonic = Monotonic(50_000);

    /// What a leader's clock reads that starts at a wall clock so far ahead of the last record.
    fn at_a_start(ahead_ms: i64) -> u64 {
        let wall = WallClock(LAST.0.wrapping_add_signed(ahead_ms));
        LoggedClock::of_a_leader(None, LAST, wall, NOW).read(NOW).since_ms(LAST)
    }

    #[test]
    fn a_start_believes_the_wall_clock_up_to_the_bound_and_beyond_it_not_at_all() {
        assert_eq!([0, 1, 2_000].map(at_a_start), [0, 1, 2_000]);
        assert_eq!(at_a_start(LEAP_MS as i64), LEAP_MS);
        let (hour_ms, ten_years_ms) = (3_600_000, 315_360_000_000);
        assert_eq!([LEAP_MS as i64 + 1, hour_ms, ten_years_ms].map(at_a_start), [0; 3]);
        assert_eq!([-1, -hour_ms, -ten_years_ms].map(at_a_start), [0; 3], "logged time never goes back");
    }

    #[test]
    fn a_database_without_a_record_begins_at_wall_time() {
        for wall_ms in [0, 1, LAST.0, LAST.0 * 2] {
            let clock = LoggedClock::of_a_leader(None, LoggedTime::ZERO, WallClock(wall_ms), NOW);
            assert_eq!(clock.read(NOW), LoggedTime(wall_ms));
        }
    }

    #[test]
    fn a_clock_goes_on_by_the_time_that_passes_and_by_nothing_else() {
        let clock = LoggedClock::reading(LAST, NOW);
        assert_eq!(clock.read(NOW.after_ms(1_234)).since_ms(LAST), 1_234);
        assert_eq!(clock.read(Monotonic::default()), LAST, "no reading is before its own");
        assert_eq!(clock.when(LoggedTime(LAST.0 + 1_234)), NOW.after_ms(1_234));
        assert_eq!(clock.when(LoggedTime(LAST.0 - 9)), NOW);
        let at_the_end = LoggedClock::reading(LoggedTime::MAX, NOW);
        assert_eq!(at_the_end.read(NOW.after_ms(9)), LoggedTime::MAX);
    }

    #[test]
    fn a_process_that_leads_goes_on_by_its_own_count_whatever_the_wall_clock_says() {
        let followed = LoggedClock::reading(LAST, NOW);
        let later = NOW.after_ms(700);
        for wall_ms in [0, LAST.0 + 60_000, LAST.0 * 2] {
            let wall = WallClock(wall_ms);
            let clock = LoggedClock::of_a_leader(Some(followed), LAST, wall, later);
            assert_eq!(clock.read(later).since_ms(LAST), 700);
        }
    }

    /// It was away while a leader had started anew, that did not know for how long it had been away.
    #[test]
    fn a_record_taken_back_is_as_young_as_whoever_wrote_it_says() {
        let (followed, later) = (LoggedClock::reading(LAST, NOW), NOW.after_ms(700_000));
        for ahead_ms in [1, 699_999, 700_000, 900_000] {
            let taken_back = LoggedTime(LAST.0 + ahead_ms);
            let clock = LoggedClock::of_a_leader(Some(followed), taken_back, WallClock::default(), later);
            assert_eq!(clock.read(later.after_ms(1)).since_ms(taken_back), 1);
        }
    }

    #[test]
    fn a_shared_clock_reads_as_the_one_it_was_set_to() {
        let shared = SharedLoggedClock::default();
        assert_eq!((shared.get(), shared.read(NOW)), (None, None));
        for (logged, at) in [(LAST, NOW), (LoggedTime::ZERO, NOW), (LoggedTime(NOW.0 - 1), NOW)] {
            let clock = LoggedClock::reading(logged, at);
            shared.set(clock);
            let later = at.after_ms(77);
            assert_eq!((shared.get(), shared.read(later)), (Some(clock), Some(clock.read(later))));
        }
    }

    /// Replicas that caught up showed entries again that had expired.
    #[test]
    fn a_shared_clock_that_follows_old_records_does_not_go_back() {
        let shared = SharedLoggedClock::default();
        shared.follow(LoggedClock::reading(LAST, NOW));
        assert_eq!(shared.read(NOW), Some(LAST));
        let (old, later) = (LoggedTime(LAST.0 + 5), NOW.after_ms(1_000));
        shared.follow(LoggedClock::reading(old, later));
        assert_eq!(shared.read(later).map(|read| read.since_ms(LAST)), Some(1_000));
        assert_eq!(shared.get(), Some(LoggedClock::reading(old, later)), "a role goes on from the record");
        let new = LoggedTime(LAST.0 + 1_002);
        shared.follow(LoggedClock::reading(new, later.after_ms(1)));
        assert_eq!(shared.read(later.after_ms(1)), Some(new));
        shared.set(LoggedClock::reading(old, later));
        assert_eq!(shared.read(later), Some(old), "who leads goes by its own");
    }

    #[test]
    fn a_wall_clock_tells_how_far_it_is_off_a_record_in_either_direction() {
        assert_eq!(WallClock(LAST.0 + 5).ahead_of_ms(LAST), 5);
        assert_eq!(WallClock(LAST.0 - 5).ahead_of_ms(LAST), -5);
    }
}
