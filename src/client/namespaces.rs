//! `GET /ns`: the namespaces of a node, with what each holds.

use super::{Client, ClientError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The namespaces of a node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NamespaceTable {
    /// They, in the order of their names.
    pub namespaces: Vec<NamespaceRow>,
}

/// A namespace and how much it holds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NamespaceRow {
    /// Its name.
    pub name: String,
    /// Distinct words.
    pub words: u64,
    /// The sum of all counts.
    pub total: i64,
    /// Memory of the words in bytes.
    pub bytes: u64,
    /// The most that it may hold, if there is a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaRow>,
    /// Its entries by their kind.
    #[serde(flatten)]
    pub entries: BTreeMap<String, EntrySums>,
}

/// The most that a namespace may hold.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct QuotaRow {
    /// Distinct words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<u64>,
    /// Memory of words and entries in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Entries of one kind.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct EntrySums {
    /// The entries.
    pub entries: u64,
    /// Their memory in bytes.
    pub bytes: u64,
}

impl Client {
    /// Asks for `/ns`: the namespaces, with what each holds.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// does not serve reads, [`ClientError::Strange`] if the answer is not memdb's.
    pub async fn namespaces(&self) -> Result<NamespaceTable, ClientError> {
        self.json(self.http.get(self.address("/ns", &[]))).await
    }
}
