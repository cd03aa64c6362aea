//! The writer thread: gives the Writer what has come, and carries out what it wants done.

mod promises;

pub(in crate::node) use promises::PromiseStore;

use super::{
    disk_workers::{DiskWorkers, SnapshotRequest, log_failure},
    sidelined_log::SidelinedLog,
};
use crate::{
    base::clock::{Clock, Monotonic},
    base::failpoint,
    base::limits,
    base::metrics::NodeMetrics,
    base::trace::CommitTrace,
    data::counters::CounterQueue,
    engine::leader::{Leader, LeaderEvent, StepDownGate, Successor, WriteReply, Writer, WriterAction, adjacent_writes},
    replication::PeerEvent,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// The resources that the thread works with.
pub(in crate::node) struct Hands {
    pub(in crate::node) writer: Writer<WriteReply>,
    pub(in crate::node) step_down_gate: StepDownGate,
    pub(in crate::node) notes: PromiseStore,
    pub(in crate::node) leader: Leader,
    pub(in crate::node) workers: DiskWorkers,
    pub(in crate::node) sidelined_log: SidelinedLog,
    pub(in crate::node) metrics: Arc<NodeMetrics>,
    pub(in crate::node) clock: Arc<dyn Clock>,
}

/// Runs on a thread of its own until the leader was told to stop and everything is answered and synced.
pub(in crate::node) fn run(hands: Hands) -> Writer<WriteReply> {
    let Hands { writer, step_down_gate, notes, leader, workers, sidelined_log, metrics, clock } = hands;
    let (events, actions, stopping, hands_over, disk_full) = Default::default();
    // Both series are there from the start, so that an alert on their rate sees the first increment too.
    for queue in [CounterQueue::Excess, CounterQueue::Stale] {
        metrics.sidelined.add(queue.name(), 0);
    }
    let thread = WriterThread {
        writer,
        step_down_gate,
        notes,
        leader,
        workers,
        sidelined_log,
        metrics,
        clock,
        events,
        actions,
        stopping,
        hands_over,
        disk_full,
    };
    thread.run()
}

struct WriterThread {
    writer: Writer<WriteReply>,
    step_down_gate: StepDownGate,
    notes: PromiseStore,
    leader: Leader,
    workers: DiskWorkers,
    sidelined_log: SidelinedLog,
    metrics: Arc<NodeMetrics>,
    clock: Arc<dyn Clock>,
    events: VecDeque<LeaderEvent>,
    actions: Vec<WriterAction<WriteReply>>,
    stopping: bool,
    /// True if the next role of this process waits for the end.
    hands_over: bool,
    /// True if the state that was last published is "disk full".
    disk_full: bool,
}

/// However the thread ends, nobody waits for it any more.
pub(in crate::node) struct NotifyOnExit(pub(in crate::node) Leader);

impl Drop for NotifyOnExit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poisoned();
        }
        self.0.end();
    }
}

