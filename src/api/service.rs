//! The service of a node to its clients, whatever protocol they speak: it takes a command or a query, and gives a
//! receipt, a reply or an error.
//!
//! Here it is decided what the node's role allows, who applies a write, what is counted beside the serving threads,
//! and what a read waits for. A protocol (`http/`) reads requests into a [`Command`] or a [`ReadQuery`] and writes the
//! answers; it decides none of that.
//!
//! This file has the way of a write. Reads are in `service/query.rs` and `service/read_wait.rs`, writes on a follower
//! in `service/forwarding.rs`, requests of other nodes in `service/peers.rs`.

mod about;
mod beside;
mod command;
mod counters;
mod entries;
mod export;
mod forwarding;
mod health;
mod origin;
mod peers;
mod query;
mod ranking;
mod read_wait;
mod revalidation;
mod role;
mod stats;
pub mod watch;

pub use about::NodeAbout;
pub(super) use beside::beside;
pub use command::{Command, EntryChanges, Operation, check_text};
use command::{fingerprint, given_amounts, namespace_drop, removal};
pub use counters::{CounterOf, check_counter_key};
pub use entries::{EntriesOf, EntryListing, EntryOf, no_entry};
pub use export::{ExportItem, ExportWalk, WholeContent};
pub use forwarding::{LeaderAnswer, WriteOutcome, WriteRequest, is_meant};
pub use health::RoleStatus;
pub use origin::{OriginSource, ThroughAnswer, ThroughRead};
pub use peers::AppendReceiver;
pub use query::{
    AllCounts, CountOf, CountsOf, CountsWalk, NamespaceList, NamespaceReport, QueryReply, ReadQuery, no_word,
};
pub use ranking::{RankingAnswer, RankingRequest};
pub(super) use role::{RoleContext, RoleSlot, RoleSlots};
pub use stats::{ClusterStats, ClusterStatsSource, NodeStats};

use super::error::ApiError;
use crate::{
    base::clock::Clock,
    base::metrics::NodeMetrics,
    base::position::{DatabaseTag, PositionToken},
    data::command::{AckLevel, IdempotencyKey, WriteBatch, WriteError, WriteReceipt},
    data::counts::{
        WriteOp,
        word_counts::{WordCounts, WordCountsPool},
    },
    data::posts::count_words,
    engine::view::{DatabaseView, ServedDatabase},
    net::{address_limits::Usage, budget::Budget},
    text::tokenizer::Analyzer,
};
use std::{sync::Arc, time::Duration};

/// Texts longer than this many bytes are taken apart on a thread for such work: at some 100 MB/s they would keep the
/// serving thread's other connections waiting for more than half a millisecond.
pub(super) const INLINE_TEXT_BYTES: usize = 64 << 10;

/// One shard as its clients use it. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    /// The shard's view. It outlives the shard's roles, so a read looks at no role.
    pub(super) view: Arc<DatabaseView>,
    /// The shard in its role of now: the destination of writes, and the source of what other nodes fetch.
    pub(super) role: Arc<RoleSlot>,
    /// Reads the time that passes, by which entries expire.
    pub(super) clock: Arc<dyn Clock>,
    /// Counters of what is refused and passed on.
    pub(super) metrics: Arc<NodeMetrics>,
    /// Word counts of texts: what is made for each and freed by the Writer, on another core, costs more than the
    /// counting.
    pub(super) tallies: Arc<WordCountsPool>,
    /// The time that a read waits for the position it asks for.
    pub(super) position_wait: Duration,
    /// Reads that wait for a position.
    pub(super) waiting_reads: Arc<Budget>,
    /// The source of values that the cache does not have, if there is one.
    pub(super) origin: Option<Arc<OriginSource>>,
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
    /// Carries out a write: here on a leader, by way of the leader elsewhere. `stated`: of which database a follower
    /// says to be that has sent it.
    ///
    /// # Errors
    /// If the request cannot be read, or the write is refused. What is `outcome-unknown` or `not-replicated` may be
    /// applied; for every other kind nothing was.
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
        if matches!(batch.op, WriteOp::Add | WriteOp::AddGiven) && batch.is_empty() && batch.key.is_none() {
            // Nothing to count and nothing to remember: it holds at the position it finds.
            let position = self.current()?.reader.read().position();
            let receipt = WriteReceipt { left_out: batch.left_out, ..WriteReceipt::at(position) };
            return Ok(AcceptedWrite { receipt, database });
        }
        let takes_away = matches!(batch.op, WriteOp::RemoveWords | WriteOp::DropNamespace);
        role.before_write(&batch);
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

    /// Gives the database that is served now.
    ///
    /// # Errors
    /// On a follower that holds nothing, or nothing that is right.
    pub fn current(&self) -> Result<Arc<ServedDatabase>, ApiError> {
        arc_swap::Guard::into_inner(self.view.current()).ok_or_else(read_wait::nothing_to_read)
    }

    /// Counts a refused write under the label of its kind.
    pub fn refused(&self, error: ApiError) -> ApiError {
        self.metrics.refused(error.kind().refusal_label().unwrap_or(error.kind().slug()));
        error
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
}

impl Command<'_> {
    /// The batch that the Writer takes, of this database. Its words are counted here, on the handler's core, and never
    /// on the Writer's.
    ///
    /// # Errors
    /// If it names what is no word.
    pub fn into_batch(self, current: &ServedDatabase, tallies: &Arc<WordCountsPool>) -> Result<WriteBatch, ApiError> {
        let Self { namespace, operation, once, .. } = self;
        match operation {
            Operation::AddText(text) => {
                let identity = &current.identity;
                Ok(of_text(&text, once, namespace.into(), identity.analyzer, tallies.take(identity.hasher())))
            }
            Operation::LendText { text, expiry } => {
                Ok(entries::lent_text(current, namespace, (&text, expiry), once, tallies))
            }
            Operation::ChangeEntries(changes) => Ok(entries::entry_batch(current, namespace, changes, once, tallies)),
            Operation::AddAmounts { amounts, words, source } => {
                Ok(given_amounts((amounts, words), source, namespace, once))
            }
            Operation::RemoveWords(names) => removal(current, namespace, &names, once),
            Operation::DropNamespace => Ok(namespace_drop(current, namespace, once)),
            Operation::Increment(key) => Ok(counters::increment(current, &key, once)),
            Operation::RemoveCounter(key) => Ok(counters::removal(current, &key, once)),
        }
    }
}

/// The words of a text, added up in `counts`, which is empty.
pub(in crate::api) fn of_text(
    text: &str,
    once: Option<IdempotencyKey>,
    namespace: Box<str>,
    analyzer: Analyzer,
    mut counts: WordCounts,
) -> WriteBatch {
    let (words, left_out) = count_words(analyzer, text, &mut counts);
    let fingerprint = fingerprint(once.as_ref(), &[namespace.as_bytes(), b"post", text.as_bytes()]);
    let (entries, op, is_post) = (Vec::new(), WriteOp::Add, true);
    WriteBatch { namespace, op, is_post, counts, entries, words, left_out, key: once, fingerprint }
}
