//! The reads of entries, `GET /cache/{key}`, `GET /data/{id}`, `GET /post?id=` and `GET /posts/{id}`, and the answers
//! to their writes.
//!
//! A value that is stored as it came goes from the store into the answer, without a copy in between.

use super::{
    super::{
        coding::ContentCoding,
        entries::{answer::FoundEntry, key, through},
        query::{QueryString, RouteParameters},
        route::RouteLabel,
        state::AppState,
    },
    entry_tally::ROUTES,
    responder::{FastPathResponder, is_plain, is_visible, visible},
};
use crate::{
    api::service::{EntryOf, ReadQuery as _, no_entry},
    base::limits::DEFAULT_NAMESPACE,
    base::position::PositionToken,
    data::entries::{CollectionId, CollectionKind, Entry},
    data::record::ValueEncoding,
    engine::view::ServedDatabase,
};
use std::borrow::Cow;
use tokio::time::Instant;

/// Bytes of the largest value that the fast path answers with: its buffer is the thread's, and stays as large.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// The entry that a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct EntryTarget<'a> {
    /// Its place among [`ROUTES`].
    route: usize,
    kind: CollectionKind,
    namespace: Cow<'a, str>,
    key: Cow<'a, str>,
    /// True if the routes are to fetch what is not here.
    reads_through: bool,
}

/// The headers of a read of an entry that matter to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHeaders<'a> {
    pub(super) if_none_match: Option<&'a str>,
    pub(super) accept_encoding: Option<&'a [u8]>,
}

/// Returns whether the routes answer with this entry: a large one, or one with an odd type.
fn is_declined(entry: &Entry) -> bool {
    entry.raw_bytes() > MAX_VALUE_BYTES || !is_visible(entry.content_type().as_bytes())
}

impl<'a> EntryTarget<'a> {
    fn of(target: &'a str) -> Option<Self> {
        let cache = target.strip_prefix("/cache/").map(|rest| (0, CollectionKind::Cache, rest));
        let posts = || target.strip_prefix("/posts/").map(|rest| (2, CollectionKind::Posts, rest));
        let Some((route, kind, rest)) = cache.or_else(posts) else {
            if let Some(id) = target.strip_prefix("/data/") {
                return Self::of_data(id);
            }
            return Self::of_query(target.strip_prefix("/post?").filter(|query| is_plain(query))?);
        };
        let (encoded, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !is_plain(encoded) || !is_plain(query) {
            return None;
        }
        let key = key::of_path(encoded).ok()?;
        let (namespace, reads_through) = match query {
            "" => (Cow::Borrowed(DEFAULT_NAMESPACE), false),
            query => {
                let is_cache = kind == CollectionKind::Cache;
                let known = if is_cache { RouteParameters::CACHE_ENTRY } else { RouteParameters::ENTRY };
                let query = QueryString::parse(query, known).ok()?;
                (query.namespace.clone(), through::is_wanted(&query).ok()?)
            }
        };
        Some(Self { route, kind, namespace, key, reads_through })
    }

    /// The target of `GET /data/{id}`, from behind its last slash.
    fn of_data(id: &'a str) -> Option<Self> {
        let key = key::of_path(id).ok().filter(|_| is_plain(id) && !id.contains('?'))?;
        let (kind, namespace) = (CollectionKind::Cache, Cow::Borrowed(through::DATA_NAMESPACE));
        Some(Self { route: 3, kind, namespace, key, reads_through: true })
    }

    /// The target of `GET /post?`.
    fn of_query(query: &'a str) -> Option<Self> {
        let (namespace, key) = match query.strip_prefix("id=") {
            // Nearly every id needs no decoding.
            Some(id) if memchr::memchr3(b'&', b'%', b'+', id.as_bytes()).is_none() => {
                (Cow::Borrowed(DEFAULT_NAMESPACE), Cow::Borrowed(id))
            }
            _ => {
                let query = QueryString::parse(query, RouteParameters::READ_POST).ok()?;
                (query.namespace, query.entries.id?)
            }
        };
        key::check(&key).ok()?;
        Some(Self { route: 1, kind: CollectionKind::Posts, namespace, key, reads_through: false })
    }

    /// Returns whether the answer says how long it took.
    fn is_timed(&self) -> bool {
        ROUTES[self.route] == RouteLabel::Post
    }
}

impl FastPathResponder {
    /// Answers with an entry, or that there is none; `None` if the routes should see it.
    pub(super) fn entry(
        &mut self,
        target: &str,
        asked: EntryHeaders<'_>,
        state: &AppState,
        (current, lag_ms): (&ServedDatabase, Option<u64>),
    ) -> Option<()> {
        let target = EntryTarget::of(target)?;
        let begun = target.is_timed().then(|| self.timer.begin(self.answers.len()));
        let service = &state.service;
        let collection = CollectionId::new(target.kind, &target.namespace);
        let (found, position) = EntryOf { collection, key: &target.key }.answer(current)?;
        let status = match found.filter(|entry| service.is_served(entry, target.reads_through)) {
            None if target.reads_through => return None,
            None => {
                self.problem(no_entry(target.kind, position, lag_ms));
                2
            }
            Some(entry) if is_declined(&entry) || (self.varies && entry.encoding() != ValueEncoding::Plain) => {
                return None;
            }
            Some(entry) => usize::from(self.found(&entry, (position, lag_ms), asked, begun)),
        };
        self.answered.entries.add(target.route, status);
        Some(())
    }

