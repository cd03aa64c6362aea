//! The service of a node to its clients, whatever protocol they speak: it takes a command or a query, and gives a
//! receipt, a reply or an error.
//!
//! Here it is decided what the node's role allows, who applies a write, what is counted beside the serving threads,
//! and what a read waits for. A protocol (`http/`) reads requests into a [`Command`] or a [`ReadQuery`] and writes the
//! answers; it decides none of that.

mod command;
mod forwarding;
mod health;
mod peers;
mod query;
mod role;

#[cfg(any(test, feature = "failpoints"))]
pub(super) use command::of_text;
pub use command::{Command, Operation, check_text};
pub use forwarding::{LeaderAnswer, WriteOutcome, WriteRequest};
pub use health::RoleStatus;
pub use peers::AppendReceiver;
pub use query::{AllCounts, CountOf, CountsOf, CountsWalk, LargestCounts, QueryReply, ReadQuery, no_word};
pub(super) use role::{RoleContext, RoleSlot, RoleSlots};

use super::error::{ApiError, BEHIND_A_PROXY, ErrorKind};
use crate::{
    base::metrics::NodeMetrics,
    base::position::{DatabaseTag, PositionStatus, PositionToken},
    data::command::WriteBatch,
    data::counts::{WriteOp, word_counts::WordCountsPool},
    engine::leader::{AckLevel, WriteError, WriteReceipt},
    engine::view::{DatabaseView, ServedDatabase},
    net::{
        address_limits::{Line, Usage},
        budget::{Budget, BudgetRefusal},
        write_forwarder::OF_NO_DATABASE,
    },
    replication::NodeId,
    storage::file_header::DatabaseIdentity,
};
use std::{sync::Arc, time::Duration};

/// Texts longer than this many bytes are taken apart on a thread for such work: at some 100 MB/s they would keep the
/// serving thread's other connections waiting for more than half a millisecond.
pub(super) const INLINE_TEXT_BYTES: usize = 64 << 10;

/// The part of `/status` that does not change while the node has its role.
#[derive(Clone, Debug)]
pub struct NodeAbout {
    /// `leader`, `replica` or `local-replica`.
    pub role: &'static str,
    /// This run of the process.
    pub node: NodeId,
    /// The URL by which others reach the node.
    pub url: String,
    /// The reason why a replica that was to lead does not.
    pub not_promoted: Option<String>,
    /// On a leader: the level a write is acknowledged at when its request names none.
    pub default_ack: Option<AckLevel>,
}

/// One shard as its clients use it. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    /// The shard's view. It outlives the shard's roles, so a read looks at no role.
    pub(super) view: Arc<DatabaseView>,
    /// The shard in its role of now: the destination of writes, and the source of what other nodes fetch.
    pub(super) role: Arc<RoleSlot>,
    /// Counters of what is refused and passed on.
    pub(super) metrics: Arc<NodeMetrics>,
    /// Word counts of texts: what is made for each and freed by the Writer, on another core, costs more than the
    /// counting.
    pub(super) tallies: Arc<WordCountsPool>,
    /// The time that a read waits for the position it asks for.
    pub(super) position_wait: Duration,
    /// Reads that wait for a position.
    pub(super) waiting_reads: Arc<Budget>,
}

/// The receipt of a write, and the database that its position is of.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedWrite {
    /// The effect of the write.
    pub receipt: WriteReceipt,
    /// The database that its position is of.
    pub database: DatabaseTag,
}

impl AcceptedWrite {
    /// The record that the write is part of.
    pub fn position(&self) -> PositionToken {
        PositionToken { position: self.receipt.position, database: self.database }
    }
}

impl Service {
    /// Gives the database that is served now.
    ///
    /// # Errors
    /// On a follower that holds nothing, or nothing that is right.
    pub fn current(&self) -> Result<Arc<ServedDatabase>, ApiError> {
        arc_swap::Guard::into_inner(self.view.current()).ok_or_else(nothing_to_read)
    }

    /// The role of now, for a look. Not to be held across an await.
    pub(super) fn look_at_role(&self) -> arc_swap::Guard<Arc<RoleContext>> {
        self.role.look()
    }

    /// The role of now, for a request that ends with it.
    pub(super) fn role(&self) -> Arc<RoleContext> {
        self.role.get()
    }

