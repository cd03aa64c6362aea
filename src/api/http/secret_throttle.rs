//! Wrong secrets, tokens and passwords cost time, address by address and user by user, so that nobody guesses thousands
//! a second.
//!
//! A right secret from an address that has shown no wrong one of late is let in at once. From one that has, a few are
//! looked at a time: a wrong one keeps its turn for a while, longer with each, a right one gives it back at once. A
//! connection that has shown the right one waits for no turn, so that a guesser at the same address (behind a proxy,
//! say) is in no node's way.

use super::headers;
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

    /// The address, or the /64 that it is of.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// The source of requests whose address is not known.
    pub(super) fn unknown() -> Self {
        Self::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Usage::default())
    }
}

/// What wrong secrets and passwords are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum GuessSource {
    /// A client's address.
    Address(IpAddr),
    /// The user that is guessed at: from wherever, the next wrong password takes longer.
    User(Box<str>),
}

/// An address or a user of which there was a wrong secret of late.
#[derive(Clone)]
struct WrongSecretSource {
    turns: Arc<Semaphore>,
    failures: u32,
    last: Instant,
}

/// Wrong secrets and passwords, counted per client address and per user, so that guessing takes time.
#[derive(Default)]
pub(super) struct GuessThrottle {
    guessers: Mutex<HashMap<GuessSource, WrongSecretSource>>,
    untold: Mutex<(u64, Option<Instant>)>,
}

