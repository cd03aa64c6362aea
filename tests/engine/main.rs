//! The cores from outside, without I/O of their own: text to words, the store, the Writer.

mod origin;
mod store;
mod tokenizer;
mod writer;
