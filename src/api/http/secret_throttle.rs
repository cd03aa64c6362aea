//! Wrong cluster secrets cost time, address by address, so that nobody guesses thousands a second.
//!
//! A right secret from an address that has shown no wrong one of late is let in at once. From one that has, a few are
//! looked at a time: a wrong one keeps its turn for a while, longer with each, a right one gives it back at once. A
//! connection that has shown the right one waits for no turn, so that a guesser at the same address (behind a proxy,
//! say) is in no node's way.

use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits::{
        GUESS_DELAY_MAX_MS, GUESS_DELAY_MS, GUESS_MEMORY_MS, GUESS_PATIENCE_MS, GUESSES_AT_ONCE, MAX_GUESSERS,
    },
    base::secret::Secret,
    net::address_limits::{Usage, client_of},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

/// The interval at which wrong secrets are logged.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The client of a connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectionPeer {
    /// The address, or the /64 that it is of.
    address: IpAddr,
    /// True if this connection has shown the cluster's secret.
    is_node: Arc<AtomicBool>,
    pub(super) usage: Usage,
}

impl ConnectionPeer {
    pub(super) fn new(address: IpAddr, usage: Usage) -> Self {
        Self { address: client_of(address), is_node: Arc::default(), usage }
    }

    /// The source of requests whose address is not known.
    pub(super) fn unknown() -> Self {
        Self::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Usage::default())
    }
}

/// An address that has shown a wrong secret of late.
#[derive(Clone)]
struct WrongSecretSource {
    turns: Arc<Semaphore>,
    failures: u32,
    last: Instant,
}

/// Wrong secrets, counted per client address, so that guessing takes time.
#[derive(Default)]
pub(super) struct SecretThrottle {
    guessers: Mutex<HashMap<IpAddr, WrongSecretSource>>,
    untold: Mutex<(u64, Option<Instant>)>,
}

impl SecretThrottle {
    /// Lets a node in, or tells what is wrong once that has taken its time.
    pub(super) async fn admit(&self, secret: &Secret, shown: &str, client: &ConnectionPeer) -> Result<(), ApiError> {
        if client.is_node.load(Ordering::Relaxed) && secret.is(shown.as_bytes()) {
            return Ok(());
        }
        let turns = self.guessers.lock().get(&client.address).map(|guesser| Arc::clone(&guesser.turns));
        let patience = Duration::from_millis(GUESS_PATIENCE_MS);
        let _turn = match turns {
            None => None,
            Some(turns) => Some(timeout(patience, turns.acquire_owned()).await.map_err(|_| {
                let detail = "too many wrong cluster secrets come from this address; come again";
                ApiError::new(ErrorKind::TooManyFromAddress, detail)
            })?),
        };
        if secret.is(shown.as_bytes()) {
            client.is_node.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.tell(client.address);
        if !shown.is_empty() {
            sleep(self.failed(client.address)).await;
        }
        Err(ApiError::new(ErrorKind::ClusterSecret, "give both nodes the same --cluster-secret-file"))
    }

    /// Notes a wrong secret; gives how long it takes.
    fn failed(&self, address: IpAddr) -> Duration {
        let now = Instant::now();
        let mut guessers = self.guessers.lock();
        if guessers.len() >= MAX_GUESSERS && !guessers.contains_key(&address) {
            guessers.retain(|_, guesser| now - guesser.last < Duration::from_millis(GUESS_MEMORY_MS));
            if guessers.len() >= MAX_GUESSERS
                && let Some(oldest) = guessers.iter().min_by_key(|(_, guesser)| guesser.last).map(|(oldest, _)| *oldest)
            {
                guessers.remove(&oldest);
            }
        }
        let guesser = guessers.entry(address).or_insert_with(|| WrongSecretSource {
            turns: Arc::new(Semaphore::new(GUESSES_AT_ONCE)),
            failures: 0,
            last: now,
        });
        if now - guesser.last >= Duration::from_millis(GUESS_MEMORY_MS) {
            guesser.failures = 0;
        }
        guesser.last = now;
        let delay = (GUESS_DELAY_MS << guesser.failures.min(16)).min(GUESS_DELAY_MAX_MS);
        guesser.failures = guesser.failures.saturating_add(1);
        Duration::from_millis(delay)
    }

    fn tell(&self, address: IpAddr) {
        let mut untold = self.untold.lock();
        let now = Instant::now();
        untold.0 += 1;
        if untold.1.is_none_or(|last| now - last >= TOLD_EVERY) {
            let count = std::mem::take(&mut untold.0);
            untold.1 = Some(now);
            tracing::warn!(%address, count, "wrong cluster secrets: this address has shown the last of so many, or none");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;

    fn secret() -> Secret {
        "0123456789abcdef".parse().expect("a secret")
    }

    fn at(last: u8) -> ConnectionPeer {
        ConnectionPeer::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), Usage::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_addresses_of_an_ipv6_subscriber_guess_as_one() {
        let (guesses, secret, begun) = (SecretThrottle::default(), secret(), Instant::now());
        for last in 0..100_u16 {
            let address = format!("2001:db8:1:2::{last:x}").parse().expect("an address");
            assert!(guesses.admit(&secret, "wrong", &ConnectionPeer::new(address, Usage::default())).await.is_err());
        }
        assert!(begun.elapsed() > Duration::from_secs(80), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_secrets_take_longer_and_longer_and_right_ones_from_elsewhere_no_time() {
        let (guesses, secret, begun) = (SecretThrottle::default(), secret(), Instant::now());
        for _ in 0..100 {
            assert!(guesses.admit(&secret, "wrong", &at(1)).await.is_err());
        }
        assert!(begun.elapsed() > Duration::from_secs(80), "{:?}", begun.elapsed());
        let begun = Instant::now();
        assert!(guesses.admit(&secret, "0123456789abcdef", &at(2)).await.is_ok());
        assert!(guesses.admit(&secret, "0123456789abcdef", &at(1)).await.is_ok());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_guesses_is_few_a_second_and_keeps_no_node_that_was_let_in_away() {
        let (guesses, secret, node) = (SecretThrottle::default(), secret(), at(1));
        assert!(guesses.admit(&secret, "0123456789abcdef", &node).await.is_ok());
        for _ in 0..10 {
            assert!(guesses.admit(&secret, "wrong", &at(1)).await.is_err());
        }
        let begun = Instant::now();
        let flood = (0..1_000).map(|_| async {
            let told = guesses.admit(&secret, "wrong", &at(1)).await.expect_err("wrong");
            told.status().as_u16()
        });
        let nodes = async {
            assert!(guesses.admit(&secret, "0123456789abcdef", &node).await.is_ok());
            begun.elapsed()
        };
        let (told, took) = tokio::join!(join_all(flood), nodes);
        assert_eq!(took, Duration::ZERO);
        let looked_at = told.iter().filter(|&&status| status == 403).count();
        assert!(looked_at <= 5 * GUESSES_AT_ONCE, "{looked_at} of 1000 within {:?}", begun.elapsed());
        assert!(guesses.admit(&secret, "0123456789abcdef", &at(1)).await.is_ok(), "and soon a new one of that address");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_addresses_guess_the_table_is_bounded() {
        let guesses = SecretThrottle::default();
        for number in 0..2 * u32::try_from(MAX_GUESSERS).expect("few") {
            guesses.failed(IpAddr::V4(Ipv4Addr::from_bits(number)));
        }
        assert_eq!(guesses.guessers.lock().len(), MAX_GUESSERS);
    }
}
