//! Counts of the reads in one turn.

use super::super::{route::RouteLabel, state::AppState};
use crate::base::metrics::MethodLabel;
use std::time::Duration;
use tokio::time::Instant;

/// The routes that read one entry.
pub(super) const ROUTES: [RouteLabel; 4] = [RouteLabel::Cache, RouteLabel::Post, RouteLabel::Posts, RouteLabel::Data];
/// The statuses of their answers here.
const STATUSES: [u16; 3] = [200, 304, 404];

/// Reads of one turn, by what they are counted under.
#[derive(Default)]
pub(super) struct ReadTally {
    pub(super) health: u64,
    pub(super) read: u64,
    pub(super) not_modified: u64,
    pub(super) entries: EntryTally,
}

/// Reads of entries of one turn, by route and status.
#[derive(Default)]
pub(super) struct EntryTally([[u64; STATUSES.len()]; ROUTES.len()]);

impl EntryTally {
    /// Counts one, by its places in [`ROUTES`] and [`STATUSES`].
    pub(super) fn add(&mut self, route: usize, status: usize) {
        self.0[route][status] += 1;
    }

    /// Counts what the last turn has read.
    pub(super) fn count(&self, state: &AppState, each: Duration) {
        let (mut hits, mut misses) = (0, 0);
        for (route, by_status) in ROUTES.iter().zip(self.0) {
            for (status, requests) in STATUSES.into_iter().zip(by_status).filter(|(_, requests)| *requests > 0) {
                state.service.metrics.answered(*route as usize, MethodLabel::Get, status, requests, each);
                state.request_log.answered_together(route.name(), MethodLabel::Get, status, (requests, each));
                *(if status == 404 { &mut misses } else { &mut hits }) += requests;
            }
        }
        if hits + misses > 0 {
            state.service.metrics.entries_read(hits, misses);
        }
    }
}

/// The times of answers that say how long they took. Of several in a row, one ends where the next begins: the clock is
/// read once for each.
#[derive(Default)]
pub(super) struct AnswerTimer(Option<(usize, Instant)>);

impl AnswerTimer {
    /// The begin of an answer that stands behind so many bytes of the turn.
    pub(super) fn begin(&self, answered_bytes: usize) -> Instant {
        match self.0 {
            Some((end, at)) if end == answered_bytes => at,
            _ => Instant::now(),
        }
    }

    /// Keeps the end of an answer, behind so many bytes of the turn.
    pub(super) fn end(&mut self, answered_bytes: usize, at: Instant) {
        self.0 = Some((answered_bytes, at));
    }
}
