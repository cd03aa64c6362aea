//! Entries of a node, one at a time or listed: values of a cache, and posts.

use super::{Client, ClientError};
use crate::{base::position::PositionToken, data::entries::CollectionKind};
use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, Url, header};
use serde::Deserialize;
use serde_json::Value;

/// The place of an entry.
#[derive(Clone, Copy, Debug)]
pub struct EntryPath<'a> {
    /// [`CollectionKind::Cache`] or [`CollectionKind::Posts`]; no route leads to the others.
    pub kind: CollectionKind,
    /// The namespace, if not `words`.
    pub namespace: Option<&'a str>,
    /// The key of the value, or the id of the post.
    pub key: &'a str,
}

/// A value on its way to a node.
#[derive(Clone, Debug, Default)]
pub struct EntryUpload<'a> {
    /// The value.
    pub bytes: Bytes,
    /// The media type it is served under; without one the node decides.
    pub content_type: Option<&'a str>,
    /// Seconds until it expires, as text: decimals are kept as they are.
    pub ttl: Option<&'a str>,
    /// True if the words of a post are not to be counted.
    pub is_uncounted: bool,
    /// The acknowledgement level, if not the leader's own.
    pub ack: Option<&'a str>,
    /// The tag that the entry must have; `*` asks only that it is there.
    pub if_match: Option<&'a str>,
    /// True if the entry must not be there.
    pub if_absent: bool,
}

/// An entry as a node serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryAnswer {
    /// The value.
    pub bytes: Bytes,
    /// Its media type.
    pub content_type: String,
    /// Its tag, as in `ETag`.
    pub etag: String,
    /// The position at which it was read.
    pub position: PositionToken,
}

/// An entry as a list shows it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EntrySummary {
    /// The key of the value, or the id of the post.
    #[serde(alias = "id")]
    pub key: String,
    /// Bytes of the value.
    pub bytes: u64,
    /// Its media type, if it has one.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Its tag.
    #[serde(default)]
    pub etag: Option<String>,
    /// Seconds until it expires; `None` if it stays.
    #[serde(default)]
    pub expires_in: Option<f64>,
}

/// A part of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct EntryList {
    /// The entries, in the node's own order.
    #[serde(alias = "posts")]
    pub keys: Vec<EntrySummary>,
    /// The key to go on behind; `None` at the end.
    pub next: Option<String>,
}

impl Client {
    /// Sets an entry; gives the node's answer. Repeating it is harmless: an equal value changes nothing, an equal post
    /// counts nothing again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a condition does not hold (412) or the node refuses the value,
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came.
    pub async fn put_entry(&self, path: EntryPath<'_>, upload: EntryUpload<'_>) -> Result<Value, ClientError> {
        let mut query: Vec<_> = path.query();
        query.extend(upload.ttl.map(|ttl| ("ttl", ttl)));
        query.extend(upload.is_uncounted.then_some(("count", "false")));
        query.extend(upload.ack.map(|level| ("ack", level)));
        let request = self.http.request(Method::PUT, self.entry_address(path, &query));
        let mut request = conditional(request, upload.if_match);
        if upload.if_absent {
            request = request.header(header::IF_NONE_MATCH, "*");
        }
        if let Some(content_type) = upload.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        // An empty value has a length too.
        let request = request.header(header::CONTENT_LENGTH, upload.bytes.len().to_string());
        self.json(request.body(upload.bytes)).await
    }

    /// Reads an entry; `None` if it is not there.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// does not serve reads, [`ClientError::Strange`] if the answer is not memdb's.
    pub async fn entry(&self, path: EntryPath<'_>) -> Result<Option<EntryAnswer>, ClientError> {
        let response = match self.send(self.http.get(self.entry_address(path, &path.query()))).await {
            Err(ClientError::Refused { problem, .. }) if problem.ends_with("-not-found") => return Ok(None),
            sent => sent?,
        };
        let position = self.position_of(&response)?;
        let (content_type, etag) = (text_of(&response, header::CONTENT_TYPE), text_of(&response, header::ETAG));
        let bytes = response.bytes().await.map_err(|error| self.lost(&error))?;
        Ok(Some(EntryAnswer { bytes, content_type, etag, position }))
    }

