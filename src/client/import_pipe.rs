//! The import from a pipe: under its name there is one text, which may come again, and is known by its batches.
//!
//! A pipe whose writer died looks like one that ended. So the end has a stream of its own in the node: the last batch,
//! which is not full, goes into it once all others are done. A text that goes on where an earlier one ended, or ends
//! where that went on, is refused before anything of it is applied that was not.

use super::{
    Client, ClientError,
    import::{ImportBatch, ImportOptions, ImportRefusal, NumberedAnswer, batch_stream, patiently},
};
use reqwest::header;
use std::collections::HashMap;

/// A number that no stream reaches: a write under it is refused, and the refusal says how far the stream is.
const UNREACHED: u64 = u64::MAX - 1;

/// The text that was imported before under the name of a pipe, as far as it was asked for.
#[derive(Debug, Default)]
pub(super) struct EarlierText {
    /// By namespace, true if the text ended in it.
    ended: HashMap<String, bool>,
    /// The last number of each stream of such a namespace.
    done: HashMap<(String, usize), u64>,
}

impl Client {
    /// Refuses a batch that comes behind the end of the text before.
    pub(super) async fn check_goes_on(
        &self,
        batch: &ImportBatch,
        earlier: &mut EarlierText,
        options: &ImportOptions,
    ) -> Result<(), ImportRefusal> {
        let namespace = &batch.namespace;
        let has_ended = match earlier.ended.get(namespace) {
            Some(known) => *known,
            None => {
                let has_ended = self.stream_last(batch, &end_stream(options), options).await? > 0;
                earlier.ended.insert(namespace.clone(), has_ended);
                has_ended
            }
        };
        if !has_ended {
            return Ok(());
        }
        let place = (namespace.clone(), batch.stream());
        let last = match earlier.done.get(&place) {
            Some(known) => *known,
            None => {
                let last = self.stream_last(batch, &batch_stream(batch.stream(), options), options).await?;
                earlier.done.insert(place, last);
                last
            }
        };
        match batch.sequence() <= last {
            true => Ok(()),
            false => Err(another(batch, "which ended there")),
        }
    }

    /// Sends the last batch of a text.
    pub(super) async fn import_end(
        &self,
        batch: &ImportBatch,
        options: &ImportOptions,
    ) -> Result<NumberedAnswer, ImportRefusal> {
        let last = self.stream_last(batch, &batch_stream(batch.stream(), options), options).await?;
        if batch.sequence() <= last {
            return Err(another(batch, "which went on there"));
        }
        self.import_batch(batch, &end_stream(options), 1, options).await
    }

    /// The last number that is done of a stream in the namespace of a batch.
    async fn stream_last(
        &self,
        batch: &ImportBatch,
        stream: &str,
        options: &ImportOptions,
    ) -> Result<u64, ImportRefusal> {
        let address = self.address("/update", &[("ns", batch.namespace.as_str())]);
        let ask = || {
            let request = self.http.post(address.clone()).header(header::CONTENT_TYPE, "application/json");
            self.send(request.header("Memdb-Stream", stream).header("Memdb-Stream-Seq", UNREACHED).body("{}"))
        };
        let error = match patiently(options, batch.stream(), ask).await {
            Err((ClientError::Refused { expected: Some(next), .. }, _)) => return Ok(next.get() - 1),
            Err((error, _)) => error,
            Ok(_) => self.strange("it takes a stream's number far ahead".to_owned()),
        };
        Err(ImportRefusal::Batch { lines: batch.lines, error, is_unknown: false })
    }
}

/// The stream of a node for the last batch of a text.
fn end_stream(options: &ImportOptions) -> String {
    format!("{}.end", options.name)
}

fn another(batch: &ImportBatch, difference: &str) -> ImportRefusal {
    ImportRefusal::AnotherText { lines: batch.lines, difference: difference.to_owned() }
}
