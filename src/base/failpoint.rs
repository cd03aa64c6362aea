//! Failpoints (the process dies or waits, or an operation fails, at a named place) and injected defects, compiled in
//! only with the feature `failpoints`.
//!
//! Without it [`injected`] is false and [`pass`] does nothing, and the compiler leaves both out. Tests have the feature
//! by a dependency of the package on itself; `cargo build` does not.
//!
//! The crate `fail` has failpoints alone. It keeps one registry for the whole process, while the simulation injects a
//! defect in one thread and others run without; and none of its actions is a death by SIGKILL.

/// Defects that can be injected into the core, a statement each ([`inject`]), to see that the simulation finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The log says that it has synced, and has not.
    SkipsTheSync,
    /// A sync leaves out the directory, and so the name of a segment.
    ForgetsTheDirectorySync,
    /// A sync leaves out the segment before a rotation.
    SyncsOnlyTheNewSegment,
    /// The records gathered when a segment is full are not written to the next.
    DropsTheBatchOfARotation,
    /// A part of a record stays in the log when its append has failed.
    KeepsAFailedAppend,
    /// Writes are acknowledged, whatever becomes of the append.
    AcksBeforeAppend,
    /// Readers see a record before it is in the log.
    PublishesBeforeAppend,
    /// Answers that wait for a sync come a record before it.
    AnswersARecordTooEarly,
    /// A snapshot leaves out the window of keys.
    SnapshotsWithoutTheWindow,
    /// A snapshot leaves out the entries.
    SnapshotsWithoutEntries,
    /// An image of entries does not hold their versions.
    ImagesWithoutVersions,
    /// A snapshot is taken for the state at which its walk began.
    ServesASnapshotBeforeItsEnd,
    /// A start forgets which keys have counted.
    ForgetsTheWindowAtRestart,
    /// A start after an unclean stop builds on what it reads, without making it durable.
    TrustsAnUncleanStop,
    /// A start goes on in the epoch of the one before.
    ReusesAnEpoch,
    /// Damage to what was synced is cut off, as if it never was.
    CutsWhatWasSynced,
    /// A record is read whose checksum is not its own.
    ReadsPastATornRecord,
    /// A post that goes on with a stream takes room in the window.
    CountsStreamsTwice,
    /// Lines that begin before what is done count once more.
    CountsLinesAgain,
    /// Lines go on with a stream of another text, if only the number fits.
    TakesAnyText,
    /// A group that takes over a tally leaves the amounts in it where counts should be.
    TakesOverAmounts,
    /// A replica follows a leader whose epoch has ended.
    AcceptsALowerEpoch,
    /// The feed gives what follows the next record, and not that record.
    SkipsOneInTheFeed,
    /// Records sent in an exchange that failed count as applied.
    CountsAFailedSend,
    /// A leader that has lost the end of its log takes it back from whoever has more, of whatever history.
    TakesBackFromAnotherHistory,
    /// A replica is promoted into the next epoch, though somebody was not asked who may take it too.
    PromotesIntoTheNextEpoch,
    /// A replica that is promoted leads without what those had who have promised it.
    LeadsWithoutWhatItWasTold,
    /// A leader that has promised another its epoch goes on with writes.
    LeadsOnAfterItsPromise,
    /// A replica may be promoted while it holds another history than the one it was told of.
    LeadsWithAnotherHistory,
    /// A replica's readers do not learn the table of a new epoch.
    ForgetsEpochTables,
    /// A replica does not note what it has promised.
    ForgetsItsPromise,
    /// A candidate promises its epoch to itself before the leader has, which hears of it from others then.
    CandidatePromisesFirst,
    /// A leader that starts believes its wall clock, however far ahead of the last record that is.
    BelievesAnyWallClock,
    /// A replica that is promoted goes on by its wall clock, and not by what it has counted itself.
    PromotesByTheWallClock,
    /// A record takes out entries that expire within its next tick.
    ExpiresEarly,
    /// Entries leave without the words that they have in the counts.
    ExpiresWithoutItsWords,
    /// A post that is replaced keeps its words in the counts.
    CountsReplacedPostsToo,
    /// A post takes words back that were taken away since.
    TakesBackWhatIsGone,
    /// Words of posts are taken away in the record that brings posts.
    MixesRemovalsWithPosts,
    /// Words are taken back below zero.
    TakesBackBelowZero,
    /// A condition is held to what is there, whatever its expiry.
    TakesExpiredForPresent,
    /// Of what never expires, the last one written is evicted first.
    EvictsTheYoungest,
    /// Posts whose words count are evicted.
    EvictsCountedPosts,
    /// Room for entries is looked for without what the group has put there.
    BudgetsWithoutTheGroup,
    /// An expiry that is set makes another version.
    ExpiryMakesAVersion,
    /// An expiry that is set ends the claim of a post.
    ExpiryEndsAClaim,
    /// Marks of removals stay, though nobody needs them.
    KeepsIdleMarks,
    /// Of increments that turn stale, one is lost.
    LosesWhatTurnsStale,
    /// A worker adds increments to their counter, and leaves them in their queue.
    WorksWithoutTaking,
    /// The rate of a key lets one more pass.
    AdmitsOneTooMany,
    /// Excess that is counted takes no room in the window of its key.
    CountsExcessBesideItsWindow,
    /// Whoever comes to lead finds the queues empty.
    ForgetsWhatWaits,
    /// Steps of a record that was not written stay in the queues.
    KeepsStepsOfAFailedAppend,
    /// A counter is taken away, and what waits for it is counted later.
    RemovesTheCounterAlone,
    /// The values of one event of a watcher are read one by one.
    WatchesAtTwoPositions,
    /// A watcher that comes again goes on with what is there now, wherever it stood.
    ResumesFromAnyPosition,
    /// A watcher keeps values of a history that was given up.
    KeepsValuesOfALostHistory,
    /// A watcher does not look again where its ranking was one of a moment ago.
    TakesOldRankings,
    /// A key that is being fetched is fetched for the next one who asks too.
    FetchesTwice,
    /// A value that was fetched is stored though its key was deleted meanwhile.
    StoresBehindADelete,
    /// A fetch that has failed passes for one that has brought a value.
    KeepsAFailureAsAValue,
    /// Whoever waits for one key gets what was fetched for another.
    ServesAnotherKeysAnswer,
    /// A fetch that failed is tried again for everyone who asks.
    ForgetsFailures,
    /// A forwarded write is sent again under another key than before.
    RetriesUnderAnotherKey,
    /// The key that was made for a forwarded write is not kept when another node leads.
    LosesTheKeyWithTheLeader,
    /// A try that was sent and not answered is taken for one that was not sent.
    ForgetsThatItWasSent,
    /// A refusal of a later try is passed back, though an earlier one may count.
    BelievesALaterRefusal,
    /// A forwarded write that finds no leader does not wait for one.
    GivesUpWithoutALeader,
    /// A forwarded write goes wherever a follower sends it on to, again and again.
    FollowsEveryName,
    /// Lines that counted before their answer was lost are left out of the totals of their body.
    ForgetsALostAnswer,
    /// All parts of a body without a stream have one key.
    GivesPartsOneKey,
    /// A part of a body counts though it has other lines than it states.
    TakesPartsInPart,
    /// A read is sent on without the word that it has been sent on.
    PassesReadsOnAgain,
    /// The refusal of another node that has no data passes for the answer to a read.
    BelievesNodesThatAreNotReady,
    /// A read of a path that a URL cannot hold is sent as one of another path.
    AsksForAnotherPath,
}

