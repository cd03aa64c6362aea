//! Messages to the service manager of the system: that the node starts, serves, reads its settings anew, lives, and
//! stops (`Type=notify` of systemd,
//! [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/sd_notify.html)). Where no service manager listens,
//! nothing happens.
//!
//! A thread of its own says that the node lives (`WatchdogSec`). It looks at the two threads without which there is no
//! node: the main one, which beats, and the leader's Writer, which answers. So a node that takes no more writes, though
//! its process is there, is started again, and one that changes its role, for however long, is not.

use crate::engine::leader::Leader;
use parking_lot::Mutex;
use sd_notify::NotifyState;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot::{Receiver, error::TryRecvError};

/// Interval of the looks, where the service manager does not want to hear of the node more often.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Time that a start is given from each look on.
const START_EXTENSION_US: u32 = 30_000_000;

/// The state of the node, as far as the watchdog has to know it.
#[derive(Clone)]
enum NodePhase {
    /// It reads its files.
    Starting,
    /// It has this role; on the leader a Writer.
    Running(Option<Leader>),
    /// It ends its role, for another one or for good: the threads that are looked at come and go.
    Between,
}

/// The signs of life of a node, which the watchdog looks at.
#[derive(Clone)]
pub(super) struct LifeSigns(Arc<NodeSigns>);

struct NodeSigns {
    phase: Mutex<NodePhase>,
    /// Beats of the main thread.
    beats: AtomicU64,
}

impl Default for LifeSigns {
    fn default() -> Self {
        Self(Arc::new(NodeSigns { phase: Mutex::new(NodePhase::Starting), beats: AtomicU64::new(0) }))
    }
}

impl LifeSigns {
    /// Says that the node has a role from now on, and a Writer if it leads.
    pub(super) fn run(&self, leader: Option<&Leader>) {
        *self.0.phase.lock() = NodePhase::Running(leader.cloned());
    }

    /// Says that the node ends its role.
    pub(super) fn pause(&self) {
        *self.0.phase.lock() = NodePhase::Between;
    }

    /// The main thread goes on.
    pub(super) fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }
}

/// The outcome of a look.
#[derive(Debug, PartialEq, Eq)]
enum LifeReport {
    /// A start takes its time.
    Starts,
    /// The node lives.
    Lives,
    /// One of its threads is stuck or dead.
    Hangs(&'static str),
}

/// The looks at a node, one after the other.
#[derive(Default)]
struct NodeWatchdog {
    beats: Option<u64>,
    asked: Option<Receiver<()>>,
}

impl NodeWatchdog {
    /// Looks at the node. A thread that has given no sign since the last look hangs.
    fn look(&mut self, signs: &LifeSigns) -> LifeReport {
        let leader = match signs.0.phase.lock().clone() {
            NodePhase::Starting => return LifeReport::Starts,
            NodePhase::Between => {
                *self = Self::default();
                return LifeReport::Lives;
            }
            NodePhase::Running(leader) => leader,
        };
        let beats = signs.0.beats.load(Ordering::Relaxed);
        if self.beats.replace(beats) == Some(beats) {
            return LifeReport::Hangs("the main thread");
        }
        let answered = self.asked.as_mut().map(Receiver::try_recv);
        if matches!(answered, Some(Err(TryRecvError::Empty))) {
            return LifeReport::Hangs("the Writer");
        }
        self.asked = leader.map(|leader| leader.probe());
        match answered {
            Some(Err(TryRecvError::Closed)) => LifeReport::Hangs("the Writer"),
            _ => LifeReport::Lives,
        }
    }
}

/// Starts the thread that says how the node is, if a service manager listens.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn watch(signs: &LifeSigns) -> io::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let (signs, patience) = (signs.clone(), sd_notify::watchdog_enabled());
    let interval = patience.map_or(LOOK_INTERVAL, |patience| (patience / 4).min(LOOK_INTERVAL));
    let run = move || {
        let mut watchdog = NodeWatchdog::default();
        let mut hung = None;
        loop {
            match watchdog.look(&signs) {
                LifeReport::Starts => tell(&[NotifyState::ExtendTimeoutUsec(START_EXTENSION_US)]),
                _ if patience.is_none() => return,
                LifeReport::Lives => {
                    hung = None;
                    tell(&[NotifyState::Watchdog]);
                }
                LifeReport::Hangs(what) => {
                    if hung.replace(what) != Some(what) {
                        tracing::error!(
                            "{what} gives no sign of life: the service manager is not told that this node lives"
                        );
                    }
                }
            }
            #[allow(clippy::disallowed_methods, reason = "there is nothing to wait for but the time of the next look")]
            std::thread::sleep(interval);
        }
    };
    std::thread::Builder::new().name("memdb-watchdog".into()).spawn(run).map(drop)
}

