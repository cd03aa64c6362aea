//! The tries of a write that a follower passes on: the node it goes to next, the time it waits, and what is known of
//! the write in the end. A state machine.
//!
//! A leader may go at any moment, and another comes within a second or two, so a write that finds none waits for it. It
//! is sent again under its name, and only if it has one: the client's own, or the key that was made for it.
//!
//! Once a try was sent and not answered, the write may count. A later refusal speaks of that later try alone, so it is
//! not the answer: the write is tried again, and after that its outcome is unknown.

use crate::{base::failpoint::inject, base::limits, base::retry::RetryBackoff};
use std::time::Duration;

/// The pause between two tries at one node, in milliseconds, and up to a quarter more.
const PAUSE_MS: u64 = 100;
/// A leader that asks for a longer pause gets no more than this, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 1_000;

/// The next step of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardStep {
    /// Send it to the node at this URL, under [`ForwardPlan::key`].
    Try(String),
    /// Wait so long, in milliseconds, or until another leader is known.
    Wait(u64),
    /// No leader has taken it in time. `may_count`: some try may have been applied.
    GiveUp {
        /// True if a try was sent whose outcome is not known.
        may_count: bool,
    },
}

/// The result of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TryResult {
    /// Nobody was reached: nothing was sent.
    NotReached,
    /// It was sent, and no answer came.
    Unanswered,
    /// That node follows the one at this URL, if it knows one, and has not taken the write.
    SentOn(Option<String>),
    /// That node is about to lead no more, or does not lead yet, and has not taken the write.
    BetweenLeaders,
    /// The answer.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The pause that it asks for, in milliseconds.
        retry_after_ms: Option<u64>,
    },
}

/// The tries of one write.
#[derive(Clone, Debug)]
pub struct ForwardPlan {
    /// The key that was made for it; none if the client has named it.
    key: Option<String>,
    /// Some try was sent, and its outcome is not known.
    may_count: bool,
    /// The leader that was known at the last try.
    known: Option<String>,
    /// The node that the last try went to.
    asked: Option<String>,
    /// The leader that the last node has named.
    named: Option<String>,
    /// The last try went where another node had sent it on to.
    was_sent_on: bool,
    /// The time at which it began to wait for a leader.
    waits_since: Option<u64>,
    /// The next try at the leader that is known comes no sooner.
    next_at: u64,
    refusals: u32,
    /// Spreads the tries of many writes over time.
    backoff: RetryBackoff,
    /// It changes nothing, so every answer settles it.
    is_read: bool,
}

impl ForwardPlan {
    /// A write that is sent under `key`, if its client has not named it. Pauses follow from `seed`.
    pub fn new(key: Option<String>, seed: u64) -> Self {
        Self {
            key,
            may_count: false,
            known: None,
            asked: None,
            named: None,
            was_sent_on: false,
            waits_since: None,
            next_at: 0,
            refusals: 0,
            backoff: RetryBackoff::new(seed),
            is_read: false,
        }
    }

    /// A question that changes nothing: however often it was sent, the answer that comes is the answer.
    pub fn of_read(seed: u64) -> Self {
        Self { is_read: true, ..Self::new(None, seed) }
    }

    /// The key that was made for the write: one for all its tries.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns whether some try was sent whose outcome is not known.
    pub fn may_count(&self) -> bool {
        self.may_count
    }

    /// Gives the next step at `now`, in milliseconds, with the leader that is known.
    pub fn next(&mut self, now: u64, known: Option<&str>) -> ForwardStep {
        let left = self
            .waits_since
            .map_or(limits::FORWARD_WAIT_MS, |since| (since + limits::FORWARD_WAIT_MS).saturating_sub(now));
        inject!(
            GivesUpWithoutALeader,
            if self.waits_since.is_some() {
                return ForwardStep::GiveUp { may_count: self.may_count };
            }
        );
        if left == 0 {
            return ForwardStep::GiveUp { may_count: self.may_count };
        }
        if let Some(named) = self.named.take() {
            self.was_sent_on = true;
            return self.try_at(named, known);
        }
        let Some(leader) = known else {
            self.waits_since.get_or_insert(now);
            return ForwardStep::Wait(left);
        };
        // Another leader is tried at once; the same again after a pause.
        let is_another = self.asked.is_some() && self.known.as_deref() != Some(leader);
        if !is_another && now < self.next_at {
            return ForwardStep::Wait(left.min(self.next_at - now));
        }
        inject!(
            LosesTheKeyWithTheLeader,
            if is_another {
                self.key = self.key.take().map(|key| key + "'");
            }
        );
        self.was_sent_on = false;
        self.try_at(leader.to_owned(), known)
    }

