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
        // Of a write or of a read: neither has changed anything yet.
        Err(_) => {
            Err(ApiError::new(ErrorKind::Internal, "the server failed at this request, which has changed nothing"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads come here as writes do: of a list, it was said that its text could not be taken apart.
    #[tokio::test]
    async fn work_that_dies_is_an_error_of_no_text() {
        let died = beside::<()>(&Usage::default(), || panic!("planted")).await.expect_err("it died");
        assert_eq!(died.kind(), ErrorKind::Internal);
        assert!(!died.redis_text().contains("text"), "{}", died.redis_text());
    }
}
