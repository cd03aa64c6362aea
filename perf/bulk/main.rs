//! Measures lines counted in bulk over HTTP. The steps alone are in `counting.rs`.
//!
//! ```text
//! cargo run --release --example bench-bulk -- write FILE [WORDS]      writes the text to a file
//! cargo run --release --example bench-bulk -- send HOST:PORT [WORDS] [PATH]   sends it, encoded beforehand
//! ```
//!
//! Texts of 1,000 words, a text a line, drawn from a million words by Zipf's law with exponent 1.07; no text comes
//! twice.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for a person to run")]

mod text;

use std::{
    env,
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map_or(20_000_000, |words| words.parse().expect("a number of words"));
    match arguments.first().map(String::as_str) {
        Some("write") => std::fs::write(&arguments[1], text::zipf(number(2))).expect("a file that can be written"),
        Some("send") => send(&arguments[1], &text::zipf(number(2)), arguments.get(3).map_or("/bulk", String::as_str)),
        _ => println!("write FILE [WORDS], or send HOST:PORT [WORDS] [PATH]"),
    }
}

/// One body, and what the server says to it.
fn send(address: &str, text: &[u8], path: &str) {
    let words = text::words(text);
    let mut stream = TcpStream::connect(address).expect("a server");
    stream.set_nodelay(true).expect("a socket");
    let begun = Instant::now();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text)).expect("the server takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let took = begun.elapsed().as_secs_f64();
    println!("{answer}");
    println!("{words} words, {} bytes in {took:.3} s: {:.1} M words/s", text.len(), words as f64 / took / 1e6);
}