    fn try_at(&mut self, url: String, known: Option<&str>) -> ForwardStep {
        inject!(
            RetriesUnderAnotherKey,
            if self.asked.is_some() {
                self.key = self.key.take().map(|key| key + "'");
            }
        );
        (self.asked, self.known) = (Some(url.clone()), known.map(str::to_owned));
        ForwardStep::Try(url)
    }

    /// Takes the result of a try, known at `now`. Returns whether it is the answer of the write.
    pub fn tried(&mut self, now: u64, result: TryResult) -> bool {
        let pause = match result {
            TryResult::Answered { status, .. } if self.is_settled_by(status) => return true,
            TryResult::Answered { retry_after_ms, .. } => {
                self.may_count = true;
                self.refusals += 1;
                self.pause_behind(retry_after_ms)
            }
            TryResult::Unanswered => {
                self.may_count = !self.is_read;
                inject!(ForgetsThatItWasSent, self.may_count = false);
                PAUSE_MS
            }
            TryResult::NotReached | TryResult::BetweenLeaders => PAUSE_MS,
            // Once: nodes that name each other would keep it busy.
            TryResult::SentOn(Some(url)) if self.goes_on_to(&url) => {
                self.named = Some(url);
                return false;
            }
            TryResult::SentOn(_) => PAUSE_MS,
        };
        self.waits_since.get_or_insert(now);
        self.next_at = now + self.backoff.wait(Some(Duration::from_millis(pause))).as_millis() as u64;
        false
    }

    fn goes_on_to(&self, url: &str) -> bool {
        inject!(FollowsEveryName, return true);
        !self.was_sent_on && self.asked.as_deref() != Some(url)
    }

    /// Returns whether an answer with this status tells the outcome of the write.
    fn is_settled_by(&self, status: u16) -> bool {
        inject!(BelievesALaterRefusal, return status != 500);
        match status {
            _ if self.is_read => true,
            // The leader itself does not know. It will when it is asked again.
            500 => false,
            // It counts; or the Writer, which has everything sent before behind it, has refused its name or its
            // content.
            200..=299 | 504 | 409 | 422 => true,
            _ => !self.may_count,
        }
    }

