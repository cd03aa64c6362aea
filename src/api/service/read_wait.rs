//! Reads, which may wait for a position.

use super::{QueryReply, ReadQuery, Service, no_word};
use crate::{
    api::error::{ApiError, BEHIND_A_PROXY, ErrorKind},
    base::position::{PositionStatus, PositionToken},
    net::{address_limits::Usage, budget::BudgetRefusal},
};

impl Service {
    /// Answers a query, once the position that it asks for is applied here.
    ///
    /// # Errors
    /// If there is nothing to read, the position is not reached in time or never will be, or a name names no word.
    pub async fn query<Q: ReadQuery>(
        &self,
        query: Q,
        min_position: Option<PositionToken>,
        usage: &Usage,
    ) -> Result<QueryReply<Q::Answer>, ApiError> {
        let lag_ms = self.wait_for(min_position, usage).await?;
        let (answer, position) = query.answer(&*self.current()?).ok_or_else(|| no_word(ErrorKind::InvalidParameter))?;
        Ok(QueryReply { answer, position, lag_ms })
    }

    /// Waits until a position is applied here. Returns the lag from before the read that follows: what is read then is
    /// at least as new.
    ///
    /// # Errors
    /// If there is nothing to read, or the position is not reached in time or never will be.
    pub async fn wait_for(&self, position: Option<PositionToken>, usage: &Usage) -> Result<Option<u64>, ApiError> {
        let Some(asked) = position else { return Ok(self.view.lag_ms()) };
        let mut status = self.view.position_status_now(asked);
        if matches!(status, None | Some(PositionStatus::Ahead)) {
            let _waiting = self.waiting_reads.take(usage, 1).map_err(|why| too_many_wait(asked, why))?;
            status = self.view.position_status(asked, self.position_wait).await;
        }
        match status {
            None => Err(nothing_to_read()),
            Some(PositionStatus::Reached) => Ok(self.view.lag_ms()),
            Some(PositionStatus::Ahead) => Err(ApiError::new(
                ErrorKind::PositionAhead,
                format!("{asked} is not applied here yet; ask again, or another node"),
            )),
            Some(PositionStatus::Lost) => Err(ApiError::new(
                ErrorKind::PositionLost,
                format!("this history went on without {asked}: what was written there must be sent again"),
            )),
            Some(PositionStatus::OtherDatabase) => {
                Err(ApiError::new(ErrorKind::PositionOtherDatabase, self.position_of_another(asked)))
            }
        }
    }

    fn position_of_another(&self, asked: PositionToken) -> String {
        let here = self.current().map_or_else(|_| "another".to_owned(), |current| current.identity.tag().to_string());
        format!(
            "{asked} is of database {}, and this node serves database {here}: ask a node of that database, or, if that is \
             lost, send again what was written there",
            asked.database
        )
    }
}

/// The error of a follower that has nothing, or nothing that is right.
pub(super) fn nothing_to_read() -> ApiError {
    let detail = "this node has not received the counts of its leader yet; ask again, or another node";
    ApiError::new(ErrorKind::NotReady, detail)
}

fn too_many_wait(asked: PositionToken, exhausted: BudgetRefusal) -> ApiError {
    let detail = match exhausted {
        BudgetRefusal::All => format!("{asked} is not applied here yet, and no more reads may wait; ask again"),
        BudgetRefusal::Address { share, .. } => format!(
            "{asked} is not applied here yet, and {share} reads of this address wait already, its share; ask again, or \
             another node; {BEHIND_A_PROXY}"
        ),
    };
    ApiError::new(ErrorKind::PositionAhead, detail)
}
