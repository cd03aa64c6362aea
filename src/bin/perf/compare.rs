//! Every word of every replica against the leader's.
//!
//! The leader's words are held in memory; each replica's are compared as they arrive, and only differences are kept.
//! The counts of `/sync` are of one position only if nothing is written meanwhile, so each answer lies between two
//! positions: the one it names, and the one its node is at afterwards. If they are all the same, differences are real.

use crate::output::{PerfError, tell};
use futures::future::try_join_all;
use memdb::{
    base::{position::PositionToken, retry::RetryBackoff},
    client::{Client, ClientError, UnreachableCause},
};
use std::{collections::HashMap, fmt, future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Number of times that words are compared before differences are reported, since somebody else's writes may have made
/// them.
const ATTEMPTS: usize = 5;
/// A pause before words are compared again, so that short bursts of writes are over.
const PAUSE: Duration = Duration::from_millis(200);
/// Differences of one replica that are kept to be listed; the rest are counted.
const MOST_LISTED: usize = 100_000;

/// The nodes under test.
pub struct ComparedNodes {
    pub leader: Client,
    pub replicas: Vec<Client>,
}

/// A word that a replica counts otherwise than the leader; an absent word counts 0.
#[derive(Debug, PartialEq, Eq)]
pub struct CountDifference {
    pub word: String,
    pub replica: String,
    pub leader_count: i64,
    pub replica_count: i64,
}

/// The result of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// The leader's position.
    pub position: PositionToken,
    /// Words compared, each once for each replica.
    pub compared: u64,
    /// Differences.
    pub found: u64,
    /// Those that are listed: replica after replica, in the order of words.
    pub differences: Vec<CountDifference>,
    /// Replicas that did not come to the leader's position, in words.
    pub lagging: Vec<String>,
    /// Positions that differ although nobody lags, in words.
    disturbance: Option<String>,
}

impl Comparison {
    /// Returns whether all replicas have all of the leader's writes, and nothing else.
    pub fn is_consistent(&self) -> bool {
        self.found == 0 && self.lagging.is_empty()
    }
}

impl ComparedNodes {
    /// Waits until all serve. One that is not there is told at once.
    pub async fn ready(&self, deadline: Instant) -> Result<(), PerfError> {
        let nodes = std::iter::once(&self.leader).chain(&self.replicas);
        try_join_all(nodes.enumerate().map(|(at, node)| async move {
            let asked = || async {
                match node.ready().await {
                    Err(error @ ClientError::NothingThere { .. }) => Ok(Err(error)),
                    other => other.map(Ok),
                }
            };
            patiently(deadline, asked).await.and_then(|there| there).map_err(|error| match error {
                ClientError::NothingThere { base, cause: UnreachableCause::Refused, .. } if at > 0 => PerfError::Failed(format!(
                    "nothing answers at {base} (connection refused): is the replica running? start one with `memdb replica --leader {}`",
                    self.leader.base()
                )),
                error => error.into(),
            })
        }))
        .await
        .map(drop)
    }
}

/// Compares once every replica has applied `written` and all that the leader had when it was asked, or `deadline` is
/// over: then what it has is compared.
pub async fn compare(
    nodes: &ComparedNodes,
    written: Option<PositionToken>,
    deadline: Instant,
) -> Result<Comparison, PerfError> {
    let mut attempt = 1;
    loop {
        let found = compare_once(nodes, written, deadline).await?;
        let Some(disturbance) = &found.disturbance else { return Ok(found) };
        let news =
            format!("perf: positions differ ({disturbance}): somebody else writes, or a replica has gone its own way");
        if attempt == ATTEMPTS {
            tell(&format!("{news}; differences may be due to that"));
            return Ok(found);
        }
        tell(&format!("{news}; comparing again"));
        attempt += 1;
        sleep(PAUSE).await;
    }
}

