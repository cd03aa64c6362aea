//! `POST /promote`.

use super::{Client, ClientError};
use crate::{base::position::Epoch, base::secret::Secret};
use reqwest::header;
use serde::Deserialize;

impl Client {
    /// Asks a replica to lead; gives the epoch in which it is about to.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal says who or what is in the way.
    pub async fn promote(&self, force: bool, secret: Option<&Secret>) -> Result<Epoch, ClientError> {
        #[derive(Deserialize)]
        struct PromotionReply {
            epoch: Epoch,
        }
        let force: &[_] = if force { &[("force", "true")] } else { &[] };
        let mut request = self.http.post(self.address("/promote", force)).header(header::CONTENT_LENGTH, "0");
        let mut client = self.clone();
        if let Some(secret) = secret {
            client.authorization = None;
            request = request.bearer_auth(secret.expose());
        }
        client.json::<PromotionReply>(request).await.map(|elected| elected.epoch)
    }
}
