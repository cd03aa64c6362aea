//! The collections that entries lie in.

use bincode::{BorrowDecode, Decode, Encode};

/// The use of a collection. One name may have a collection of each kind; they have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum CollectionKind {
    /// Values of a cache (`/cache`), which may be evicted.
    Cache,
    /// Posts (`/posts`, `/create`): documents whose words are counted in the namespace of that name.
    Posts,
    /// Words of texts that are not kept and are to be taken back in time (`POST /post?ttl=`).
    Texts,
    /// Words of the namespace that were taken away while posts counted there, each with the position at which. An
    /// empty key stands for the whole namespace.
    Removals,
}

impl CollectionKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [CollectionKind; 4] =
        [CollectionKind::Cache, CollectionKind::Posts, CollectionKind::Texts, CollectionKind::Removals];

    /// Returns whether clients name and read its entries.
    pub const fn is_public(self) -> bool {
        matches!(self, CollectionKind::Cache | CollectionKind::Posts)
    }

    /// Returns whether its entries may hold words in the counts.
    pub const fn may_count(self) -> bool {
        matches!(self, CollectionKind::Posts | CollectionKind::Texts)
    }

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            CollectionKind::Cache => "cache",
            CollectionKind::Posts => "posts",
            CollectionKind::Texts => "texts",
            CollectionKind::Removals => "removals",
        }
    }
}

/// A collection: its kind, and the namespace it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, BorrowDecode)]
pub struct CollectionId<'a> {
    /// The use of its entries.
    pub kind: CollectionKind,
    /// The namespace.
    pub namespace: &'a str,
}

impl<'a> CollectionId<'a> {
    /// The collection of this kind in a namespace.
    pub const fn new(kind: CollectionKind, namespace: &'a str) -> Self {
        Self { kind, namespace }
    }
}
