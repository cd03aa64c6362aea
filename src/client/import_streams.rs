//! The batches of an import on their way: some streams of them beside each other, each in its order.

use super::{
    Client,
    import::{ImportBatch, ImportOptions, ImportProgress, ImportRefusal, batch_stream},
    import_pipe::EarlierText,
};
use crate::base::limits::{IMPORT_BATCHES_AHEAD, IMPORT_STREAMS};
use std::collections::HashMap;
use tokio::sync::mpsc;

impl Client {
    /// Sends batches in the streams that they are in.
    ///
    /// # Errors
    /// The first batch that was refused, or not answered within the patience; of a pipe, also one that comes behind the
    /// end of the text that came before under its name.
    pub async fn import(
        &self,
        mut batches: mpsc::Receiver<ImportBatch>,
        options: &ImportOptions,
        progress: &ImportProgress,
    ) -> Result<(), ImportRefusal> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..IMPORT_STREAMS).map(|_| mpsc::channel(IMPORT_BATCHES_AHEAD)).unzip();
        let streams = receivers.into_iter().map(|batches| self.import_stream(batches, options, progress));
        let distributed = async move {
            let mut earlier = EarlierText::default();
            while let Some(batch) = batches.recv().await {
                if options.is_pipe {
                    self.check_goes_on(&batch, &mut earlier, options).await?;
                }
                // A stream that has ended says itself why.
                if senders[batch.stream()].send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        futures::future::try_join(distributed, futures::future::try_join_all(streams)).await.map(drop)
    }

    /// Sends the batch that was open at the end of an input, once all others are done.
    ///
    /// # Errors
    /// If it was refused, or not answered within the patience; of a pipe, also if another text came before under its
    /// name.
    pub async fn import_last(
        &self,
        batch: &ImportBatch,
        options: &ImportOptions,
        progress: &ImportProgress,
    ) -> Result<(), ImportRefusal> {
        let answer = if options.is_pipe {
            self.import_end(batch, options).await?
        } else {
            self.import_batch(batch, &batch_stream(batch.stream(), options), batch.sequence(), options).await?
        };
        progress.add(batch, answer.replayed);
        Ok(())
    }

    /// Sends the batches of one stream, in their order.
    async fn import_stream(
        &self,
        mut batches: mpsc::Receiver<ImportBatch>,
        options: &ImportOptions,
        progress: &ImportProgress,
    ) -> Result<(), ImportRefusal> {
        let mut done = HashMap::new();
        while let Some(batch) = batches.recv().await {
            let sequence = batch.sequence();
            // The last that is done is sent again: the node has its body in mind, and would refuse another.
            let mut was_there = done.get(&batch.namespace).is_some_and(|last| sequence < *last);
            if !was_there {
                let stream = batch_stream(batch.stream(), options);
                let answer = self.import_batch(&batch, &stream, sequence, options).await?;
                was_there = answer.replayed;
                if let Some(last) = answer.stream_last {
                    done.insert(batch.namespace.clone(), last);
                }
            }
            progress.add(&batch, was_there);
        }
        Ok(())
    }
}
