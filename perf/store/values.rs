//! Values that are compressed: what that saves, and what writing and reading one costs.

use super::{
    entries::{batch_of, write},
    loaded::Loaded,
};
use bytes::Bytes;
use memdb::{
    base::limits::DEFAULT_NAMESPACE,
    data::entries::{CollectionId, CollectionKind, EntryOp, Expiry, NewValue},
};
use std::{hint::black_box, time::Instant};

/// The sizes that the text of the files is cut to.
const SIZES: [usize; 5] = [1 << 10, 4_095, 4 << 10, 10 << 10, 100 << 10];

/// Prints a row for each size of text from these files.
pub fn measure(files: &[String]) {
    println!("| bytes | values | stored of that | to make one, µs | to read one, µs |\n|---|---|---|---|---|");
    let texts: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("a file")).collect();
    for bytes in SIZES {
        let values: Vec<Bytes> =
            texts.iter().flat_map(|text| text.chunks_exact(bytes)).map(Bytes::copy_from_slice).collect();
        if values.is_empty() {
            continue;
        }
        let rounds = (20_000_000 / bytes / values.len()).max(1);
        let begin = Instant::now();
        for value in std::iter::repeat_n(&values, rounds).flatten() {
            black_box(NewValue::new(value.clone(), "").stored_bytes());
        }
        let made = begin.elapsed();
        let mut loaded = Loaded::new();
        let mut stored = 0;
        for (number, value) in values.iter().enumerate() {
            let new = NewValue::new(value.clone(), "");
            stored += new.stored_bytes();
            let op = EntryOp::Put(new, Expiry::Never);
            loaded.write(batch_of(vec![write(CollectionKind::Cache, number.to_string(), op)]));
        }
        let (reader, collection) = (loaded.reader(), CollectionId::new(CollectionKind::Cache, DEFAULT_NAMESPACE));
        let keys: Vec<String> = (0..values.len()).map(|number| number.to_string()).collect();
        let begin = Instant::now();
        for key in std::iter::repeat_n(&keys, rounds).flatten() {
            let entry = reader.read().entry(collection, key).expect("it was put");
            black_box(entry.value().len());
        }
        let (count, all) = (values.len(), (values.len() * rounds) as f64);
        let (made, read) = (made.as_secs_f64() * 1e6 / all, begin.elapsed().as_secs_f64() * 1e6 / all);
        println!(
            "| {bytes} | {count} | {:.0} % | {made:.1} | {read:.1} |",
            100.0 * stored as f64 / (bytes * count) as f64
        );
    }
}
