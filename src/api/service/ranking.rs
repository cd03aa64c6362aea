//! `/top`: the largest counts, from the words at hand or from all, a page at a time.

mod cursor;

use super::{
    Service, beside, no_word,
    query::{QueryReply, StoredNamespace},
};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::position::PositionToken,
    data::store::{RankingQuery, StoreRanking},
    engine::view::ServedDatabase,
    net::address_limits::Usage,
};
use cursor::RankingCursor;
use std::borrow::Cow;

/// A page of the order of the largest counts, as a client asks for it.
#[derive(Clone, Copy, Debug)]
pub struct RankingRequest<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The most words that are given.
    pub n: usize,
    /// The begin of the words, which is folded as a word is; empty for all words.
    pub prefix: &'a str,
    /// The cursor of the page before; empty for the first page.
    pub after: &'a str,
}

/// A page of the order of the largest counts.
#[derive(Debug)]
pub struct RankingAnswer {
    /// Words with their counts, largest first, equal counts by word.
    pub words: Vec<(String, i64)>,
    /// The digest of everything at the position of the answer.
    pub digest: u64,
    /// The cursor of the next page, unless there is none.
    pub next: Option<String>,
}

impl Service {
    /// Answers a page, once a position is reached. Where all words have to be looked at, that happens beside the
    /// serving threads.
    ///
    /// # Errors
    /// If there is nothing to read, the position is not reached in time or never will be, the prefix holds nothing that
    /// counts, the cursor is none of this request, or the counts change too fast to be ranked.
    pub async fn ranking(
        &self,
        request: RankingRequest<'_>,
        min_position: Option<PositionToken>,
        usage: &Usage,
    ) -> Result<QueryReply<RankingAnswer>, ApiError> {
        let lag_ms = self.wait_for(min_position, usage).await?;
        let current = self.current()?;
        let RankingRequest { namespace, n, prefix, after } = request;
        let stored = StoredNamespace::of(&current, namespace);
        let prefix = folded(stored, &current, prefix)?;
        let scope = cursor::CursorScope { database: current.identity.tag(), namespace, prefix: &prefix };
        let after = (!after.is_empty()).then(|| RankingCursor::parse(after, scope)).transpose()?;
        let query = RankingQuery { n, prefix: &prefix, after: after.as_ref().map(RankingCursor::place) };
        let (state, words) = match current.reader.ranking_at_hand(stored.name, &query) {
            Some(at_hand) => at_hand,
            None => walked(&current, stored, &query, usage).await?,
        };
        // A page that is not full is the last one.
        let last = words.last().filter(|_| words.len() == n);
        let next = last.map(|(word, count)| RankingCursor::text(*count, word, scope));
        let position = current.identity.token(state.position);
        Ok(QueryReply { answer: RankingAnswer { words, digest: state.digest, next }, position, lag_ms })
    }
}

/// The prefix as words have it.
fn folded<'a>(
    namespace: StoredNamespace<'_>,
    current: &ServedDatabase,
    prefix: &'a str,
) -> Result<Cow<'a, str>, ApiError> {
    let folded = namespace.word(current, prefix);
    match folded.is_empty() && !prefix.is_empty() {
        true => Err(no_word(ErrorKind::InvalidParameter).about("prefix")),
        false => Ok(folded),
    }
}

async fn walked(
    current: &std::sync::Arc<ServedDatabase>,
    namespace: StoredNamespace<'_>,
    query: &RankingQuery<'_>,
    usage: &Usage,
) -> Result<StoreRanking, ApiError> {
    let (current, namespace, n) = (current.clone(), namespace.name.to_owned(), query.n);
    let prefix = query.prefix.to_owned();
    let after = query.after.map(|(count, word)| (count, word.to_owned()));
    beside(usage, move || {
        let after = after.as_ref().map(|(count, word)| (*count, word.as_str()));
        let ranked = current.reader.ranking_of_all(&namespace, &RankingQuery { n, prefix: &prefix, after });
        ranked.ok_or_else(|| {
            let detail = "more counts change than can be followed while all words are looked at; ask again later, or \
                          for up to 1,000 words without prefix and after, which are always at hand";
            ApiError::new(ErrorKind::RankingBusy, detail)
        })
    })
    .await
}
