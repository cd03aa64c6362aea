//! As many posts as are answered: each connection sends the next when it has the answer to the last.

use crate::{
    options::Options,
    quantile_us,
    speech::{Answer, connect},
};
use std::{
    io::{Error, Result},
    net::TcpStream as Connection,
    sync::Barrier,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// What was measured.
#[derive(Default)]
pub struct Figures {
    seconds: f64,
    /// From request to answer, of the posts answered in time.
    times: Vec<Duration>,
    /// All posts answered, also the few after the end.
    answered: u64,
    acknowledged: u64,
}

impl Figures {
    /// One line for `perf/bench`.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"posts": {}, "seconds": {:.6}, "answered": {}, "acknowledged": {}, "p50_us": {:.1}, "p99_us": {:.1}, "max_us": {:.1}}}"#,
            self.times.len(),
            self.seconds,
            self.answered,
            self.acknowledged,
            quantile_us(&self.times, 0.5),
            quantile_us(&self.times, 0.99),
            quantile_us(&self.times, 1.0),
        )
    }

    /// Counts an answer, and how long it took if it came in time.
    fn count(&mut self, answer: &Answer, took: Option<Duration>) -> Result<()> {
        if let Some(refusal) = &answer.refusal {
            return Err(Error::other(format!("a post was refused: {refusal}")));
        }
        self.times.extend(took);
        self.answered += 1;
        self.acknowledged += u64::from(answer.acknowledged);
        Ok(())
    }

    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.answered += other.answered;
        self.acknowledged += other.acknowledged;
    }
}

/// Connects, posts, and counts the answers.
pub fn measure(options: &'static Options) -> Result<Figures> {
    let posts: Vec<_> = options.texts.iter().map(|text| options.speech.post(text)).collect();
    let posts: &'static [Vec<u8>] = posts.leak();
    let mut shares: Vec<Vec<Connection>> = (0..options.threads).map(|_| Vec::new()).collect();
    for number in 0..options.connections {
        shares[number % options.threads].push(connect(options.to)?);
    }
    let together = Barrier::new(options.threads);
    let mut all = Figures { seconds: options.length.as_secs_f64(), ..Figures::default() };
    std::thread::scope(|scope| {
        let drive = |share| scope.spawn(|| drive(options, posts, share, &together));
        let running: Vec<_> = shares.into_iter().map(drive).collect();
        for thread in running {
            all.add(thread.join().expect("a thread does not panic")?);
        }
        Ok::<_, Error>(())
    })?;
    all.times.sort_unstable();
    Ok(all)
}

/// One thread with its share of the connections.
fn drive(
    options: &'static Options,
    posts: &'static [Vec<u8>],
    share: Vec<Connection>,
    together: &Barrier,
) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut all = Figures::default();
        let mut running = JoinSet::new();
        together.wait();
        let end = Instant::now() + options.length;
        for (number, connection) in share.into_iter().enumerate() {
            connection.set_nonblocking(true)?;
            let connection = TcpStream::from_std(connection)?;
            // Connections do not go through the texts in step.
            running.spawn(post(options, posts.iter().cycle().skip(number * 7 % posts.len()), connection, end));
        }
        while let Some(figures) = running.join_next().await {
            all.add(figures.map_err(Error::other)??);
        }
        Ok(all)
    })
}

/// One connection.
async fn post(
    options: &Options,
    posts: impl Iterator<Item = &'static Vec<u8>>,
    mut connection: TcpStream,
    end: Instant,
) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut received = Vec::with_capacity(4096);
    let mut begun = Instant::now();
    for post in posts {
        connection.write_all(post).await?;
        received.clear();
        let answer = loop {
            if connection.read_buf(&mut received).await? == 0 {
                return Err(Error::other("the server closed the connection"));
            }
            if let Some(answer) = options.speech.answer(&received)? {
                break answer;
            }
        };
        let now = Instant::now();
        figures.count(&answer, (now <= end).then(|| now - begun))?;
        if now >= end {
            break;
        }
        begun = now;
    }
    Ok(figures)
}
