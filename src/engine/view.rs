//! The data that reads are answered from, and the reads that wait for a position.
//!
//! A leader serves one store for as long as it runs. A follower changes to another when it has loaded a
//! snapshot: readers that are inside the old one finish there. The table of epochs is part of the store.

use crate::{
    base::clock::{LoggedTime, Monotonic, SharedLoggedClock},
    base::position::{Position, PositionStatus, PositionToken},
    data::counts::quotas::SharedQuotas,
    data::store::StoreReader,
    storage::file_header::DatabaseIdentity,
};
use arc_swap::{ArcSwapOption, Guard};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A database as it is read.
pub struct ServedDatabase {
    /// The identity of the database.
    pub identity: DatabaseIdentity,
    /// Its counts, and the ends of its past epochs.
    pub reader: StoreReader,
}

impl ServedDatabase {
    /// Classifies `asked` in this history.
    pub fn position_status(&self, asked: PositionToken) -> PositionStatus {
        if asked.database != self.identity.tag() {
            return PositionStatus::OtherDatabase;
        }
        self.reader.position_status(asked.position)
    }
}

/// The database that a node serves. Shared by all its threads.
pub struct DatabaseView {
    current: ArcSwapOption<ServedDatabase>,
    applied: watch::Sender<Position>,
    ready: AtomicBool,
    /// The fault of the files behind it: as long as there is one, the node is not ready.
    files_problem: ArcSwapOption<String>,
    born: Instant,
    /// Milliseconds after `born` at which a follower last had all that its leader had; 0: this node follows nobody, or
    /// never had it.
    current_at_ms: AtomicU64,
    /// True while this node is behind another.
    follows: AtomicBool,
    logged: Arc<SharedLoggedClock>,
    /// Whoever leads holds the namespaces to them.
    quotas: SharedQuotas,
    /// The incarnation of the files behind it; 0: it has none.
    incarnation: AtomicU64,
}