    /// Gives an entry another time to live, in seconds (as text; `0` is for ever), and leaves its value. Gives the
    /// node's answer; `None` if there is no such entry.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the condition does not hold (412), [`ClientError::NothingThere`] or
    /// [`ClientError::Lost`] if no answer came.
    pub async fn touch_entry(
        &self,
        path: EntryPath<'_>,
        ttl: &str,
        if_match: Option<&str>,
    ) -> Result<Option<Value>, ClientError> {
        let mut query: Vec<_> = path.query();
        query.push(("ttl", ttl));
        let request = self.http.request(Method::PATCH, self.entry_address(path, &query));
        match self.json(conditional(request, if_match)).await {
            Err(ClientError::Refused { problem, .. }) if problem.ends_with("-not-found") => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Takes an entry away, and returns whether it was there.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the condition does not hold (412), or a count would fall below zero (409),
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came.
    pub async fn delete_entry(&self, path: EntryPath<'_>, if_match: Option<&str>) -> Result<bool, ClientError> {
        #[derive(Deserialize)]
        struct DeletionReply {
            deleted: u64,
        }
        let request = self.http.request(Method::DELETE, self.entry_address(path, &path.query()));
        let reply: Result<DeletionReply, _> = self.json(conditional(request, if_match)).await;
        match reply {
            Err(ClientError::Refused { problem, .. }) if problem.ends_with("-not-found") => Ok(false),
            reply => reply.map(|reply| reply.deleted > 0),
        }
    }

    /// Lists up to `limit` entries whose keys begin with `prefix`, behind the key `after`.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Refused`] if the node
    /// does not serve reads, [`ClientError::Strange`] if the answer is not memdb's.
    pub async fn entry_list(
        &self,
        (kind, namespace): (CollectionKind, Option<&str>),
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryList, ClientError> {
        let limit = limit.to_string();
        let mut query = vec![("prefix", prefix), ("limit", limit.as_str())];
        query.extend(namespace.map(|name| ("ns", name)));
        query.extend(after.map(|key| ("after", key)));
        self.json(self.http.get(self.address(&format!("/{}", kind.name()), &query))).await
    }

    /// Asks for `/stats`: entries, reads and evictions of the cluster and of each node.
    ///
    /// # Errors
    /// [`ClientError::NothingThere`] or [`ClientError::Lost`] if no answer came, [`ClientError::Strange`] if the answer
    /// is not memdb's.
    pub async fn entry_stats(&self) -> Result<Value, ClientError> {
        self.json(self.http.get(self.address("/stats", &[]))).await
    }

    fn entry_address(&self, path: EntryPath<'_>, query: &[(&str, &str)]) -> Url {
        self.address(&path.url_path(), query)
    }
}

impl<'a> EntryPath<'a> {
    /// The path with the key in one segment. A path cannot name `.` and `..`: whoever reads URLs takes them for steps.
    pub(super) fn url_path(&self) -> String {
        let key: String = form_urlencoded::byte_serialize(self.key.as_bytes()).collect();
        // That encoding writes a space as `+`, and a plus as %2B.
        format!("/{}/{}", self.kind.name(), key.replace('+', "%20"))
    }

    fn query(&self) -> Vec<(&'static str, &'a str)> {
        self.namespace.map(|name| ("ns", name)).into_iter().collect()
    }
}

fn conditional(request: RequestBuilder, if_match: Option<&str>) -> RequestBuilder {
    match if_match {
        Some(tag) => request.header(header::IF_MATCH, tag),
        None => request,
    }
}

fn text_of(response: &Response, name: header::HeaderName) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_of_the_path_whatever_is_in_it() {
        let client = Client::new("localhost:8080").expect("good");
        let of = |key| EntryPath { kind: CollectionKind::Cache, namespace: Some("a"), key };
        let url = |key| client.entry_address(of(key), &of(key).query()).to_string();
        for (key, path) in [
            ("plain-1.txt", "plain-1.txt"),
            ("a b+c", "a%20b%2Bc"),
            ("a/../b?c#d%2F", "a%2F..%2Fb%3Fc%23d%252F"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(url(key), format!("http://localhost:8080/cache/{path}?ns=a"), "{key}");
        }
    }
}
