//! Writes of what a path names: of one entry, or of one counter. A plain post has no name.

use super::{
    counter_write::{CounterReceipt, CounterTarget},
    entry_write::{EntryReceipt, EntryWriteTarget},
};
use crate::{
    api::http::{headers::DedupHeaders, route::RouteLabel, state::AppState},
    base::metrics::MethodLabel,
    data::command::WriteBatch,
    engine::leader::AckLevel,
    engine::view::ServedDatabase,
};

/// What a request writes, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedWrite<'a> {
    Entry(EntryWriteTarget<'a>),
    Counter(CounterTarget<'a>),
}

/// What an answer says beside the receipt of the Writer, and what it is counted under.
#[derive(Debug)]
pub(super) enum NamedReceipt {
    Entry(EntryReceipt),
    Counter(CounterReceipt),
}

/// A write for the Writer, the level that its answer waits for, and what else the answer says if it has a name.
pub(super) type CountedPost = (WriteBatch, Option<AckLevel>, Option<Box<NamedReceipt>>);

impl<'a> NamedWrite<'a> {
    /// What a method and a plain path write; none if it is for the routes.
    pub(super) fn of(method: &str, path: &'a str) -> Option<Self> {
        let of_entry = || EntryWriteTarget::of(method, path).map(Self::Entry);
        CounterTarget::of(method, path).map(Self::Counter).or_else(of_entry)
    }

    /// The length of its body if the head has none: an increment needs no body.
    pub(super) fn default_length(&self) -> Option<&'static str> {
        matches!(self, Self::Counter(_)).then_some("0")
    }

    /// The batch of this write; none if anything about it is for the routes to refuse.
    pub(super) fn batch(
        self,
        (query, content_type, naming): (&str, Option<&str>, &DedupHeaders),
        body: &[u8],
        (current, state): (&ServedDatabase, &AppState),
    ) -> Option<CountedPost> {
        let (batch, level, receipt) = match self {
            Self::Entry(entry) => {
                let (batch, level, receipt) = entry.batch((query, content_type, naming), body, (current, state))?;
                (batch, level, NamedReceipt::Entry(receipt))
            }
            Self::Counter(counter) => {
                let (batch, level, receipt) = counter.batch((query, naming), body, (current, state))?;
                (batch, level, NamedReceipt::Counter(receipt))
            }
        };
        Some((batch, level, Some(Box::new(receipt))))
    }
}

impl NamedReceipt {
    /// The labels that the request is counted under.
    pub(super) fn labels(&self) -> (RouteLabel, MethodLabel) {
        match self {
            Self::Entry(entry) => entry.labels(),
            Self::Counter(_) => (RouteLabel::Counter, MethodLabel::Post),
        }
    }
}
