//! As many requests as are answered: each connection sends the next when it has the answer to the last, or so many at
//! once when it has the answers to all of the last.

use crate::{
    Figures,
    options::Options,
    speech::{Answer, Speech, connect},
    work::{Batch, batches},
};
use std::{
    io::{Error, Result},
    net::TcpStream as Connection,
    sync::Barrier,
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// What is read at once, at most.
const READ_BYTES: usize = 64 << 10;

/// Connects, sends, and counts the answers.
pub fn measure(options: &'static Options) -> Result<Figures> {
    let batches: &'static [Batch] = batches(options).leak();
    let mut shares: Vec<Vec<Connection>> = (0..options.threads).map(|_| Vec::new()).collect();
    for number in 0..options.connections {
        shares[number % options.threads].push(connect(options.to)?);
    }
    let together = Barrier::new(options.threads);
    let mut all = Figures::begin(options);
    std::thread::scope(|scope| {
        let together = &together;
        let drive = |(number, share)| scope.spawn(move || drive(options, batches, number, share, together));
        let running: Vec<_> = shares.into_iter().enumerate().map(drive).collect();
        for thread in running {
            all.add(thread.join().expect("a thread does not panic")?);
        }
        Ok::<_, Error>(())
    })?;
    Ok(all)
}

/// One thread with its share of the connections.
fn drive(
    options: &'static Options,
    batches: &'static [Batch],
    thread: usize,
    share: Vec<Connection>,
    together: &Barrier,
) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut all = Figures::default();
        let mut running = JoinSet::new();
        together.wait();
        let begin = Instant::now();
        let end = begin + options.length;
        for (number, connection) in share.into_iter().enumerate() {
            connection.set_nonblocking(true)?;
            let connection = TcpStream::from_std(connection)?;
            // Connections do not go through the batches in step.
            let first = (number * options.threads + thread) * batches.len() / options.connections;
            let mine = batches.iter().cycle().skip(first % batches.len());
            running.spawn(send(&options.speech, mine, connection, end));
        }
        while let Some(figures) = running.join_next().await {
            all.add(figures.map_err(Error::other)??);
        }
        // The last answers come after the end: they count, and so does the time they took.
        all.drained = begin.elapsed().as_secs_f64();
        Ok(all)
    })
}

/// One connection.
async fn send(
    speech: &Speech,
    batches: impl Iterator<Item = &'static Batch>,
    mut connection: TcpStream,
    end: Instant,
) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut received = Received::default();
    let mut begun = Instant::now();
    let mut copy = Vec::new();
    for batch in batches {
        connection.write_all(batch.to_send(&mut copy)).await?;
        for &replies in &batch.replies {
            let mut acknowledged = false;
            for _ in 0..replies {
                let answer = received.next(speech, &mut connection).await?;
                answer.good()?;
                acknowledged = answer.acknowledged;
            }
            figures.answered += 1;
            figures.acknowledged += u64::from(acknowledged);
        }
        let now = Instant::now();
        if now <= end {
            figures.in_time += batch.replies.len() as u64;
            figures.times.push(now - begun);
        } else {
            break;
        }
        begun = now;
    }
    Ok(figures)
}

/// What has come on a connection and is not understood yet.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    at: usize,
}

impl Received {
    async fn next(&mut self, speech: &Speech, connection: &mut TcpStream) -> Result<Answer> {
        loop {
            if self.at < self.bytes.len()
                && let Some(answer) = speech.answer(&self.bytes[self.at..])?
            {
                self.at += answer.length;
                return Ok(answer);
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            self.bytes.reserve(READ_BYTES);
            if connection.read_buf(&mut self.bytes).await? == 0 {
                return Err(Error::other("the server closed the connection"));
            }
        }
    }
}
