//! The cores from outside, without I/O of their own: text to words, the store, the Writer.

mod store;
mod tokenizer;
mod writer;