impl DatabaseView {
    /// Nothing to read yet. `follows`: whether this node is behind another.
    pub fn new(follows: bool) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            applied: watch::Sender::new(Position::ZERO),
            ready: AtomicBool::new(false),
            files_problem: ArcSwapOption::empty(),
            born: Instant::now(),
            current_at_ms: AtomicU64::new(0),
            follows: AtomicBool::new(follows),
            logged: Arc::default(),
            quotas: SharedQuotas::default(),
            incarnation: AtomicU64::new(0),
        }
    }

    /// The quotas of namespaces, as the settings of this node have them.
    pub fn quotas(&self) -> &SharedQuotas {
        &self.quotas
    }

    /// A role begins, which is behind another node or not, and is not ready yet. What is served stays: whoever begins
    /// the role replaces it, or goes on with it.
    pub fn start_role(&self, follows: bool) {
        self.set_ready(false);
        self.set_files_problem(None);
        // Who led had all there was; who followed is as far behind as before.
        if !self.follows.swap(follows, Ordering::AcqRel) {
            self.current_at_ms.store(self.age_ms(), Ordering::Release);
        }
    }

    /// The database, once there is one. Not to be held across an await.
    #[inline]
    pub fn current(&self) -> Guard<Option<Arc<ServedDatabase>>> {
        self.current.load()
    }

    /// Serves this from now on.
    pub fn serve(&self, current: ServedDatabase) {
        let position = current.reader.read().position();
        // Before those who wait for a position are woken: they look at this.
        self.current.store(Some(Arc::new(current)));
        self.published(position);
    }

    /// Serves nothing from now on: what there was is not the leader's history.
    pub fn withdraw(&self) {
        self.set_ready(false);
        self.current.store(None);
    }

    /// Readers can see this position now.
    pub fn published(&self, position: Position) {
        self.applied.send_replace(position);
    }

    /// Classifies `asked` at this moment; `None` if there is nothing to read.
    pub fn position_status_now(&self, asked: PositionToken) -> Option<PositionStatus> {
        self.current().as_ref().map(|current| current.position_status(asked))
    }

    /// Classifies `asked`, once it is reached or `patience` has ended; `None` if there is nothing to read.
    pub async fn position_status(&self, asked: PositionToken, patience: Duration) -> Option<PositionStatus> {
        let now = || self.position_status_now(asked);
        if matches!(now(), None | Some(PositionStatus::Ahead)) {
            let mut applied = self.applied.subscribe();
            // What is served is looked at, and not the position that was sent, which may be of another history by now.
            let reached = applied.wait_for(|_| !matches!(now(), None | Some(PositionStatus::Ahead)));
            let _ = tokio::time::timeout(patience, reached).await; // what it is by then is looked at below
        }
        now()
    }

    /// Says whether the node serves current data.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Returns whether the node serves current data.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.files_problem.load().is_none()
    }

    /// Says what is wrong with the files behind what is served; `None`: nothing.
    pub fn set_files_problem(&self, what: Option<String>) {
        self.files_problem.store(what.map(Arc::new));
    }

    /// Gives the fault of the files behind the served data, if there is one.
    pub fn files_problem(&self) -> Option<String> {
        self.files_problem.load().as_deref().cloned()
    }

    /// Says which incarnation the files behind what is served have; 0: there are none.
    pub fn set_incarnation(&self, incarnation: u64) {
        self.incarnation.store(incarnation, Ordering::Relaxed);
    }

    /// Gives the incarnation of the files behind what is served, if there are some.
    pub fn incarnation(&self) -> Option<u64> {
        Some(self.incarnation.load(Ordering::Relaxed)).filter(|incarnation| *incarnation != 0)
    }

    /// A follower has all that its leader has, at this moment.
    pub fn caught_up(&self) {
        // 0 means that it never had everything.
        self.current_at_ms.store(self.age_ms().max(1), Ordering::Release);
    }

    /// Gives the greatest age of a follower's data, in milliseconds: the time since it last had all that its leader
    /// had. `None` on a leader; the time since the start on a follower that never had it.
    pub fn lag_ms(&self) -> Option<u64> {
        self.follows
            .load(Ordering::Acquire)
            .then(|| self.age_ms().saturating_sub(self.current_at_ms.load(Ordering::Acquire)))
    }

    /// The logged time of this moment: on a follower that of the last record and what has passed here since it came,
    /// also while its leader is away. `None` before there is anything.
    pub fn logged_time(&self, now: Monotonic) -> Option<LoggedTime> {
        self.logged.read(now)
    }

    /// Gives the count of logged time here, for whoever appends or applies records.
    pub fn logged_clock(&self) -> &SharedLoggedClock {
        &self.logged
    }

    fn age_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::hash::WordHasher,
        base::position::EpochTable,
        data::store::{DedupLimits, StateId, Store},
        text::tokenizer::Analyzer,
    };
    use std::task::Poll;

    const PATIENCE: Duration = Duration::from_secs(10);
    const DATABASE: u128 = 1;

    fn current(store: &Store) -> ServedDatabase {
        let identity =
            DatabaseIdentity { database_id: DATABASE, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 1 };
        ServedDatabase { identity, reader: store.reader() }
    }

    fn store_at(position: Position) -> Store {
        let mut store = Store::new(WordHasher::new(1), DedupLimits::default());
        let mut epochs = EpochTable::default();
        epochs.end(Position::new(1, 5));
        store.set_epochs(epochs);
        store.set_state_id(StateId { position, ..StateId::default() }, LoggedTime::ZERO);
        store
    }

    #[tokio::test(start_paused = true)]
    async fn a_position_is_waited_for_over_a_change_of_stores() {
        let at = |epoch, sequence| PositionToken::of(DATABASE, Position::new(epoch, sequence));
        let view = DatabaseView::new(true);
        assert_eq!(view.position_status(at(2, 7), PATIENCE).await, None, "nothing to read, and patience ends");
        let mut old = store_at(Position::new(2, 6));
        view.serve(current(&old));
        assert_eq!(view.position_status(at(2, 6), PATIENCE).await, Some(PositionStatus::Reached));
        assert_eq!(view.position_status(at(1, 6), PATIENCE).await, Some(PositionStatus::Lost));
        assert_eq!(view.position_status(at(2, 7), PATIENCE).await, Some(PositionStatus::Ahead));
        let mut waiting = std::pin::pin!(view.position_status(at(2, 7), PATIENCE));
        assert!(futures::poll!(&mut waiting).is_pending());
        view.withdraw();
        view.published(Position::new(2, 7));
        assert!(futures::poll!(&mut waiting).is_pending(), "there is nothing to read it from");
        view.serve(current(&store_at(Position::new(2, 7))));
        assert_eq!(waiting.await, Some(PositionStatus::Reached));
        // The old one is served no more, whatever is applied to it.
        old.set_state_id(StateId { position: Position::new(2, 9), ..StateId::default() }, LoggedTime::ZERO);
        assert_eq!(view.position_status(at(2, 9), Duration::ZERO).await, Some(PositionStatus::Ahead));
    }

    #[tokio::test(start_paused = true)]
    async fn a_position_of_another_database_is_told_at_once_as_that() {
        let view = DatabaseView::new(true);
        view.serve(current(&store_at(Position::new(2, 6))));
        for sequence in [0, 6, 7] {
            let asked = PositionToken::of(DATABASE + 1, Position::new(2, sequence));
            let mut waiting = std::pin::pin!(view.position_status(asked, PATIENCE));
            assert_eq!(futures::poll!(&mut waiting), Poll::Ready(Some(PositionStatus::OtherDatabase)), "{asked}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lag_is_the_time_since_it_last_had_everything() {
        assert_eq!(DatabaseView::new(false).lag_ms(), None, "a leader is behind nobody");
        let view = DatabaseView::new(true);
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(view.lag_ms(), Some(300), "it never had it");
        view.caught_up();
        tokio::time::advance(Duration::from_millis(40)).await;
        assert_eq!(view.lag_ms(), Some(40));
        view.set_ready(true);
        view.withdraw();
        assert!(!view.is_ready());
        view.start_role(false);
        assert_eq!(view.lag_ms(), None, "it leads now");
        tokio::time::advance(Duration::from_millis(70)).await;
        view.start_role(true);
        assert_eq!(view.lag_ms(), Some(0), "it had everything while it led");
    }
}
