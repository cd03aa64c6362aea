//! A client that posts one text after the other, and repeats what was not answered.

use reqwest::{RequestBuilder, StatusCode};

/// What a client was told.
#[derive(Default)]
pub struct Ledger {
    /// The word of each post that was acknowledged.
    pub acknowledged: Vec<String>,
    /// The post that was sent and not answered.
    pub open: Option<Open>,
    /// Increments of the client's counter that were accepted.
    pub increments: i64,
    /// Whether one was sent and not answered.
    pub open_increment: bool,
}

pub struct Open {
    pub word: String,
    number: u64,
}

pub struct Client {
    pub id: u64,
    next: u64,
    /// The number of the increment that is sent next.
    increment: u64,
    http: reqwest::Client,
    pub ledger: Ledger,
}

impl Client {
    pub fn new(id: u64) -> Self {
        let http = testkit::client::async_builder().build().expect("a client");
        Self { id, next: 1, increment: 1, http, ledger: Ledger::default() }
    }

    /// Posts until the leader is gone.
    pub async fn work(mut self, url: String) -> Self {
        while self.post(&url).await && self.increment(&url).await {}
        self
    }

    /// Posts what is open until it is answered.
    pub async fn settle(mut self, url: &str) -> Self {
        while self.ledger.open.is_some() {
            self.post(url).await;
        }
        while self.ledger.open_increment {
            self.increment(url).await;
        }
        self
    }

    /// Posts the open text, or the next one; `false` once the leader is gone.
    async fn post(&mut self, url: &str) -> bool {
        let open = self.ledger.open.take().unwrap_or_else(|| {
            let number = self.next;
            self.next += 1;
            Open { word: format!("c{}n{number}", self.id), number }
        });
        // Each third post asks for the disk.
        let level = if open.number.is_multiple_of(3) { "disk" } else { "leader" };
        let request = self.http.post(format!("{url}/post?ack={level}")).header("content-type", "text/plain");
        let request = self.named(request, open.number).body(format!("{} all", open.word));
        match request.send().await {
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => self.ledger.acknowledged.push(open.word),
            Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
                self.ledger.open = Some(open); // it stops, and certainly did not count it now
                return false;
            }
            Ok(answer) => panic!("an answer that was not expected: {answer:?}"),
            Err(_) => {
                self.ledger.open = Some(open);
                return false;
            }
        }
        true
    }

    /// Sends the open increment, or the next one; `false` once the leader is gone.
    async fn increment(&mut self, url: &str) -> bool {
        let request = self.http.post(format!("{url}/counter/c{}/increment", self.id));
        let request = request.header("idempotency-key", format!("{}-{}", self.id, self.increment));
        self.ledger.open_increment = true;
        let accepted = match request.send().await.map(|answer| answer.status()) {
            Ok(StatusCode::ACCEPTED) => 1,
            // The queue is full: a repeat of one that was accepted is told so all the same.
            Ok(StatusCode::TOO_MANY_REQUESTS) => 0,
            Ok(StatusCode::SERVICE_UNAVAILABLE) | Err(_) => return false,
            Ok(status) => panic!("an increment was answered {status}"),
        };
        (self.ledger.open_increment, self.increment) = (false, self.increment + 1);
        self.ledger.increments += accepted;
        true
    }

    /// Half of the clients use keys, half streams.
    fn named(&self, request: RequestBuilder, number: u64) -> RequestBuilder {
        if self.id.is_multiple_of(2) {
            return request.header("idempotency-key", format!("{}-{number}", self.id));
        }
        request.header("memdb-stream", format!("client-{}", self.id)).header("memdb-stream-seq", number)
    }
}
