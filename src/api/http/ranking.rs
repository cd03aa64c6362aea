//! `GET /top`: the largest counts, of a prefix and in pages if so wanted.
//!
//! As many words as are at hand are answered whole. Longer answers are written as the client takes them, from words
//! that a budget of all clients has room for.

use super::{
    chunks::{ChunkSource, ChunkedBody},
    coding::{self, ContentCoding, SMALLEST_ENCODED_BYTES},
    headers, reads,
    request::{ReadHeaders, RouteRequest},
    settings::SYNC_CHUNK_BYTES,
    state::AppState,
};
use crate::{
    api::{
        error::{ApiError, BEHIND_A_PROXY, ErrorKind},
        service::{QueryReply, RankingAnswer, RankingRequest},
    },
    base::limits::MAX_TOP,
    net::{
        address_limits::Usage,
        budget::{BudgetRefusal, BudgetShare},
    },
};
use http::StatusCode;
use std::{io::Write, vec};
use warp::reply::Response;

/// The largest counts, or the page of them that is asked for.
pub(super) async fn top(request: RouteRequest) -> Result<Response, ApiError> {
    let (asked, coding, state) = (request.read_headers()?, request.wanted_coding(), &request.state);
    let query = request.parse_query()?;
    let page = RankingRequest {
        namespace: &query.namespace,
        n: query.top()?,
        prefix: query.entries.prefix.as_deref().unwrap_or_default(),
        after: query.after.as_deref().unwrap_or_default(),
    };
    let usage = &request.client.usage;
    let mut reply = state.service.ranking(page, reads::min_position(&asked)?, usage).await?;
    let next = reply.answer.next.take();
    let mut response = match reply.answer.words.len() <= MAX_TOP {
        true => whole(reply, &asked, coding),
        false => streamed(reply, &asked, coding, state, usage)?,
    };
    if let Some(next) = next {
        response.headers_mut().insert(&headers::MEMDB_NEXT, headers::value(next));
    }
    headers::set_vary(&mut response);
    Ok(response)
}

fn whole(reply: QueryReply<RankingAnswer>, asked: &ReadHeaders, coding: Option<ContentCoding>) -> Response {
    let QueryReply { answer, position, lag_ms } = reply;
    let mut body = vec![b'['];
    for (word, count) in answer.words {
        write_word(&mut body, &word, count);
    }
    end(&mut body);
    let coding = coding.filter(|_| body.len() >= SMALLEST_ENCODED_BYTES);
    let encoded = coding.and_then(|coding| Some((coding, coding::encode(coding, &body).ok()?)));
    let mut response = headers::read_answer(body, position, lag_ms, asked.if_none_match.as_deref());
    if let Some((coding, encoded)) = encoded.filter(|_| response.status() == StatusCode::OK) {
        *response.body_mut() = encoded.into();
        headers::set_coding(&mut response, coding);
    }
    response
}

fn streamed(
    reply: QueryReply<RankingAnswer>,
    asked: &ReadHeaders,
    coding: Option<ContentCoding>,
    state: &AppState,
    usage: &Usage,
) -> Result<Response, ApiError> {
    let QueryReply { answer, position, lag_ms } = reply;
    let tag = headers::weak_tag(position, answer.digest);
    if headers::matches(asked.if_none_match.as_deref(), tag.as_bytes()) {
        return Ok(headers::not_modified(position, lag_ms, tag.as_bytes()));
    }
    let bytes = answer.words.iter().map(|(word, _)| size_of::<(String, i64)>() + word.capacity()).sum();
    let share = state.budgets.rankings.take(usage, bytes).map_err(too_much)?;
    let body =
        ChunkedBody::of(RankingChunks { words: answer.words.into_iter(), state: RankingStage::Begin, _share: share });
    let encoding = (coding, &state.budgets.encoders, usage);
    Ok(headers::streamed_answer(body, "application/json", (position, lag_ms), Some(tag), encoding))
}

fn too_much(refusal: BudgetRefusal) -> ApiError {
    let detail = match refusal {
        BudgetRefusal::All => {
            "clients have not taken as many long answers yet as may be; ask again, or for fewer words".into()
        }
        BudgetRefusal::Address { share, .. } => format!(
            "this address has not taken its share of long answers yet, {share} bytes; take them, or ask for fewer \
             words; {BEHIND_A_PROXY}"
        ),
    };
    ApiError::new(ErrorKind::RankingBusy, detail)
}

/// The pieces of a long answer.
struct RankingChunks {
    words: vec::IntoIter<(String, i64)>,
    state: RankingStage,
    /// Held until the client has taken all.
    _share: BudgetShare,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RankingStage {
    Begin,
    Within,
    Done,
}

impl ChunkSource for RankingChunks {
    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Vec::with_capacity(SYNC_CHUNK_BYTES + SYNC_CHUNK_BYTES / 4);
        match self.state {
            RankingStage::Begin => chunk.push(b'['),
            RankingStage::Within => chunk.push(b','),
            RankingStage::Done => return None,
        }
        self.state = RankingStage::Within;
        while chunk.len() < SYNC_CHUNK_BYTES {
            let Some((word, count)) = self.words.next() else { break };
            write_word(&mut chunk, &word, count);
        }
        if self.words.len() == 0 {
            self.state = RankingStage::Done;
            end(&mut chunk);
        }
        Some(chunk)
    }

    fn is_done(&self) -> bool {
        self.state == RankingStage::Done
    }
}

/// Writes a word with its count, behind a comma unless it is the first of a list or of a piece.
fn write_word(into: &mut Vec<u8>, word: &str, count: i64) {
    into.extend_from_slice(if into.len() > 1 { b",{\"word\":" } else { b"{\"word\":" });
    headers::write_json_string(into, word);
    write!(into, ",\"count\":{count}}}").expect("a Vec takes every byte");
}

fn end(body: &mut Vec<u8>) {
    body.extend_from_slice(b"]\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        address_limits::{Resource, tests::halves},
        budget::Budget,
    };

    #[test]
    fn the_pieces_of_a_long_answer_are_one_list_and_hold_their_share_until_they_are_taken() {
        let usage = halves().usage([10, 0, 0, 1].into());
        for n in [1, 2, 5_000] {
            let words: Vec<(String, i64)> = (0..n).map(|at| (format!("word \"{at}\""), n - at)).collect();
            let budget = Budget::new(Resource::RankingBytes, 10, 10);
            let share = budget.take(&usage, 10).expect("all of it");
            let mut chunks =
                RankingChunks { words: words.clone().into_iter(), state: RankingStage::Begin, _share: share };
            let mut body = Vec::new();
            while let Some(chunk) = chunks.next_chunk() {
                assert!(chunk.len() < 2 * SYNC_CHUNK_BYTES && budget.take(&usage, 1).is_err());
                body.extend(chunk);
            }
            let list: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(list.len(), words.len());
            for (value, (word, count)) in list.iter().zip(&words) {
                assert_eq!(value, &serde_json::json!({ "word": word, "count": count }));
            }
            drop(chunks);
            assert!(budget.take(&usage, 10).is_ok());
        }
    }
}