    /// The pause behind an answer that has settled nothing, and asked for `retry_after_ms`.
    fn pause_behind(&self, retry_after_ms: Option<u64>) -> u64 {
        // Retry-After has whole seconds and is meant for clients. A leader that steps down refuses what is under way,
        // and leads or follows again some ten milliseconds later; only one that refuses twice needs the time it asks
        // for.
        if self.refusals <= 1 { PAUSE_MS } else { retry_after_ms.unwrap_or(PAUSE_MS).clamp(PAUSE_MS, LONGEST_PAUSE_MS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "http://a";
    const B: &str = "http://b";

    fn answered(status: u16) -> TryResult {
        TryResult::Answered { status, retry_after_ms: None }
    }

    fn plan() -> ForwardPlan {
        ForwardPlan::new(Some("key".to_owned()), 7)
    }

    fn goes_to(url: &str) -> ForwardStep {
        ForwardStep::Try(url.to_owned())
    }

    #[test]
    fn any_answer_settles_a_read_also_behind_a_try_without_one() {
        for status in [200, 304, 400, 404, 500, 502, 503] {
            let mut plan = ForwardPlan::of_read(7);
            assert_eq!(plan.next(0, Some(A)), goes_to(A));
            assert!(!plan.tried(1, TryResult::Unanswered));
            assert_eq!(plan.next(2, Some(B)), goes_to(B), "another leads");
            assert!(!plan.may_count() && plan.tried(3, answered(status)), "{status}");
        }
    }

    #[test]
    fn a_write_waits_for_a_leader_and_is_certainly_not_applied_without_one() {
        let mut plan = plan();
        assert_eq!(plan.next(5, None), ForwardStep::Wait(limits::FORWARD_WAIT_MS));
        assert_eq!(plan.next(1_005, None), ForwardStep::Wait(limits::FORWARD_WAIT_MS - 1_000));
        assert_eq!(plan.next(2_000, Some(A)), goes_to(A), "it is known now");
        assert!(!plan.tried(2_001, TryResult::NotReached));
        let ForwardStep::Wait(pause) = plan.next(2_001, Some(A)) else { panic!("it waits") };
        assert!((PAUSE_MS..=PAUSE_MS * 5 / 4).contains(&pause));
        assert_eq!(plan.next(2_001 + pause, Some(A)), goes_to(A));
        assert!(!plan.tried(2_200, TryResult::BetweenLeaders));
        assert_eq!(plan.next(5 + limits::FORWARD_WAIT_MS, Some(A)), ForwardStep::GiveUp { may_count: false });
    }

    #[test]
    fn another_leader_is_tried_at_once_under_the_same_key() {
        let mut plan = plan();
        assert_eq!(plan.next(0, Some(A)), goes_to(A));
        assert!(!plan.tried(10, TryResult::Unanswered));
        assert!(matches!(plan.next(10, Some(A)), ForwardStep::Wait(_)));
        assert_eq!((plan.next(11, Some(B)), plan.key()), (goes_to(B), Some("key")));
        assert!(!plan.tried(12, answered(503)), "the first may count");
        assert_eq!(plan.next(10 + limits::FORWARD_WAIT_MS, Some(B)), ForwardStep::GiveUp { may_count: true });
    }

    #[test]
    fn a_node_that_follows_sends_on_once() {
        let mut plan = plan();
        assert_eq!(plan.next(0, Some(A)), goes_to(A));
        assert!(!plan.tried(0, TryResult::SentOn(Some(B.to_owned()))));
        assert_eq!(plan.next(0, Some(A)), goes_to(B));
        assert!(!plan.tried(0, TryResult::SentOn(Some(A.to_owned()))));
        assert!(matches!(plan.next(0, Some(A)), ForwardStep::Wait(_)), "they name each other");
        assert!(!plan.may_count());
        assert_eq!(plan.next(PAUSE_MS * 2, Some(A)), goes_to(A));
        assert!(plan.tried(PAUSE_MS * 2, answered(429)), "nothing was sent before");
    }

    #[test]
    fn a_refusal_settles_only_a_write_that_was_not_sent_before() {
        let settles = |status, may_count| ForwardPlan { may_count, ..plan() }.is_settled_by(status);
        for status in [200, 202, 409, 422, 504] {
            assert!(settles(status, false) && settles(status, true), "{status}");
        }
        // 400 too: `ack-unavailable` tells of the replicas there are now, not of what was written before.
        for status in [400, 412, 413, 429, 503, 507] {
            assert!(settles(status, false) && !settles(status, true), "{status}");
        }
        assert!(!settles(500, false) && !settles(500, true), "nobody knows");
    }

    #[test]
    fn the_first_pause_is_short_whatever_the_leader_asks_for_and_later_ones_are_bounded() {
        let pause = |refusals, asked| ForwardPlan { refusals, ..plan() }.pause_behind(asked);
        assert_eq!([None, Some(1_000), Some(60_000)].map(|asked| pause(1, asked)), [PAUSE_MS; 3]);
        assert_eq!([None, Some(1_000), Some(60_000)].map(|asked| pause(2, asked)), [PAUSE_MS, 1_000, LONGEST_PAUSE_MS]);
    }
}
