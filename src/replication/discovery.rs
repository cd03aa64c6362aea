//! A follower's search for the leader: the node it announces itself to, and the next one to try. A state machine.
//!
//! The leader may have changed while the follower was away. It announces itself to the leader that it has heard of
//! last, and, where that one does not take the announcement, to all other nodes that it knows, in turn. A node that
//! follows somebody itself names its own leader.

use crate::base::limits;

/// Announcements that follow each other at once because each sends on to another. Nodes that follow each other would go
/// on for ever.
const MOST_HOPS: usize = 4;
/// Nodes that a follower remembers: those of the cluster, and some that it was sent on to.
const MOST_NODES: usize = 2 * limits::MAX_REPLICAS;

/// The result of an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnounceResult {
    /// A leader has taken it, and will send an append request.
    Taken,
    /// That node follows the one at this URL.
    SentOn(String),
    /// There was no answer, or another.
    Failed,
}

/// The nodes that may lead.
#[derive(Clone, Debug)]
pub struct LeaderDiscovery {
    /// The follower's own URL.
    own: String,
    /// The leader that was heard of last, or is named in the settings, then the other nodes that are known.
    urls: Vec<String>,
    /// The one that the next announcement goes to.
    at: usize,
    hops: usize,
}

impl LeaderDiscovery {
    /// For the follower at `own`, which knows these nodes: whoever is most likely to lead is first.
    pub fn new(own: String, known: impl IntoIterator<Item = String>) -> Self {
        let mut discovery = Self { own, urls: Vec::new(), at: 0, hops: 0 };
        for url in known {
            if discovery.may_lead(&url) && !discovery.urls.contains(&url) && discovery.urls.len() < MOST_NODES {
                discovery.urls.push(url);
            }
        }
        discovery
    }

    fn may_lead(&self, url: &str) -> bool {
        !url.is_empty() && url != self.own
    }

    /// The leader that was heard of last, or is named in the settings.
    pub fn leader(&self) -> Option<&str> {
        self.urls.first().map(String::as_str)
    }

    /// Gives the recipient of the next announcement.
    pub fn next(&self) -> Option<&str> {
        self.urls.get(self.at).map(String::as_str)
    }

    /// The node at `url` leads: it has said so itself.
    pub fn follow_hint(&mut self, url: String) {
        if self.may_lead(&url) {
            self.urls.retain(|known| *known != url);
            self.urls.insert(0, url);
            // The last ones go, since the leader is in front.
            self.urls.truncate(MOST_NODES);
            (self.at, self.hops) = (0, 0);
        }
    }

    /// Takes the result of the announcement to [`Self::next`]. Returns whether the next one is to go out at once.
    pub fn announced(&mut self, announced: AnnounceResult) -> bool {
        match announced {
            AnnounceResult::Taken => {
                self.hops = 0;
                false
            }
            AnnounceResult::SentOn(url)
                if self.may_lead(&url) && self.next() != Some(&url) && self.hops < MOST_HOPS =>
            {
                self.hops += 1;
                self.at = self.index_of(url);
                true
            }
            // In turn, also behind a node that named another: nodes that name each other in a circle must not keep the
            // follower there.
            AnnounceResult::SentOn(_) | AnnounceResult::Failed => {
                (self.at, self.hops) = ((self.at + 1) % self.urls.len().max(1), 0);
                false
            }
        }
    }

    /// Gives the index of a node among those that are known, adding it if need be.
    fn index_of(&mut self, url: String) -> usize {
        if let Some(at) = self.urls.iter().position(|known| *known == url) {
            return at;
        }
        self.urls.truncate(MOST_NODES - 1);
        self.urls.push(url);
        self.urls.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(known: &[&str]) -> LeaderDiscovery {
        LeaderDiscovery::new("me".to_owned(), known.iter().map(|url| (*url).to_owned()))
    }

    fn sent_on(url: &str) -> AnnounceResult {
        AnnounceResult::SentOn(url.to_owned())
    }

    #[test]
    fn a_follower_announces_itself_to_all_nodes_in_turn_until_one_takes_it() {
        let mut discovery = discovery(&["a", "me", "b", "a", ""]);
        assert_eq!((discovery.leader(), discovery.next()), (Some("a"), Some("a")));
        assert!(!discovery.announced(AnnounceResult::Failed));
        assert_eq!(discovery.next(), Some("b"));
        assert!(!discovery.announced(AnnounceResult::Taken));
        assert_eq!(discovery.next(), Some("b"), "it leads");
        discovery.announced(AnnounceResult::Failed);
        assert_eq!(discovery.next(), Some("a"));
        discovery.follow_hint("c".to_owned());
        assert_eq!((discovery.leader(), discovery.next()), (Some("c"), Some("c")));
    }

    #[test]
    fn a_follower_of_a_node_that_follows_is_sent_on_at_once() {
        let mut discovery = discovery(&["a"]);
        assert!(discovery.announced(sent_on("b")));
        assert_eq!(discovery.next(), Some("b"));
        assert!(discovery.announced(sent_on("c")) && discovery.next() == Some("c"));
        assert!(!discovery.announced(AnnounceResult::Taken));
        assert_eq!((discovery.leader(), discovery.next()), (Some("a"), Some("c")), "until it says that it leads");
    }

    #[test]
    fn nodes_that_follow_each_other_or_the_asker_do_not_keep_it_busy() {
        let mut discovery = discovery(&["a", "b"]);
        let mut at_once = 0;
        while discovery.announced(sent_on(if discovery.next() == Some("a") { "b" } else { "a" })) {
            at_once += 1;
        }
        assert_eq!(at_once, MOST_HOPS);
        assert!(!discovery.announced(sent_on("me")), "it waits for the asker");
        let here = discovery.next().expect("a node").to_owned();
        assert!(!discovery.announced(sent_on(&here)), "it follows itself");
    }

    #[test]
    fn a_node_that_names_ever_more_others_fills_no_memory() {
        let mut discovery = discovery(&["a"]);
        for number in 0..10 * MOST_NODES {
            discovery.announced(sent_on(&format!("node {number}")));
        }
        assert_eq!((discovery.urls.len(), discovery.leader()), (MOST_NODES, Some("a")));
        assert!(LeaderDiscovery::new(String::new(), []).next().is_none());
    }
}
