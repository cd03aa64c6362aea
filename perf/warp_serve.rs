//! The read of one word as warp itself would serve it: `warp::serve`, a route of ordinary filters, an answer by serde,
//! over the same store that memdb reads.
//!
//! `bench-warp WORDS` fills a store with the words of the load, listens on a free port of loopback, prints it, and
//! serves until it is killed. `warp::serve` needs no runtime of a certain kind; it gets the usual one, a thread per
//! core.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for a person to run")]

use memdb::{
    base::limits::DEFAULT_NAMESPACE,
    data::record::{NamespaceChange, WordCount},
    data::store::{DedupLimits, Store, StoreReader},
    storage::file_header::DatabaseIdentity,
    text::tokenizer::Analyzer,
};
use std::{
    collections::HashMap,
    io::{Result, Write},
    net::Ipv4Addr,
};
use testkit::words::write_word;
use tokio::net::TcpListener;
use warp::Filter;

const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 0x6d65 };

fn main() -> Result<()> {
    let words = std::env::args().nth(1).and_then(|words| words.parse().ok()).unwrap_or(1_000);
    let mut store = Store::new(IDENTITY.hasher(), DedupLimits::default());
    let mut word = String::new();
    for number in 0..words {
        write_word(number, &mut word);
        let counts = vec![WordCount { word: &word, count: 1_234 }];
        store.load_image(&NamespaceChange { namespace: DEFAULT_NAMESPACE, dropped: false, counts });
        store.end_image();
    }
    store.set_state_id(store.mark(), store.time_ms());
    let reader = store.reader();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(reader))
}

async fn serve(reader: StoreReader) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let route = warp::path!("wordcount").and(warp::get()).and(warp::query::<HashMap<String, String>>()).map(
        move |query: HashMap<String, String>| {
            let word = query.get("word").map_or("", String::as_str);
            let (guard, mut counts) = (reader.read(), HashMap::new());
            counts.insert(word, guard.count(DEFAULT_NAMESPACE, word));
            let answer = warp::reply::json(&counts);
            warp::reply::with_header(answer, "memdb-position", guard.position().to_string())
        },
    );
    warp::serve(route).incoming(listener).run().await;
    Ok(())
}