async fn compare_once(
    nodes: &ComparedNodes,
    written: Option<PositionToken>,
    deadline: Instant,
) -> Result<Comparison, PerfError> {
    let leader = patiently(deadline, || LeaderWords::read(&nodes.leader, written)).await?;
    let reads = nodes.replicas.iter().map(|replica| ReplicaWords::read(replica, &leader, deadline));
    let replicas = try_join_all(reads).await?;
    let mut off: Vec<_> = (leader.begin != leader.end)
        .then(|| format!("the leader went from {} to {}", leader.begin, leader.end))
        .into_iter()
        .collect();
    let mut all = Comparison {
        position: leader.begin,
        compared: 0,
        found: 0,
        differences: Vec::new(),
        lagging: Vec::new(),
        disturbance: None,
    };
    for (node, replica) in nodes.replicas.iter().zip(replicas) {
        // A sequence never goes back and means one state of one history: the epoch adds nothing here.
        let place = |token: PositionToken| (token.database, token.position.sequence);
        let at = place(leader.begin);
        if let Some(reason) = replica.lagging {
            all.lagging.push(reason);
        } else if (place(replica.begin), place(replica.end)) != (at, at) {
            off.push(format!(
                "the leader was at {}, {} from {} to {}",
                leader.begin,
                node.base(),
                replica.begin,
                replica.end
            ));
        }
        all.compared += replica.against.compared;
        all.found += replica.against.found;
        all.differences.extend(replica.against.differences.into_iter().map(|(word, leader_count, replica_count)| {
            CountDifference { word, replica: node.base(), leader_count, replica_count }
        }));
    }
    all.disturbance = (!off.is_empty()).then(|| off.join("; "));
    Ok(all)
}

/// The leader's words.
struct LeaderWords {
    words: Arc<NumberedWords>,
    begin: PositionToken,
    end: PositionToken,
}

impl LeaderWords {
    async fn read(leader: &Client, written: Option<PositionToken>) -> Result<Self, ClientError> {
        let answer = leader.sync(written).await?;
        let begin = answer.position();
        let words = answer.fold(NumberedWords::default(), NumberedWords::insert).await?;
        Ok(LeaderWords { words: Arc::new(words), begin, end: leader.position().await? })
    }
}

/// A replica's words, compared with the leader's.
struct ReplicaWords {
    against: StreamComparison,
    begin: PositionToken,
    end: PositionToken,
    lagging: Option<String>,
}

impl ReplicaWords {
    /// Reads it at the leader's position; if it does not come there until `deadline`, where it is.
    async fn read(replica: &Client, leader: &LeaderWords, deadline: Instant) -> Result<Self, ClientError> {
        let begun = Instant::now();
        match patiently(deadline, || Self::read_at(replica, &leader.words, Some(leader.begin))).await {
            Err(ClientError::Refused { status: status @ (410 | 503), .. }) => {
                let mut found = Self::read_at(replica, &leader.words, None).await?;
                let (base, wanted, at) = (replica.base(), leader.begin, found.begin);
                found.lagging = Some(match status {
                    410 => format!("{base} is at {at}, on a history without the leader's {wanted}"),
                    _ => format!("{base} is at {at}, {} s were not enough for {wanted}", begun.elapsed().as_secs()),
                });
                Ok(found)
            }
            other => other,
        }
    }

    async fn read_at(
        replica: &Client,
        words: &Arc<NumberedWords>,
        at_least: Option<PositionToken>,
    ) -> Result<Self, ClientError> {
        let answer = replica.sync(at_least).await?;
        let begin = answer.position();
        let against = answer.fold(StreamComparison::new(Arc::clone(words)), StreamComparison::take).await?;
        Ok(ReplicaWords { against: against.finished(), begin, end: replica.position().await?, lagging: None })
    }
}

/// Words with their counts, each with a number of its own.
#[derive(Debug, Default)]
struct NumberedWords(HashMap<String, (usize, i64)>);

impl NumberedWords {
    fn insert(&mut self, word: String, count: i64) {
        let number = self.0.len();
        self.0.entry(word).or_insert((number, count));
    }
}

/// A replica's words as they arrive, against the leader's.
struct StreamComparison {
    leader: Arc<NumberedWords>,
    /// A bit for each of the leader's words: whether the replica has it.
    seen: Vec<u64>,
    compared: u64,
    found: u64,
    /// Word, the leader's count, the replica's.
    differences: Vec<(String, i64, i64)>,
}

impl StreamComparison {
    fn new(leader: Arc<NumberedWords>) -> Self {
        let seen = vec![0; leader.0.len().div_ceil(64)];
        StreamComparison { leader, seen, compared: 0, found: 0, differences: Vec::new() }
    }

