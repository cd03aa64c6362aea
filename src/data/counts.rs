//! Words with counts: the one kind of data there is. `word_counts` holds the counts of one text, `index` those of a
//! namespace, `stored` those of all namespaces. `admission` decides which new counts a record states.

pub(crate) mod admission;
pub mod index;
pub mod quotas;
pub(crate) mod stored;
pub mod word_counts;
mod write_op;

pub use admission::{AdmissionLimits, CountsRefusal, NamespaceRoom};
pub use write_op::WriteOp;