    /// The role for a request that depends on it: waits while the node is between two.
    pub(super) async fn settled_role(&self) -> Arc<RoleContext> {
        self.role.settled().await
    }

    /// Returns whether writes go to this node's own Writer.
    pub(super) fn takes_writes(&self) -> bool {
        let role = self.look_at_role();
        !role.is_ending && role.leader().is_some()
    }

    /// Counts a refused write under the label of its kind.
    pub fn refused(&self, error: ApiError) -> ApiError {
        self.metrics.refused(error.kind().refusal_label().unwrap_or(error.kind().slug()));
        error
    }

    /// Carries out a write: here on a leader, by way of the leader elsewhere. `stated`: of which database a follower
    /// says to be that has sent it.
    ///
    /// # Errors
    /// If the request cannot be read, or the write is refused. [`ErrorKind::OutcomeUnknown`] and
    /// [`ErrorKind::NotReplicated`] may be applied; for every other kind nothing was.
    pub async fn execute<W: WriteRequest>(
        &self,
        request: W,
        stated: Option<&str>,
        usage: &Usage,
    ) -> Result<WriteOutcome, ApiError> {
        let role = self.settled_role().await;
        if let Some(leader) = role.forward() {
            return self.pass_on(leader, request, stated, usage).await.map(WriteOutcome::FromLeader);
        }
        self.check_meant(stated)?;
        let (current, tallies, size) = (self.current()?, Arc::clone(&self.tallies), request.size());
        let prepare = move || {
            let command = request.command(&current.identity)?;
            let level = command.level;
            Ok((command.into_batch(&current, &tallies)?, level))
        };
        let (batch, level) = if size <= INLINE_TEXT_BYTES { prepare()? } else { beside(usage, prepare).await? };
        self.submit(batch, level, usage).await.map(WriteOutcome::Accepted)
    }

    /// Has the Writer take a batch, and waits for its receipt. Every delete is answered alike: with the words that were
    /// there to be taken.
    ///
    /// # Errors
    /// If the Writer refuses it, or its outcome is not known.
    pub async fn submit(
        &self,
        batch: WriteBatch,
        level: Option<AckLevel>,
        usage: &Usage,
    ) -> Result<AcceptedWrite, ApiError> {
        let role = self.role();
        let database = self.current()?.identity.tag();
        if matches!(batch.op, WriteOp::Add | WriteOp::AddGiven) && batch.counts.is_empty() && batch.key.is_none() {
            // Nothing to count and nothing to remember: it holds at the position it finds.
            let position = self.current()?.reader.read().position();
            let receipt = WriteReceipt {
                position,
                words: 0,
                distinct: 0,
                left_out: batch.left_out,
                acks: 0,
                replayed: false,
                stream_last: None,
            };
            return Ok(AcceptedWrite { receipt, database });
        }
        let takes_away = matches!(batch.op, WriteOp::RemoveWords | WriteOp::DropNamespace);
        let submitted = match role.leader() {
            Some(leader) => leader.submit_from(batch, level, usage.queue(leader.queue_limits())).await,
            None => Err(WriteError::Stopping), // the role that took this write has ended
        };
        match submitted {
            Ok(receipt) => {
                self.count_unreplicated(level, &receipt);
                let distinct = if takes_away { receipt.words } else { receipt.distinct };
                Ok(AcceptedWrite { receipt: WriteReceipt { distinct, ..receipt }, database })
            }
            Err(error) => Err(self.refused_write(&error, database)),
        }
    }

    /// Counts a write that the Writer has refused, and maps it to its error.
    pub fn refused_write(&self, error: &WriteError, database: DatabaseTag) -> ApiError {
        self.refused(ApiError::of_write(error, database))
    }

    /// Counts a write that no replica has acknowledged, though the default level would have had one do so.
    pub fn count_unreplicated(&self, level: Option<AckLevel>, receipt: &WriteReceipt) {
        let wants_replica =
            level.is_none() && self.look_at_role().about.default_ack.is_some_and(AckLevel::wants_replica);
        self.metrics.unreplicated.inc_by(u64::from(wants_replica && receipt.acks == 0));
    }

