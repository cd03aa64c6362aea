//! A steady rate, kept whatever the server does: a request's time counts from when it was due, so a server that stalls
//! cannot hide the requests that should have come meanwhile.

use crate::{
    Figures,
    options::Options,
    speech::connect,
    work::{Batch, batches},
};
use std::{
    io::{Error, ErrorKind, Result, Write},
    net::TcpStream as Connection,
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet};

/// Time to begin before the first request is due.
const LEAD: Duration = Duration::from_millis(200);
/// The sender sleeps at least so long, then sends all that has become due: its own share of the processor stays small.
const NAP: Duration = Duration::from_micros(40);
/// Answers that have not come so long after the last request are lost, not late.
const PATIENCE: Duration = Duration::from_secs(30);

/// When requests are due: the k-th of a connection, all connections in turn.
#[derive(Clone, Copy)]
struct Plan {
    start: Instant,
    rate: f64,
    connections: usize,
    each: usize,
}

impl Plan {
    fn due(&self, connection: usize, number: usize) -> Instant {
        self.start + Duration::from_secs_f64((number * self.connections + connection) as f64 / self.rate)
    }
}

/// Sends at the rate, and times the answers.
pub fn measure(options: &'static Options) -> Result<Figures> {
    let batches: &'static [Batch] = batches(options).leak();
    let connections: Result<Vec<Connection>> = (0..options.connections).map(|_| connect(options.to)).collect();
    let connections = connections?;
    let each = (options.rate * options.length.as_secs_f64() / options.connections as f64) as usize;
    let plan = Plan { start: Instant::now() + LEAD, rate: options.rate, connections: options.connections, each };
    let mut senders = Vec::new();
    for connection in &connections {
        connection.set_nonblocking(true)?;
        senders.push(connection.try_clone()?);
    }
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || send(plan, senders, batches));
        let figures = receive(options, plan, connections, batches);
        sender.join().expect("the sender does not panic")?;
        figures
    })
}

fn batch_of(batches: &[Batch], connection: usize, number: usize) -> &Batch {
    &batches[(number + connection * 7) % batches.len()]
}

fn send(plan: Plan, mut connections: Vec<Connection>, batches: &[Batch]) -> Result<()> {
    let mut copy = Vec::new();
    for number in 0..plan.each {
        for (at, connection) in connections.iter_mut().enumerate() {
            let due = plan.due(at, number);
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                std::thread::sleep(early.max(NAP));
            }
            let mut bytes = batch_of(batches, at, number).to_send(&mut copy);
            while !bytes.is_empty() {
                match connection.write(bytes) {
                    Ok(written) => bytes = &bytes[written..],
                    // The server does not read: it will, or the receiver gives up.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NAP),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

fn receive(
    options: &'static Options,
    plan: Plan,
    connections: Vec<Connection>,
    batches: &'static [Batch],
) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for (at, connection) in connections.into_iter().enumerate() {
            running.spawn(answers(options, plan, at, TcpStream::from_std(connection)?, batches));
        }
        let mut all = Figures::begin(options);
        let begin = Instant::now();
        let gather = async {
            while let Some(figures) = running.join_next().await {
                all.add(figures.map_err(Error::other)??);
            }
            Ok::<_, Error>(())
        };
        let late = |_| Error::other("answers did not come");
        tokio::time::timeout(LEAD + options.length + PATIENCE, gather).await.map_err(late)??;
        all.drained = begin.elapsed().as_secs_f64();
        Ok(all)
    })
}

/// The answers on one connection.
async fn answers(
    options: &Options,
    plan: Plan,
    at: usize,
    mut connection: TcpStream,
    batches: &'static [Batch],
) -> Result<Figures> {
    let mut figures = Figures::default();
    let (mut received, mut used, mut number, mut replies) = (Vec::new(), 0, 0, 0);
    while number < plan.each {
        received.drain(..used);
        used = 0;
        if connection.read_buf(&mut received).await? == 0 {
            return Err(Error::other("the server closed the connection"));
        }
        let now = Instant::now();
        while used < received.len()
            && let Some(answer) = options.speech.answer(&received[used..])?
        {
            answer.good()?;
            used += answer.length;
            replies += 1;
            if replies == batch_of(batches, at, number).replies.iter().sum::<usize>() {
                figures.times.push(now.saturating_duration_since(plan.due(at, number)));
                figures.answered += 1;
                figures.in_time += 1;
                figures.acknowledged += u64::from(answer.acknowledged);
                (number, replies) = (number + 1, 0);
            }
        }
    }
    Ok(figures)
}
