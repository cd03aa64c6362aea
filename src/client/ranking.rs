//! `GET /top`: the largest counts of a namespace, a page at a time.

use super::{Client, ClientError};
use serde::Deserialize;

/// A word and its count, as `/top` lists them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RankedCount {
    /// The word.
    pub word: String,
    /// Its count.
    pub count: i64,
}

/// The part of the order of the largest counts that is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageRequest<'a> {
    /// The namespace; `None` for the default one.
    pub namespace: Option<&'a str>,
    /// The most words that are given.
    pub n: usize,
    /// The begin of the words.
    pub prefix: Option<&'a str>,
    /// The cursor of the page before.
    pub after: Option<&'a str>,
}

/// A page of the order of the largest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankingPage {
    /// Words with their counts, largest first.
    pub words: Vec<RankedCount>,
    /// The cursor of the next page, unless there is none.
    pub next: Option<String>,
}

impl Client {
    /// The `n` largest counts.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// does not serve reads, [`ClientError::Strange`] if the answer is not memdb's.
    pub async fn top(&self, namespace: Option<&str>, n: usize) -> Result<Vec<RankedCount>, ClientError> {
        Ok(self.ranking(PageRequest { namespace, n, ..PageRequest::default() }).await?.words)
    }

    /// A page of the largest counts.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// does not serve reads or refuses the cursor, [`ClientError::Strange`] if the answer is not memdb's.
    pub async fn ranking(&self, page: PageRequest<'_>) -> Result<RankingPage, ClientError> {
        let PageRequest { namespace, n, prefix, after } = page;
        let number = n.to_string();
        let given = [("ns", namespace), ("prefix", prefix), ("after", after), ("n", Some(number.as_str()))];
        let query: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let response = self.send(self.http.get(self.address("/top", &query))).await?;
        let next = response.headers().get("memdb-next").and_then(|next| next.to_str().ok()).map(str::to_owned);
        let body = response.bytes().await.map_err(|error| self.lost(&error))?;
        let words = serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()))?;
        Ok(RankingPage { words, next })
    }
}
