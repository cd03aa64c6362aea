//! From bytes to words: encodings, and the analyzers that cut a text into words.

pub mod charset;
pub mod tokenizer;
