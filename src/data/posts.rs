//! Posts: entries whose words are counted, and taken back when the entry is replaced, deleted or expires.
//!
//! A counted entry has a *claim* on the counts of its namespace: the words that it has added there. A claim is not
//! stored beside a post, whose text gives the same words again (`text`); of a text that is not kept, the claim is all
//! that is stored (`claim`). `takeback` decides which words an entry still has a claim to.

mod claim;
mod takeback;
mod text;

#[cfg(feature = "failpoints")]
pub use claim::claim_words;
pub use claim::encode_claim;
pub(crate) use takeback::{Takeback, take_back};
pub use text::{PostTextError, count_words, post_text};