    /// Writes the answer with an entry, as `FoundEntry::into_response`. Gives whether the client has it.
    #[inline]
    fn found(
        &mut self,
        entry: &Entry,
        at: (PositionToken, Option<u64>),
        asked: EntryHeaders<'_>,
        begun: Option<Instant>,
    ) -> bool {
        let wanted = || ContentCoding::wanted(asked.accept_encoding.into_iter().filter_map(visible));
        let found = FoundEntry::new(entry, at, asked.if_none_match, wanted);
        let status: &[u8] = if found.is_known { b"HTTP/1.1 304 Not Modified" } else { b"HTTP/1.1 200 OK" };
        self.answers.extend_from_slice(status);
        let mut text = std::mem::take(&mut self.body);
        found.each_line(&mut text, |begin, value| self.line(begin, value));
        self.body = text;
        let ended = begun.map(|begun| {
            let now = Instant::now();
            let took = u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX);
            self.line("\r\nx-response-time: ", itoa::Buffer::new().format(took).as_bytes());
            now
        });
        self.vary();
        if found.is_known {
            self.answers.extend_from_slice(self.date.last());
        } else {
            let body = found.body();
            self.line("\r\ncontent-length: ", itoa::Buffer::new().format(body.len()).as_bytes());
            self.answers.extend_from_slice(self.date.last());
            self.answers.extend_from_slice(&body);
        }
        if let Some(ended) = ended {
            self.timer.end(self.answers.len(), ended);
        }
        found.is_known
    }

    // Always: a begin that is known to the compiler is copied by a few stores.
    #[inline(always)]
    fn line(&mut self, begin: &'static str, value: &[u8]) {
        self.answers.extend_from_slice(begin.as_bytes());
        self.answers.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_targets_name_an_entry_and_odd_ones_are_left_to_the_routes() {
        let of = |target| EntryTarget::of(target).map(|found| (found.route, found.namespace, found.key));
        for (target, route, namespace, key) in [
            ("/cache/a", 0, "words", "a"),
            ("/cache/a/b%2F/+", 0, "words", "a/b//+"),
            ("/cache/%E5%8C%97?ns=b", 0, "b", "北"),
            ("/cache/a?_=1", 0, "words", "a"),
            ("/post?id=7", 1, "words", "7"),
            ("/post?ns=b&id=a+b%2Fc", 1, "b", "a b/c"),
            ("/posts/7", 2, "words", "7"),
            ("/data/a/b%20", 3, "data", "a/b "),
            ("/cache/a?through=1", 0, "words", "a"),
        ] {
            assert_eq!(of(target), Some((route, namespace.into(), key.into())), "{target}");
        }
        for target in [
            "/cache/",
            "/cache",
            "/cache/%zz",
            "/cache/%ff",
            "/cache/é",
            "/cache/a#b",
            "/cache/a?ttl=1",
            "/cache/a?ns=A",
            "/cache/a?b?c",
            "/post",
            "/post?",
            "/post?id=",
            "/post?id=a&id=b",
            "/post?ns=b",
            "/posts",
            "/posts/",
            "/posts/7?through=1",
            "/cache/a?through=maybe",
            "/data/",
            "/data/a?ns=b",
            "/wordcount?word=a",
        ] {
            assert_eq!(of(target), None, "{target}");
        }
        assert_eq!(of(&format!("/cache/{}", "k".repeat(513))), None);
    }
}
