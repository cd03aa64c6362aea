//! Kind 1: words with counts. `word_counts` holds the counts of one text, `index` those of a namespace.

pub mod index;
pub mod word_counts;
