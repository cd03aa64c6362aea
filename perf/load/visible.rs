//! How long until a reader sees a post, at a steady rate.
//!
//! Each posting connection has a word of its own, which is the first of each of its texts: the reader sees the n-th
//! post of a connection when the word's count is n. One connection asks for all these words again and again, without
//! pause. All times are of one clock in this process, and a post counts as seen when the answer that shows it has been
//! read: the reader's own round trip is part of every figure.

use crate::{
    options::Options,
    quantile_us,
    speech::{asked, connect, exchange},
    work::Texts,
};
use std::{
    io::{Error, Result},
    time::{Duration, Instant},
};

/// Time to connect and make the texts before the first post is due.
const LEAD: Duration = Duration::from_millis(500);
/// How long the reader goes on after the last post is due: what it has not seen by then is lost, not late.
const PATIENCE: Duration = Duration::from_secs(10);
/// Texts a connection goes round.
const TEXTS: usize = 1_000;

/// What was measured.
pub struct Figures {
    times: Vec<Duration>,
    /// Posts that were due while their connection still waited for an answer.
    late: usize,
    acknowledged: usize,
    /// How long one look of the reader takes.
    poll: Duration,
}

impl Figures {
    /// One line for `perf/bench`.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"posts": {}, "acknowledged": {}, "late": {}, "poll_us": {:.1}, "p50_us": {:.1}, "p99_us": {:.1}, "max_us": {:.1}}}"#,
            self.times.len(),
            self.acknowledged,
            self.late,
            self.poll.as_secs_f64() * 1e6,
            quantile_us(&self.times, 0.5),
            quantile_us(&self.times, 0.99),
            quantile_us(&self.times, 1.0),
        )
    }
}

/// Posts at a pace, and looks.
pub fn measure(options: &Options) -> Result<Figures> {
    // No other run has these words.
    let words: Vec<_> =
        (0..options.connections).map(|number| format!("probe{}x{number}", std::process::id())).collect();
    let start = Instant::now() + LEAD;
    let posts_each = (options.rate * options.length.as_secs_f64() / options.connections as f64) as usize;
    std::thread::scope(|scope| {
        let stream = |number: usize| {
            let first = start + Duration::from_secs_f64(number as f64 / options.rate);
            let word = &words[number];
            scope.spawn(move || stream(options, (number, word), first, posts_each))
        };
        let streams: Vec<_> = (0..options.connections).map(stream).collect();
        let looked = look(options, &words, posts_each, start + options.length + PATIENCE);
        let streams: Result<Vec<Stream>> = streams.into_iter().map(|stream| stream.join().expect("no panic")).collect();
        // Why a stream failed says more than that its posts were not seen.
        let (streams, looked) = (streams?, looked?);
        let pairs = streams.iter().zip(&looked.seen).flat_map(|(stream, seen)| stream.begun.iter().zip(seen));
        let mut times: Vec<_> = pairs.map(|(&begun, seen)| seen.saturating_duration_since(begun)).collect();
        times.sort_unstable();
        let late = streams.iter().map(|stream| stream.late).sum();
        let acknowledged = streams.iter().map(|stream| stream.acknowledged).sum();
        Ok(Figures { times, late, acknowledged, poll: looked.poll })
    })
}

/// What one posting connection did.
struct Stream {
    /// When each post was sent, or was due if the server was what kept it.
    begun: Vec<Instant>,
    late: usize,
    acknowledged: usize,
}

fn stream(options: &Options, (number, word): (usize, &str), first: Instant, posts: usize) -> Result<Stream> {
    let mut source = Texts::new(options, number as u64);
    let texts: Vec<_> = (0..TEXTS).map(|_| options.speech.post(&format!("{word} {}", source.text(9)))).collect();
    let mut connection = connect(options.to)?;
    let mut received = Vec::new();
    let mut stream = Stream { begun: Vec::with_capacity(posts), late: 0, acknowledged: 0 };
    let every = options.connections as f64 / options.rate;
    for (number, text) in (0..posts).zip(texts.iter().cycle()) {
        let due = first + Duration::from_secs_f64(number as f64 * every);
        let early = due.checked_duration_since(Instant::now());
        if let Some(early) = early {
            std::thread::sleep(early);
        } else {
            stream.late += 1;
        }
        // That a sleep ends late is this program's fault; that the last answer came late is the server's.
        stream.begun.push(if early.is_some() { Instant::now() } else { due });
        let acknowledged = asked(&options.speech, &mut connection, text, &mut received)?;
        stream.acknowledged += usize::from(acknowledged);
    }
    Ok(stream)
}

/// What the reader saw.
struct Looked {
    /// For each word, when each of its counts was first shown.
    seen: Vec<Vec<Instant>>,
    poll: Duration,
}

fn look(options: &Options, words: &[String], posts_each: usize, deadline: Instant) -> Result<Looked> {
    let request = options.speech.read(words.iter().map(String::as_str)).bytes;
    let mut connection = connect(options.read[0])?;
    let mut received = Vec::new();
    let mut seen = vec![Vec::with_capacity(posts_each); words.len()];
    let (begun, mut polls) = (Instant::now(), 0);
    loop {
        let counts =
            exchange(&mut connection, &request, &mut received, |received| options.speech.counts(received, words))?;
        let now = Instant::now();
        polls += 1;
        for (seen, count) in seen.iter_mut().zip(counts) {
            if count > posts_each {
                return Err(Error::other(format!("{count} posts were seen where {posts_each} are sent")));
            }
            seen.resize(count.max(seen.len()), now);
        }
        let left = words.len() * posts_each - seen.iter().map(Vec::len).sum::<usize>();
        if left == 0 {
            return Ok(Looked { seen, poll: (now - begun) / polls });
        }
        if now > deadline {
            return Err(Error::other(format!("{left} posts were never seen")));
        }
    }
}