impl GuessThrottle {
    /// Lets a node in, or tells what is wrong once that has taken its time.
    pub(super) async fn admit(&self, secret: &Secret, shown: &str, client: &ConnectionPeer) -> Result<(), ApiError> {
        if client.is_node.load(Ordering::Relaxed) && secret.is(shown.as_bytes()) {
            return Ok(());
        }
        let turns = self.known_turns(client);
        let check = std::future::ready(secret.is(shown.as_bytes()).then_some(()));
        if self.guess(client, None, turns, !shown.is_empty(), check).await?.is_some() {
            client.is_node.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(ApiError::new(ErrorKind::ClusterSecret, "give both nodes the same --cluster-secret-file"))
    }

    /// Gives whose token was shown; none once a wrong one has taken its time.
    pub(super) async fn token<T>(&self, client: &ConnectionPeer, found: Option<T>) -> Result<Option<T>, ApiError> {
        // A right one has been found by now, at once: there is nothing that it could wait for.
        match found {
            Some(found) => Ok(Some(found)),
            None => self.guess(client, None, self.known_turns(client), true, std::future::ready(None)).await,
        }
    }

    /// Gives whose password was shown; none once a wrong one has taken its time. Each look is slow, so an address has
    /// some at a time from its first on. How long other addresses wait for them is up to the `check`.
    pub(super) async fn password<T>(
        &self,
        client: &ConnectionPeer,
        user: &str,
        check: impl Future<Output = Option<T>>,
    ) -> Result<Option<T>, ApiError> {
        let turns = self.source(GuessSource::Address(client.address), |guesser| Arc::clone(&guesser.turns));
        self.guess(client, Some(user), Some(turns), true, check).await
    }

    /// Returns whether an address has shown a wrong secret or password of late.
    pub(super) fn has_failed(&self, client: &ConnectionPeer) -> bool {
        let guessers = self.guessers.lock();
        let guesser = guessers.get(&GuessSource::Address(client.address));
        guesser.is_some_and(|guesser| {
            guesser.failures > 0 && guesser.last.elapsed() < Duration::from_millis(GUESS_MEMORY_MS)
        })
    }

    fn known_turns(&self, client: &ConnectionPeer) -> Option<Arc<Semaphore>> {
        let source = GuessSource::Address(client.address);
        self.guessers.lock().get(&source).map(|guesser| Arc::clone(&guesser.turns))
    }

    /// Looks at a secret when it is its turn. A wrong one keeps the turn for a while, if it takes time.
    async fn guess<T>(
        &self,
        client: &ConnectionPeer,
        user: Option<&str>,
        turns: Option<Arc<Semaphore>>,
        takes_time: bool,
        check: impl Future<Output = Option<T>>,
    ) -> Result<Option<T>, ApiError> {
        let patience = Duration::from_millis(GUESS_PATIENCE_MS);
        let _turn = match turns {
            None => None,
            Some(turns) => Some(timeout(patience, turns.acquire_owned()).await.map_err(|_| {
                let detail = "too many wrong secrets or passwords come from this address; come again";
                ApiError::new(ErrorKind::TooManyFromAddress, detail)
            })?),
        };
        if let Some(found) = check.await {
            return Ok(Some(found));
        }
        self.tell(client.address);
        if takes_time {
            let of_address = self.failed(GuessSource::Address(client.address));
            let of_user = user.map(|user| self.failed(GuessSource::User(headers::shortened(user).into())));
            sleep(of_user.map_or(of_address, |of_user| of_user.max(of_address))).await;
        }
        Ok(None)
    }

    /// Notes a wrong secret; gives how long it takes.
    fn failed(&self, source: GuessSource) -> Duration {
        let now = Instant::now();
        self.source(source, |guesser| {
            if now - guesser.last >= Duration::from_millis(GUESS_MEMORY_MS) {
                guesser.failures = 0;
            }
            guesser.last = now;
            let delay = (GUESS_DELAY_MS << guesser.failures.min(16)).min(GUESS_DELAY_MAX_MS);
            guesser.failures = guesser.failures.saturating_add(1);
            Duration::from_millis(delay)
        })
    }

    /// Looks at a source, which is known from now on: the one that was silent longest makes room for it.
    fn source<T>(&self, source: GuessSource, look: impl FnOnce(&mut WrongSecretSource) -> T) -> T {
        let now = Instant::now();
        let mut guessers = self.guessers.lock();
        if guessers.len() >= MAX_GUESSERS && !guessers.contains_key(&source) {
            guessers.retain(|_, guesser| now - guesser.last < Duration::from_millis(GUESS_MEMORY_MS));
            if guessers.len() >= MAX_GUESSERS
                && let Some(oldest) =
                    guessers.iter().min_by_key(|(_, guesser)| guesser.last).map(|(oldest, _)| oldest.clone())
            {
                guessers.remove(&oldest);
            }
        }
        look(guessers.entry(source).or_insert_with(|| WrongSecretSource {
            turns: Arc::new(Semaphore::new(GUESSES_AT_ONCE)),
            failures: 0,
            last: now,
        }))
    }

    fn tell(&self, address: IpAddr) {
        let mut untold = self.untold.lock();
        let now = Instant::now();
        untold.0 += 1;
        if untold.1.is_none_or(|last| now - last >= TOLD_EVERY) {
            let count = std::mem::take(&mut untold.0);
            untold.1 = Some(now);
            tracing::warn!(%address, count, "wrong secrets or passwords: this address has shown the last of so many, or none");
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
        let (guesses, secret, begun) = (GuessThrottle::default(), secret(), Instant::now());
        for last in 0..100_u16 {
            let address = format!("2001:db8:1:2::{last:x}").parse().expect("an address");
            assert!(guesses.admit(&secret, "wrong", &ConnectionPeer::new(address, Usage::default())).await.is_err());
        }
        assert!(begun.elapsed() > Duration::from_secs(80), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_secrets_take_longer_and_longer_and_right_ones_from_elsewhere_no_time() {
        let (guesses, secret, begun) = (GuessThrottle::default(), secret(), Instant::now());
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
        let (guesses, secret, node) = (GuessThrottle::default(), secret(), at(1));
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
    async fn wrong_passwords_of_a_user_from_many_addresses_take_long_and_the_right_one_no_time() {
        let guesses = GuessThrottle::default();
        for last in 0..20 {
            let begun = Instant::now();
            let wrong = guesses.password(&at(last), "ann", std::future::ready(None::<()>)).await;
            assert!(matches!(wrong, Ok(None)));
            let least = GUESS_DELAY_MAX_MS.min(GUESS_DELAY_MS << last);
            assert_eq!(begun.elapsed(), Duration::from_millis(least), "guess {last}");
        }
        let begun = Instant::now();
        let right = guesses.password(&at(99), "ann", std::future::ready(Some(()))).await;
        assert!(matches!(right, Ok(Some(()))));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_some_passwords_looked_at_a_time_from_the_first_on() {
        let guesses = GuessThrottle::default();
        let client = at(1);
        let looked_at = std::cell::Cell::new(0);
        let flood = (0..1_000).map(|_| {
            let look = async {
                looked_at.set(looked_at.get() + 1);
                sleep(Duration::from_millis(20)).await;
                None::<()>
            };
            guesses.password(&client, "ann", look)
        });
        let told = join_all(flood).await;
        assert!(looked_at.get() <= 6 * GUESSES_AT_ONCE, "{}", looked_at.get());
        assert!(told.iter().filter(|told| told.is_err()).count() > 900, "the others are told to come again");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_addresses_guess_the_table_is_bounded() {
        let guesses = GuessThrottle::default();
        for number in 0..2 * u32::try_from(MAX_GUESSERS).expect("few") {
            guesses.failed(GuessSource::Address(IpAddr::V4(Ipv4Addr::from_bits(number))));
        }
        assert_eq!(guesses.guessers.lock().len(), MAX_GUESSERS);
    }
}