/// The places that a leader passes, most of them a replica too: each is a [`pass`] at the line it is named for.
pub const PLACES_OF_A_LEADER: [&str; 35] = [
    "ack.begin",
    "ack.sent",
    "append.begin",
    "append.done",
    "file.begin",
    "file.done",
    "file.renamed",
    "file.synced",
    "file.written",
    "manifest.begin",
    "manifest.done",
    "rotate.begin",
    "rotate.renamed",
    "rotate.written",
    "snapshot.begin",
    "snapshot.image",
    "snapshot.pruned",
    "snapshot.published",
    "snapshot.records",
    "snapshot.renamed",
    "snapshot.synced",
    "snapshot.trailer",
    "snapshot.verified",
    "snapshot.walked",
    "start.durable",
    "start.manifest",
    "start.read",
    "stop.noted",
    "stop.snapshot",
    "sync.begin",
    "sync.done",
    "sync.files",
    "write.appended",
    "write.applied",
    "write.published",
];

/// The places that a replica passes that is about to lead.
pub const PLACES_OF_A_CANDIDATE: [&str; 3] = ["promote.elected", "promote.recovered", "promote.stopped"];

/// The places that a leader passes that another is about to succeed.
pub const PLACES_OF_A_LEADER_THAT_GOES: [&str; 2] = ["promote.promised", "promote.stood-down"];

/// The places that only a replica with files passes.
pub const PLACES_OF_A_REPLICA: [&str; 15] = [
    "adopt.begin",
    "adopt.emptied",
    "adopt.log",
    "adopt.no-manifest",
    "adopt.snapshot",
    "epoch.begin",
    "epoch.segment",
    "follow.ack.begin",
    "follow.ack.sent",
    "follow.appended",
    "follow.applied",
    "follow.published",
    "load.begin",
    "load.piece",
    "load.synced",
];

/// Runs a statement where a defect is injected: `inject!(SkipsTheSync, return Ok(()))`. It stands on a line of its own,
/// so that no condition of the program reads of a defect.
macro_rules! inject {
    ($defect:ident, $statement:expr) => {
        if $crate::base::failpoint::injected($crate::base::failpoint::Defect::$defect) {
            $statement;
        }
    };
}
pub(crate) use inject;

