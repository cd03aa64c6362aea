//! Puts every word, or every key with a value, into a server once, as fast as one connection can, and makes files of
//! text.

use crate::{
    options::Options,
    speech::{Request, Speech, asked, connect},
    work::{Texts, key, value},
};
use std::{
    fs::File,
    io::{BufWriter, Result, Write},
    time::Instant,
};
use testkit::words::write_word;

/// Bytes of a text: under the default bound of 1 MiB.
const TEXT_BYTES: usize = 1_000_000;
/// Words to Redis at once.
const PIPELINE_WORDS: usize = 1_000;
/// Values put at once.
const PIPELINE_ENTRIES: usize = 100;
/// Words on a line of a file.
const LINE_WORDS: usize = 10;

/// Puts the values of the keys `0..options.distinct`, each of so many bytes; gives the seconds it took.
pub fn fill_entries(options: &Options, bytes: usize) -> Result<f64> {
    let (mut connection, mut received) = (connect(options.to)?, Vec::new());
    let begin = Instant::now();
    for first in (0..options.distinct).step_by(PIPELINE_ENTRIES) {
        let mut together = Request { bytes: Vec::new(), replies: 0, id: None };
        for number in first..options.distinct.min(first + PIPELINE_ENTRIES as u64) {
            let one = options.speech.put(&key(number), &value(number, bytes));
            together.bytes.extend_from_slice(&one.bytes);
            together.replies += one.replies;
        }
        asked(&options.speech, &mut connection, &together, &mut received)?;
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Posts the words `0..options.distinct`; gives the seconds it took.
pub fn fill(options: &Options) -> Result<f64> {
    let mut connection = connect(options.to)?;
    let (mut text, mut word, mut words, mut received) = (String::new(), String::new(), 0, Vec::new());
    let begin = Instant::now();
    for number in 0..options.distinct {
        write_word(number, &mut word);
        text.push_str(&word);
        text.push(' ');
        words += 1;
        let enough = match options.speech {
            Speech::Http { .. } => text.len() + 32 > TEXT_BYTES,
            Speech::Resp { .. } => words == PIPELINE_WORDS,
        };
        if enough || number + 1 == options.distinct {
            asked(&options.speech, &mut connection, &options.speech.post(&text), &mut received)?;
            text.clear();
            words = 0;
        }
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Writes a file of lines of ten words, of about so many bytes; gives how many words it has.
pub fn write_file(options: &Options, path: &str, bytes: u64) -> Result<u64> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut texts = Texts::new(options, 0);
    let (mut written, mut words) = (0, 0);
    while written < bytes {
        let line = texts.text(LINE_WORDS);
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        written += line.len() as u64 + 1;
        words += LINE_WORDS as u64;
    }
    file.flush()?;
    Ok(words)
}