impl WriterThread {
    fn run(mut self) -> Writer<WriteReply> {
        loop {
            let patience = self.patience();
            self.leader.take(&mut self.events, patience);
            let now = self.clock.monotonic();
            while let Some(event) = self.events.pop_front() {
                self.handle(event, now);
                self.act();
            }
            if self.stopping {
                self.writer.end_expiry();
            }
            self.writer.tick(now, &mut self.actions);
            if self.stopping {
                self.writer.start_sync(&mut self.actions);
            }
            self.act();
            if self.hands_over {
                self.writer.cancel_snapshot();
            }
            self.disk_full = self.writer.disk_full_left_ms(now) > 0;
            self.leader.set_disk_full(self.disk_full);
            if self.stopping && self.writer.is_at_rest() {
                return self.writer;
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        if self.writer.has_queue_work(now) {
            return Some(Duration::ZERO);
        }
        if self.writer.has_due_entries(now) {
            return Some(Duration::from_micros(limits::EXPIRY_PAUSE_US));
        }
        let tick_ms = self.writer.next_tick().map(|wake| wake.since_ms(now));
        // Nobody may write meanwhile, who would find that writes are tried again.
        let pause_ms = self.disk_full.then(|| self.writer.disk_full_left_ms(now));
        tick_ms.into_iter().chain(pause_ms).min().map(|left_ms| Duration::from_millis(left_ms.max(1)))
    }

    fn handle(&mut self, event: LeaderEvent, now: Monotonic) {
        match event {
            LeaderEvent::Write(first) => {
                self.metrics.queue_depth.set(self.events.len() as i64);
                let mut trace = CommitTrace::default();
                let writes = adjacent_writes(first, &mut self.events).inspect(|write| trace.add(&write.reply.trace));
                self.writer.write(writes, now, &mut self.actions);
                trace.end();
            }
            LeaderEvent::Replica(peer, told) => {
                self.writer.on_peer_event(peer, &told, now, &mut self.actions);
                if let PeerEvent::StepDown(epoch) = told {
                    self.act();
                    self.note(epoch, None);
                    self.leader.stepped_down(Successor(None));
                }
            }
            LeaderEvent::Offer(bytes, reply) => self.on_append_request(&bytes, reply),
            LeaderEvent::Synced(sync, result) => self.writer.synced(&sync, result, now, &mut self.actions),
            LeaderEvent::SnapshotEnded(result, took_ms) => {
                result.as_ref().err().filter(|_| !self.hands_over).into_iter().for_each(log_failure);
                self.writer.snapshot_ended(&result, took_ms);
            }
            LeaderEvent::FilesChecked(check, found) => self.writer.files_checked(&check, &found, &mut self.actions),
            LeaderEvent::Probe(sign) => drop(sign.send(())), // whoever asked may have gone
            LeaderEvent::Stop => self.stopping = true,
            LeaderEvent::HandOver => (self.stopping, self.hands_over) = (true, true),
        }
    }

    fn act(&mut self) {
        for action in self.actions.drain(..) {
            match action {
                WriterAction::Answer(reply, answer) => {
                    if let Ok(receipt) = &answer {
                        self.metrics.batches.inc();
                        self.metrics.words.inc_by(if receipt.replayed { 0 } else { receipt.words });
                        self.metrics.replayed.inc_by(u64::from(receipt.replayed));
                    }
                    failpoint::pass("ack.begin");
                    // Whoever asked may have gone; the write counts all the same.
                    let _ = reply.send(answer);
                    failpoint::pass("ack.sent");
                }
                WriterAction::Published(position, record) => {
                    self.metrics.records.inc();
                    self.metrics.record_bytes.inc_by(record.len() as u64);
                    self.metrics.position.set(position.sequence as i64);
                    self.leader.published(position, record);
                    failpoint::pass("write.published");
                }
                WriterAction::Clamped(amounts) => self.metrics.clamped_takebacks.inc_by(amounts),
                WriterAction::Sidelined(sidelined) => {
                    self.metrics.sidelined.add(sidelined.queue.name(), sidelined.increments);
                    self.sidelined_log.tell(sidelined);
                }
                WriterAction::QueuesChanged(totals) => self.leader.set_queue_totals(totals),
                WriterAction::WantDurable(wanted) => self.leader.want_durable(wanted),
                WriterAction::Sync(sync) => self.workers.sync(sync),
                WriterAction::Snapshot(mark, place) => {
                    let reader = self.writer.store().reader();
                    self.workers.snapshot(SnapshotRequest {
                        identity: self.step_down_gate.identity,
                        reader,
                        mark,
                        place,
                    });
                }
                WriterAction::Poisoned(what) => {
                    tracing::error!("{what}: no more writes until a restart; reads go on");
                    self.leader.poisoned();
                }
                WriterAction::CheckFiles(check) => self.workers.check_files(check),
                WriterAction::FilesLost(what) => {
                    tracing::error!(
                        "{what}: the counts are in memory alone, and no more writes are taken. Before this process is stopped, \
                         save them (GET /sync of each namespace), or promote a replica"
                    );
                    self.leader.files_lost(what);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::hash::WordHasher,
        data::command::WriteBatch,
        data::counts::{WriteOp, word_counts::WordCounts},
        engine::leader::{QueueLimits, WriteError},
        engine::view::DatabaseView,
        replication::ReplicationBacklog,
    };

    #[tokio::test]
    async fn a_writer_that_dies_keeps_nobody_waiting() {
        let hasher = WordHasher::new(1);
        let (view, feed) = (Arc::new(DatabaseView::new(false)), Arc::new(ReplicationBacklog::new(0, 0)));
        let leader = Leader::new(view, feed, QueueLimits::default());
        let batch = || WriteBatch {
            entries: Vec::new(),
            namespace: "words".into(),
            op: WriteOp::Add,
            counts: WordCounts::new(hasher),
            words: 0,
            left_out: 0,
            is_post: false,
            key: None,
            fingerprint: 0,
        };
        let mut waiting = std::pin::pin!(leader.submit(batch(), None));
        assert!(futures::poll!(&mut waiting).is_pending());
        let dying = leader.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            let _end = NotifyOnExit(dying);
            panic!("on purpose");
        });
        assert!(thread.expect("a thread").join().is_err());
        leader.ended().await;
        assert_eq!(waiting.await, Err(WriteError::Stopping), "the Writer never saw it");
        assert_eq!(leader.submit(batch(), None).await, Err(WriteError::Poisoned));
        assert!(leader.status().poisoned);
    }
}
