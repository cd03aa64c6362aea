//! Bytes that come from outside: files of every format, damaged ones, and what fuzzers have made of all that is read.

mod damage;
mod fuzz_corpus;
mod golden;
mod incarnation;