    fn take(&mut self, word: String, count: i64) {
        let known = self.leader.0.get(&word).copied();
        if let Some((number, _)) = known {
            self.seen[number / 64] |= 1 << (number % 64);
        }
        self.hold(word, known.map_or(0, |(_, count)| count), count);
    }

    fn hold(&mut self, word: String, leader: i64, replica: i64) {
        self.compared += 1;
        if leader != replica {
            self.found += 1;
            if self.differences.len() < MOST_LISTED {
                self.differences.push((word, leader, replica));
            }
        }
    }

    /// The replica has no more words: those of the leader's that did not come are missing.
    fn finished(mut self) -> Self {
        let leader = Arc::clone(&self.leader);
        for (word, &(number, count)) in &leader.0 {
            if self.seen[number / 64] & (1 << (number % 64)) == 0 {
                self.hold(word.clone(), count, 0);
            }
        }
        self.differences.sort_unstable();
        self
    }
}

impl fmt::Display for CountDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CountDifference { word, replica, leader_count, replica_count } = self;
        f.write_str("Inconsistency found for word ")?;
        for letter in word.chars() {
            // What would steer the terminal is spelled out.
            if letter.is_control() { write!(f, "{}", letter.escape_default())? } else { write!(f, "{letter}")? }
        }
        write!(f, ": leader count = {leader_count}, replica {replica} count = {replica_count}")
    }
}

/// Asks until the answer is good, or bad for good, or `deadline` is over; at least once.
async fn patiently<T, F>(deadline: Instant, ask: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut backoff = RetryBackoff::new(1);
    loop {
        match ask().await {
            Err(error) if error.is_passing() && Instant::now() < deadline => {
                let wait = backoff.wait(error.retry_after());
                sleep(wait.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn against(leader: &[(&str, i64)], replica: &[(&str, i64)]) -> StreamComparison {
        let mut words = NumberedWords::default();
        leader.iter().for_each(|(word, count)| words.insert((*word).to_owned(), *count));
        let mut against = StreamComparison::new(Arc::new(words));
        replica.iter().for_each(|(word, count)| against.take((*word).to_owned(), *count));
        against.finished()
    }

    #[test]
    fn counts_that_differ_are_missing_or_are_too_many_are_found_in_the_order_of_words() {
        let found = against(&[("a", 1), ("b", 2), ("c", -3)], &[("z", 9), ("c", 3), ("a", 1)]);
        assert_eq!((found.compared, found.found), (4, 3));
        let expected =
            [("b", 2, 0), ("c", -3, 3), ("z", 0, 9)].map(|(word, leader, replica)| (word.to_owned(), leader, replica));
        assert_eq!(found.differences, expected);
    }

    #[test]
    fn every_word_counts_also_beyond_one_row_of_bits() {
        let many: Vec<_> = (0..200).map(|number| format!("w{number}")).collect();
        let all: Vec<_> = many.iter().map(|word| (word.as_str(), 1)).collect();
        assert_eq!(against(&all, &all).found, 0);
        let found = against(&all, &all[1..]);
        assert_eq!((found.compared, found.found), (200, 1));
        assert_eq!(against(&all, &[]).found, 200);
        assert_eq!(against(&[], &[]).compared, 0);
    }

    #[test]
    fn differences_beyond_the_bound_are_counted_only() {
        let many: Vec<_> = (0..MOST_LISTED + 5).map(|number| number.to_string()).collect();
        let all: Vec<_> = many.iter().map(|word| (word.as_str(), 1)).collect();
        let found = against(&all, &[]);
        assert_eq!((found.found, found.differences.len()), (MOST_LISTED as u64 + 5, MOST_LISTED));
    }

    #[test]
    fn a_difference_is_told_as_the_contract_says() {
        let mut difference = CountDifference {
            word: "load".to_owned(),
            replica: "http://localhost:8082".to_owned(),
            leader_count: 2150,
            replica_count: 2105,
        };
        assert_eq!(
            difference.to_string(),
            "Inconsistency found for word load: leader count = 2150, replica http://localhost:8082 count = 2105"
        );
        difference.word = "a\u{1b}[2J".to_owned();
        assert!(difference.to_string().contains("word a\\u{1b}[2J:"), "{difference}");
    }
}
