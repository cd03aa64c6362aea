//! Reads a bulk body as it comes, cuts it into blocks of whole lines, and hands these on: to be counted here, or to the
//! leader. It reads no further while nobody takes a block.

use super::{
    lines::{LineBlock, LineReader},
    too_many_uploads,
};
use crate::{
    api::{
        error::{ApiError, ErrorKind},
        http::state::AppState,
    },
    base::limits::BULK_BLOCK_BYTES,
    net::{address_limits::Usage, budget::BudgetShare},
};
use bytes::Buf;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use std::{pin::pin, time::Duration};
use tokio::time::Instant;

/// Whole lines wait so long for more to be counted with them.
const FLUSH_AFTER: Duration = Duration::from_millis(20);
/// … and no longer than so long, if more of them comes again and again.
const FLUSH_LATEST: Duration = Duration::from_secs(1);

/// The taker of the blocks of a body.
pub(super) trait BlockSink: Sync {
    /// Takes a block. Waits while there is no room for it.
    fn take(&self, block: LineBlock) -> impl Future<Output = ()> + Send;

    /// Ends once blocks are taken no more: the reason is told elsewhere.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}

/// The reader of one body.
pub(super) struct BodyReader<'a> {
    pub(super) state: &'a AppState,
    pub(super) usage: &'a Usage,
    /// Buffers of blocks that are done with; `None` while nothing of the body comes: none is kept then.
    pub(super) spares: &'a Mutex<Option<Vec<Vec<u8>>>>,
}

/// A body that is being read.
struct BulkReader {
    /// The memory of what it holds that no block is counted of.
    share: BudgetShare,
    /// Since when there may be whole lines that no block has.
    lines_since: Instant,
    /// Since when there may be a line that has not ended.
    line_since: Instant,
}

impl BodyReader<'_> {
    /// Reads the body and hands its blocks to `sink`, until it ends or nobody takes them any more.
    pub(super) async fn read<S, B>(
        &self,
        body: S,
        lines: &mut LineReader,
        sink: &impl BlockSink,
    ) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<B, ApiError>>,
        B: Buf,
    {
        let mut body = pin!(body);
        let now = Instant::now();
        let mut reading = BulkReader {
            share: BudgetShare::of(&self.state.budgets.uploads, self.usage),
            lines_since: now,
            line_since: now,
        };
        loop {
            let piece = tokio::select! {
                piece = self.next_piece(&mut body, lines, &mut reading, sink) => piece?,
                () = sink.closed() => return Ok(()), // the reason is told there
            };
            let Some(mut piece) = piece else { break };
            while piece.has_remaining() {
                let some = piece.chunk().len().min(BULK_BLOCK_BYTES);
                lines.push(&piece.chunk()[..some]);
                piece.advance(some);
                reading.share.set(lines.held()).map_err(too_many_uploads)?;
                if let Some(spare) = self.spares.lock().get_or_insert_default().pop() {
                    lines.reuse(spare);
                }
                self.cut(lines, &mut reading, sink).await?;
            }
        }
        if let Some(block) = lines.last()? {
            sink.take(block).await;
        }
        Ok(())
    }

    /// Hands on blocks of what has just come: once there is enough for one, or its first lines have waited long.
    /// What is handed on is charged no longer.
    async fn cut(
        &self,
        lines: &mut LineReader,
        reading: &mut BulkReader,
        sink: &impl BlockSink,
    ) -> Result<(), ApiError> {
        let now = Instant::now();
        let late = now - reading.lines_since >= FLUSH_LATEST;
        while let Some(block) = lines.block(late)? {
            (reading.lines_since, reading.line_since) = (now, now);
            // It is held until there is a place for it.
            reading.share.set(block.bytes.capacity() + lines.len()).map_err(too_many_uploads)?;
            sink.take(block).await;
            reading.share.set(lines.held()).map_err(too_many_uploads)?;
        }
        if late {
            reading.lines_since = now;
        }
        if lines.len() == 0 {
            (reading.lines_since, reading.line_since) = (now, now);
        }
        let patience = self.state.settings.body_timeout;
        if late && now - reading.line_since >= patience {
            let detail = format!("a line was not whole after {} ms", patience.as_millis());
            return Err(ApiError::new(ErrorKind::RequestTimeout, detail));
        }
        Ok(())
    }

    /// The next piece; meanwhile, whole lines do not wait for ever.
    async fn next_piece<S, B>(
        &self,
        body: &mut S,
        lines: &mut LineReader,
        reading: &mut BulkReader,
        sink: &impl BlockSink,
    ) -> Result<Option<B>, ApiError>
    where
        S: Stream<Item = Result<B, ApiError>> + Unpin,
        B: Buf,
    {
        let next = match tokio::time::timeout(FLUSH_AFTER, body.next()).await {
            Ok(next) => next,
            Err(_) => {
                if let Some(block) = lines.block(true)? {
                    reading.line_since = Instant::now();
                    sink.take(block).await;
                }
                // A body that pauses holds its unfinished line and no more.
                *self.spares.lock() = None;
                lines.rest();
                reading.share.set(lines.held()).map_err(too_many_uploads)?;
                reading.lines_since = Instant::now();
                let patience = self.state.settings.body_timeout;
                tokio::time::timeout(patience, body.next()).await.map_err(|_| {
                    let detail = format!("nothing of the body came for {} ms", patience.as_millis());
                    ApiError::new(ErrorKind::RequestTimeout, detail)
                })?
            }
        };
        next.transpose()
    }
}
