//! How long until every reader has a document that was created, at a steady rate.
//!
//! Whoever has sent a document asks each reader for it at once, again and again until it is there, and only then for
//! the answer to what was sent. So the time is until the last of the readers shows it, and the asking is part of it.

use crate::{
    http,
    options::Options,
    quantile_us,
    speech::{Answer, connect, exchange},
    work::{ID_DIGITS, Texts, Work, document, new_id},
};
use std::{
    io::{Error, Result, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Time to connect before the first document is due.
const LEAD: Duration = Duration::from_millis(500);
/// A document that is not seen by then is lost, not late.
const PATIENCE: Duration = Duration::from_secs(10);

/// Creates at a pace, and looks. Gives one line for `perf/bench`.
pub fn measure(options: &Options) -> Result<String> {
    let Work::Create(words) = options.work else { return Err(Error::other("--work create:WORDS")) };
    let start = Instant::now() + LEAD;
    let each = (options.rate * options.length.as_secs_f64() / options.connections as f64) as usize;
    let streams: Result<Vec<Stream>> = std::thread::scope(|scope| {
        let stream = |number: usize| {
            let first = start + Duration::from_secs_f64(number as f64 / options.rate);
            scope.spawn(move || Stream::new(options)?.run(options, (number, words), first, each))
        };
        let streams: Vec<_> = (0..options.connections).map(stream).collect();
        streams.into_iter().map(|stream| stream.join().expect("no panic")).collect()
    });
    let streams = streams?;
    let sorted = |times: fn(&Stream) -> &Vec<Duration>| {
        let mut all: Vec<Duration> = streams.iter().flat_map(times).copied().collect();
        all.sort_unstable();
        all
    };
    let (seen, looks) = (sorted(|stream| &stream.seen), sorted(|stream| &stream.looks));
    Ok(format!(
        r#"{{"posts": {}, "late": {}, "poll_us": {:.1}, "p50_us": {:.1}, "p99_us": {:.1}, "max_us": {:.1}}}"#,
        seen.len(),
        streams.iter().map(|stream| stream.late).sum::<usize>(),
        quantile_us(&looks, 0.5),
        quantile_us(&seen, 0.5),
        quantile_us(&seen, 0.99),
        quantile_us(&seen, 1.0),
    ))
}

/// One client.
struct Stream {
    to: TcpStream,
    readers: Vec<TcpStream>,
    received: Vec<u8>,
    seen: Vec<Duration>,
    looks: Vec<Duration>,
    /// Documents that were due while an earlier one was not seen.
    late: usize,
}

impl Stream {
    fn new(options: &Options) -> Result<Self> {
        let readers = options.read.iter().map(|&reader| connect(reader)).collect::<Result<_>>()?;
        let (received, seen, looks) = Default::default();
        Ok(Self { to: connect(options.to)?, readers, received, seen, looks, late: 0 })
    }

    fn run(mut self, options: &Options, (number, words): (usize, usize), first: Instant, posts: usize) -> Result<Self> {
        let mut texts = Texts::new(options, number as u64);
        let every = options.connections as f64 / options.rate;
        for number in 0..posts {
            let id = new_id();
            let text = document(&texts.text(words)).replacen(&"0".repeat(ID_DIGITS), &id, 1);
            let request = options.speech.create(&text).bytes;
            let due = first + Duration::from_secs_f64(number as f64 * every);
            let early = due.checked_duration_since(Instant::now());
            match early {
                Some(early) => std::thread::sleep(early),
                None => self.late += 1,
            }
            // That a sleep ends late is this program's fault; that the last one came late is the server's.
            let begun = if early.is_some() { Instant::now() } else { due };
            self.to.write_all(&request)?;
            self.look(&id, begun)?;
            let speech = &options.speech;
            exchange(&mut self.to, b"", &mut self.received, |received| speech.answer(received))?.good()?;
        }
        Ok(self)
    }

    /// Asks each reader until it has the document.
    fn look(&mut self, id: &str, begun: Instant) -> Result<()> {
        let request = http::get(&format!("/post?id={id}"), None);
        for reader in &mut self.readers {
            loop {
                let asked = Instant::now();
                let answer: Answer = exchange(reader, &request, &mut self.received, http::answer)?;
                self.looks.push(asked.elapsed());
                if answer.refusal.is_none() {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    return Err(Error::other(format!("the document {id} was never seen")));
                }
            }
        }
        self.seen.push(begun.elapsed());
        Ok(())
    }
}
