//! Long work, beside the threads that serve.

use crate::{
    api::error::{ApiError, ErrorKind},
    net::address_limits::{Line, Usage},
};

/// Runs long work beside the serving threads, once the client's address has a turn.
///
/// # Errors
/// Those of the work, or that it died.
pub(in crate::api) async fn beside<T: Send + 'static>(
    usage: &Usage,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = usage.turn(Line::LongTexts).await;
    // The turn ends with the work, also if nobody asks for it any more.
    let work = move || {
        let done = work();
        drop(turn);
        done
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(ApiError::new(ErrorKind::Internal, "the text could not be taken apart; nothing was applied")),
    }
}
