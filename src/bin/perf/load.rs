//! Many requests of one kind at once, each timed.

use indicatif::ProgressBar;
use memdb::{base::position::PositionToken, client::ClientError};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// Different reasons of failures that are told; the rest are counted.
const REASONS_TOLD: usize = 5;

/// The outcome of the requests of one kind.
#[derive(Debug, Default)]
pub struct RequestSample {
    /// The times of those that succeeded, ascending.
    pub times: Vec<Duration>,
    /// Number of requests that failed.
    pub failed: u64,
    /// The reasons of failures, with the number of each.
    reasons: BTreeMap<String, u64>,
    /// The largest position an answer named.
    pub position: Option<PositionToken>,
}

/// Makes `total` requests, up to `concurrency` at once: `ask` makes the one of this number and says what position was
/// answered. None is repeated.
pub async fn requests<F>(
    total: u64,
    concurrency: usize,
    bar: ProgressBar,
    ask: impl Fn(u64) -> F + Send + Sync + 'static,
) -> RequestSample
where
    F: Future<Output = Result<Option<PositionToken>, ClientError>> + Send + 'static,
{
    let (next, ask) = (Arc::new(AtomicU64::new(0)), Arc::new(ask));
    let mut workers = JoinSet::new();
    for _ in 0..total.min(concurrency as u64) {
        let (next, ask, bar) = (Arc::clone(&next), Arc::clone(&ask), bar.clone());
        workers.spawn(async move {
            let mut sample = RequestSample::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return sample;
                }
                let begun = Instant::now();
                let answer = ask(number).await;
                sample.add(begun.elapsed(), answer);
                bar.inc(1);
            }
        });
    }
    let mut all = RequestSample::default();
    while let Some(sample) = workers.join_next().await {
        all.merge(sample.expect("a worker does not panic"));
    }
    all.times.sort_unstable();
    all
}

impl RequestSample {
    fn add(&mut self, took: Duration, answer: Result<Option<PositionToken>, ClientError>) {
        match answer {
            Ok(position) => {
                self.times.push(took);
                self.note(position);
            }
            Err(error) => {
                self.failed += 1;
                *self.reasons.entry(error.to_string()).or_default() += 1;
            }
        }
    }

    fn merge(&mut self, other: RequestSample) {
        self.times.extend(other.times);
        self.failed += other.failed;
        self.note(other.position);
        for (reason, times) in other.reasons {
            *self.reasons.entry(reason).or_default() += times;
        }
    }

    fn note(&mut self, told: Option<PositionToken>) {
        self.position = told.map(|told| PositionToken::later(self.position, told)).or(self.position);
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.times.len() as u64 + self.failed
    }

    /// The mean time of a request; zero if none succeeded.
    pub fn average(&self) -> Duration {
        match u32::try_from(self.times.len()) {
            Ok(count) if count > 0 => self.times.iter().sum::<Duration>() / count,
            _ => Duration::ZERO,
        }
    }

    /// The time within which `percent` of the requests succeeded (nearest rank); zero if none did. 0 is the fastest.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.times.len() * percent).div_ceil(100).max(1);
        self.times.get(rank - 1).copied().unwrap_or_default()
    }

    /// Describes the failures, the most frequent first, if there are any.
    pub fn failures(&self, what: &str) -> Option<String> {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        let mut told: Vec<_> =
            reasons.iter().take(REASONS_TOLD).map(|(reason, times)| format!("{times} × {reason}")).collect();
        if reasons.len() > REASONS_TOLD {
            told.push("and other reasons".to_owned());
        }
        (self.failed > 0).then(|| format!("{} of {} {what} failed: {}", self.failed, self.total(), told.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memdb::base::position::Position;

    fn sample(ms: impl IntoIterator<Item = u64>) -> RequestSample {
        RequestSample { times: ms.into_iter().map(Duration::from_millis).collect(), ..RequestSample::default() }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let ms = |sample: &RequestSample, percent| sample.percentile(percent).as_millis();
        let hundred = sample(1..=100);
        assert_eq!([0, 50, 99, 100].map(|percent| ms(&hundred, percent)), [1, 50, 99, 100]);
        let three = sample([10, 20, 90]);
        assert_eq!([0, 50, 99, 100].map(|percent| ms(&three, percent)), [10, 20, 90, 90]);
        assert_eq!(three.average().as_millis(), 40);
        let none = sample([]);
        assert_eq!((ms(&none, 0), ms(&none, 99), none.average()), (0, 0, Duration::ZERO));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn every_number_is_asked_for_once_and_no_more_at_once_than_may_be() {
        let (under_way, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (inside, highest) = (Arc::clone(&under_way), Arc::clone(&most));
        let ask = move |number: u64| {
            let (inside, highest) = (Arc::clone(&inside), Arc::clone(&highest));
            async move {
                let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                highest.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                match number % 10 {
                    9 => Err(ClientError::Strange { base: "x".to_owned(), reason: format!("{}", number % 20) }),
                    _ => Ok(Some(PositionToken::of(7, Position::new(1, number)))),
                }
            }
        };
        let sample = requests(100, 7, ProgressBar::hidden(), ask).await;
        assert_eq!((sample.times.len(), sample.failed, sample.total()), (90, 10, 100));
        assert_eq!(
            (sample.position, most.load(Ordering::SeqCst)),
            (Some(PositionToken::of(7, Position::new(1, 98))), 7)
        );
        assert_eq!(
            sample.failures("posts").expect("some failed"),
            "10 of 100 posts failed: 5 × x does not answer like memdb: 19; 5 × x does not answer like memdb: 9"
        );
    }
}