/// Gives the interval at which the main thread is to beat; `None` if nobody looks.
pub(super) fn beat_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| (patience / 4).min(LOOK_INTERVAL) / 3)
}

/// Says that the node serves.
pub(super) fn tell_ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that settings are read anew; [`tell_ready`] says that it is done.
pub(super) fn tell_reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now_us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    tell(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now_us)]);
}

/// Says that the node stops, which may take a while.
pub(super) fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::leader::{LeaderEvent, QueueLimits},
        engine::view::DatabaseView,
        replication::ReplicationBacklog,
    };
    use std::collections::VecDeque;

    fn leader() -> Leader {
        let (view, feed) = (Arc::new(DatabaseView::new(false)), Arc::new(ReplicationBacklog::new(0, 0)));
        Leader::new(view, feed, QueueLimits::default())
    }

    /// As the Writer's thread.
    fn answer(leader: &Leader) {
        let mut events = VecDeque::new();
        leader.take(&mut events, Some(Duration::ZERO));
        for event in events {
            let LeaderEvent::Probe(sign) = event else { panic!("nothing else was sent") };
            sign.send(()).expect("somebody waits");
        }
    }

    #[test]
    fn a_leader_lives_as_long_as_its_writer_answers_and_its_main_thread_beats() {
        let (signs, leader, mut watchdog) = (LifeSigns::default(), leader(), NodeWatchdog::default());
        let mut look = || {
            signs.beat();
            watchdog.look(&signs)
        };
        assert_eq!(look(), LifeReport::Starts);
        signs.run(Some(&leader));
        for _ in 0..3 {
            assert_eq!(look(), LifeReport::Lives);
            answer(&leader);
        }
        assert_eq!(look(), LifeReport::Lives, "it has answered what it was asked before");
        assert_eq!((look(), look()), (LifeReport::Hangs("the Writer"), LifeReport::Hangs("the Writer")));
        answer(&leader);
        assert_eq!(look(), LifeReport::Lives, "it was only slow");
        assert_eq!(watchdog.look(&signs), LifeReport::Hangs("the main thread"));
    }

    #[test]
    fn a_writer_that_is_dead_gives_no_sign() {
        let (signs, leader, mut watchdog) = (LifeSigns::default(), leader(), NodeWatchdog::default());
        let mut look = || {
            signs.beat();
            watchdog.look(&signs)
        };
        signs.run(Some(&leader));
        assert_eq!(look(), LifeReport::Lives);
        leader.end();
        assert_eq!((look(), look()), (LifeReport::Hangs("the Writer"), LifeReport::Hangs("the Writer")));
    }

    #[test]
    fn a_node_lives_between_two_roles_and_as_a_follower() {
        let (signs, leader, mut watchdog) = (LifeSigns::default(), leader(), NodeWatchdog::default());
        signs.run(Some(&leader));
        assert_eq!(watchdog.look(&signs), LifeReport::Lives);
        signs.pause();
        assert_eq!((watchdog.look(&signs), watchdog.look(&signs)), (LifeReport::Lives, LifeReport::Lives));
        signs.run(None);
        for _ in 0..3 {
            assert_eq!(watchdog.look(&signs), LifeReport::Lives);
            signs.beat();
        }
    }
}