    /// A follower may not know yet that its leader's place is taken by the leader of another database, so what it
    /// passes on is refused here.
    fn check_meant(&self, stated: Option<&str>) -> Result<(), ApiError> {
        let Some(stated) = stated else { return Ok(()) };
        let identity = self.current()?.identity;
        if is_meant(stated, &identity) {
            return Ok(());
        }
        Err(self.refused(ApiError::other_database(identity.database_id, stated)))
    }

    /// Answers a query, once the position that it asks for is applied here.
    ///
    /// # Errors
    /// If there is nothing to read, the position is not reached in time or never will be, or a name names no word.
    pub async fn query<Q: ReadQuery>(
        &self,
        query: Q,
        min_position: Option<PositionToken>,
        usage: &Usage,
    ) -> Result<QueryReply<Q::Answer>, ApiError> {
        let lag_ms = self.wait_for(min_position, usage).await?;
        let (answer, position) = query.answer(&*self.current()?).ok_or_else(|| no_word(ErrorKind::InvalidParameter))?;
        Ok(QueryReply { answer, position, lag_ms })
    }

    /// Waits until a position is applied here. Returns the lag from before the read that follows: what is read then is
    /// at least as new.
    ///
    /// # Errors
    /// If there is nothing to read, or the position is not reached in time or never will be.
    pub async fn wait_for(&self, position: Option<PositionToken>, usage: &Usage) -> Result<Option<u64>, ApiError> {
        let Some(asked) = position else { return Ok(self.view.lag_ms()) };
        let mut status = self.view.position_status_now(asked);
        if matches!(status, None | Some(PositionStatus::Ahead)) {
            let _waiting = self.waiting_reads.take(usage, 1).map_err(|why| too_many_wait(asked, why))?;
            status = self.view.position_status(asked, self.position_wait).await;
        }
        match status {
            None => Err(nothing_to_read()),
            Some(PositionStatus::Reached) => Ok(self.view.lag_ms()),
            Some(PositionStatus::Ahead) => Err(ApiError::new(
                ErrorKind::PositionAhead,
                format!("{asked} is not applied here yet; ask again, or another node"),
            )),
            Some(PositionStatus::Lost) => Err(ApiError::new(
                ErrorKind::PositionLost,
                format!("this history went on without {asked}: what was written there must be sent again"),
            )),
            Some(PositionStatus::OtherDatabase) => {
                Err(ApiError::new(ErrorKind::PositionOtherDatabase, self.position_of_another(asked)))
            }
        }
    }

    fn position_of_another(&self, asked: PositionToken) -> String {
        let here = self.current().map_or_else(|_| "another".to_owned(), |current| current.identity.tag().to_string());
        format!(
            "{asked} is of database {}, and this node serves database {here}: ask a node of that database, or, if that is \
             lost, send again what was written there",
            asked.database
        )
    }
}

/// Returns whether a write that a follower has passed on, and that states this database, is meant for the one with
/// this identity.
pub fn is_meant(stated: &str, identity: &DatabaseIdentity) -> bool {
    stated == OF_NO_DATABASE || u128::from_str_radix(stated, 16) == Ok(identity.database_id)
}

/// The error of a follower that has nothing, or nothing that is right.
fn nothing_to_read() -> ApiError {
    let detail = "this node has not received the counts of its leader yet; ask again, or another node";
    ApiError::new(ErrorKind::NotReady, detail)
}

fn too_many_wait(asked: PositionToken, exhausted: BudgetRefusal) -> ApiError {
    let detail = match exhausted {
        BudgetRefusal::All => format!("{asked} is not applied here yet, and no more reads may wait; ask again"),
        BudgetRefusal::Address { share, .. } => format!(
            "{asked} is not applied here yet, and {share} reads of this address wait already, its share; ask again, or \
             another node; {BEHIND_A_PROXY}"
        ),
    };
    ApiError::new(ErrorKind::PositionAhead, detail)
}

/// Runs long work beside the serving threads, once the client's address has a turn.
///
/// # Errors
/// Those of the work, or that it died.
pub(super) async fn beside<T: Send + 'static>(
    usage: &Usage,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = usage.turn(Line::LongTexts).await;
    // The turn ends with the work, also if nobody asks for it any more.
    let work = move || {
        let done = work();
        drop(turn);
        done
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(ApiError::new(ErrorKind::Internal, "the text could not be taken apart; nothing was applied")),
    }
}
