//! `GET /export`: counts and entries in a form that others read, made as the client takes it.
//!
//! Lines of NDJSON hold everything that `memdb import` needs, and say at the end what there was: an export that broke
//! off is known by that. The other formats hold counts.

mod format;

use super::{
    chunks::{ChunkSource, ChunkedBody},
    headers,
    query::{self, QueryString},
    reads,
    request::RouteRequest,
    settings::SYNC_CHUNK_BYTES,
};
use crate::{
    api::{
        error::ApiError,
        service::{ExportWalk, QueryReply, WholeContent},
    },
    base::position::PositionToken,
};
use format::ExportFormat;
use warp::reply::Response;

/// Everything of a namespace, or of all of them, in pieces.
pub(super) async fn export(request: RouteRequest) -> Result<Response, ApiError> {
    let (asked, coding, state) = (request.read_headers()?, request.wanted_coding(), &request.state);
    let query = request.parse_query()?;
    let format = format(&query)?;
    let namespace = query.names_namespace.then(|| query.namespace.into_owned());
    let has_one = namespace.is_some();
    let now = state.service.logged_time();
    let whole = WholeContent { namespace, has_entries: format == ExportFormat::Ndjson, now };
    let min_position = reads::min_position(&asked)?;
    let QueryReply { answer: walk, position, lag_ms } =
        state.service.query(whole, min_position, &request.client.usage).await?;
    let chunks = ExportChunks { writer: format::ExportWriter::new(format, has_one), walk, position, is_done: false };
    let encoding = (coding, &state.budgets.encoders, &request.client.usage);
    let body = ChunkedBody::of(chunks);
    Ok(headers::streamed_answer(body, format.media_type(), (position, lag_ms), None, encoding))
}

fn format(query: &QueryString<'_>) -> Result<ExportFormat, ApiError> {
    let name = query.format.as_deref().unwrap_or("ndjson");
    ExportFormat::named(name).ok_or_else(|| query::invalid("format is ndjson, csv, tsv or json"))
}

/// The pieces of an export.
struct ExportChunks {
    writer: format::ExportWriter,
    walk: ExportWalk,
    /// The position at which it began.
    position: PositionToken,
    is_done: bool,
}

impl ChunkSource for ExportChunks {
    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        if self.is_done {
            return None;
        }
        let mut chunk = Vec::with_capacity(SYNC_CHUNK_BYTES + SYNC_CHUNK_BYTES / 4);
        self.writer.begin(&self.walk, self.position, &mut chunk);
        while chunk.len() < SYNC_CHUNK_BYTES {
            let writer = &mut self.writer;
            let goes_on = self.walk.step(&mut |item| writer.write(&item, &mut chunk));
            if !goes_on {
                self.is_done = true;
                self.writer.end(self.walk.position(), &mut chunk);
                break;
            }
        }
        Some(chunk)
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}