#[cfg(feature = "failpoints")]
pub use armed::{arm, inject_defect, injected, lowered, pass};

#[cfg(not(feature = "failpoints"))]
mod absent {
    /// Returns whether a defect is injected in this thread: never in this build.
    #[inline(always)]
    pub fn injected(_: super::Defect) -> bool {
        false
    }

    /// A named place: nothing happens there in this build.
    #[inline(always)]
    pub fn pass(_: &str) {}

    /// A bound that tests may have lower: in this build it is what it is.
    #[inline(always)]
    pub fn lowered(_: &str, bound: u64) -> u64 {
        bound
    }
}
#[cfg(not(feature = "failpoints"))]
pub use absent::{injected, lowered, pass};

#[cfg(feature = "failpoints")]
mod armed {
    use super::Defect;
    use parking_lot::Mutex;
    use std::{
        cell::Cell,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        time::Duration,
    };

    thread_local!(static INJECTED: Cell<Option<Defect>> = const { Cell::new(None) });
    /// Threads with a defect: without any, [`injected`] looks no further.
    static THREADS: AtomicUsize = AtomicUsize::new(0);

    /// Injects a defect in this thread until the guard is dropped.
    pub fn inject_defect(defect: Option<Defect>) -> DefectGuard {
        if defect.is_some() {
            THREADS.fetch_add(1, Relaxed);
        }
        INJECTED.set(defect);
        DefectGuard { counts: defect.is_some() }
    }

    /// Keeps a defect injected while it lives.
    #[must_use]
    pub struct DefectGuard {
        counts: bool,
    }

    impl Drop for DefectGuard {
        fn drop(&mut self) {
            INJECTED.set(None);
            if self.counts {
                THREADS.fetch_sub(1, Relaxed);
            }
        }
    }

    /// Returns whether a defect is injected in this thread.
    #[inline]
    pub fn injected(defect: Defect) -> bool {
        THREADS.load(Relaxed) > 0 && INJECTED.get() == Some(defect)
    }

    /// The action at a named place, and the pass at which it happens.
    struct ArmedFailpoint {
        place: String,
        action: Action,
        passes_left: u64,
    }

    #[derive(Clone, Copy)]
    enum Action {
        /// The process ends as by kill -9.
        Kill,
        /// The thread waits so long.
        Sleep(Duration),
    }

    static IS_ARMED: AtomicBool = AtomicBool::new(false);
    static ARMED: Mutex<Option<ArmedFailpoint>> = Mutex::new(None);

    /// Arms one place of this process, as `append.done=kill:17` (dies at the 17th pass) or `publish=sleep300:1` (waits
    /// 300 ms at the first).
    ///
    /// # Errors
    /// If `what` is not of the form `PLACE=ACTION:PASS`: a message that shows the form.
    pub fn arm(what: &str) -> Result<(), String> {
        let wrong = || format!("a failpoint is armed as PLACE=kill:PASS or PLACE=sleepMS:PASS, and not as {what:?}");
        let (place, rest) = what.split_once('=').ok_or_else(wrong)?;
        let (action, pass) = rest.split_once(':').ok_or_else(wrong)?;
        let action = match action.strip_prefix("sleep") {
            Some(ms) => Action::Sleep(Duration::from_millis(ms.parse().map_err(|_| wrong())?)),
            None if action == "kill" => Action::Kill,
            None => return Err(wrong()),
        };
        let passes_left = pass.parse().ok().filter(|&pass| pass > 0).ok_or_else(wrong)?;
        *ARMED.lock() = Some(ArmedFailpoint { place: place.to_owned(), action, passes_left });
        IS_ARMED.store(true, Relaxed);
        Ok(())
    }

    /// A bound, or what a test says in this variable instead.
    pub fn lowered(variable: &str, bound: u64) -> u64 {
        std::env::var(variable).map_or(bound, |text| text.parse().expect("a test says a number"))
    }

    /// A named place: if it is armed, and this is the pass, what was armed happens.
    #[inline]
    pub fn pass(place: &str) {
        if IS_ARMED.load(Relaxed) {
            pass_armed(place);
        }
    }

    #[cold]
    fn pass_armed(place: &str) {
        let mut armed = ARMED.lock();
        let Some(one) = armed.as_mut().filter(|one| one.place == place) else { return };
        one.passes_left -= 1;
        if one.passes_left > 0 {
            return;
        }
        let action = one.action;
        *armed = None;
        IS_ARMED.store(false, Relaxed);
        drop(armed);
        match action {
            // Nothing runs after this: no destructor, no flush.
            Action::Kill => {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
            #[allow(clippy::disallowed_methods, reason = "it is what a test has asked for")]
            Action::Sleep(time) => std::thread::sleep(time),
        }
    }
}
