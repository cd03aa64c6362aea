//! A request as the routes see it, and what they read from its headers.

use super::{
    coding::ContentCoding,
    headers::DedupHeaders,
    node_request::NodeRequest,
    query::{QueryString, RouteParameters},
    secret_throttle::ConnectionPeer,
    state::AppState,
};
use crate::{
    api::auth::Principal,
    api::error::{ApiError, ErrorKind},
    net::write_forwarder::FORWARDED,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, Method, header};
use std::sync::Arc;
use warp::path::FullPath;

/// A body as it comes.
pub(super) type BodyStream = BoxStream<'static, Result<Bytes, warp::Error>>;

/// A request whose path and method are a route's.
pub(super) struct RouteRequest {
    pub(super) state: Arc<AppState>,
    pub(super) method: Method,
    pub(super) path: FullPath,
    /// The part of the path that stands where the route has `{name}`, as it was sent.
    pub(super) name: String,
    /// The text after the `?`.
    pub(super) query: String,
    /// The parameters that the route knows.
    pub(super) parameters: RouteParameters,
    pub(super) headers: HeaderMap,
    pub(super) client: ConnectionPeer,
    /// Who asks, where there are users and the route is not for everybody.
    pub(super) principal: Option<Arc<Principal>>,
    pub(super) body: BodyStream,
}

/// The headers of a read.
#[derive(Debug)]
pub(super) struct ReadHeaders {
    pub(super) min_position: Option<String>,
    pub(super) if_none_match: Option<String>,
}

/// The headers of a write.
#[derive(Debug)]
pub(super) struct WriteHeaders {
    pub(super) naming: DedupHeaders,
    pub(super) content_type: Option<String>,
    pub(super) content_length: Option<String>,
}

/// The cluster secret that a request carries, and the address it came from.
#[derive(Debug)]
pub(super) struct NodeCredentials {
    pub(super) authorization: Option<String>,
    /// True if a user, or a node, was found to have the right already.
    pub(super) is_admitted: bool,
    pub(super) client: ConnectionPeer,
}

impl RouteRequest {
    /// A header, if it was sent.
    pub(super) fn header(&self, name: &str) -> Result<Option<String>, ApiError> {
        let text = self.headers.get(name).map(|value| value.to_str().map(str::to_owned)).transpose();
        text.map_err(|_| {
            ApiError::new(ErrorKind::InvalidHeader, format!("{name} holds other than visible ASCII characters"))
        })
    }

    /// A header that holds a list, and may come in several lines.
    pub(super) fn header_list(&self, name: &str) -> Result<Option<String>, ApiError> {
        let first = self.header(name)?;
        let mut list = self.headers.get_all(name).iter().skip(1).peekable();
        if list.peek().is_none() {
            return Ok(first);
        }
        let others: Result<Vec<&str>, _> = list.map(|value| value.to_str()).collect();
        let others = others.map_err(|_| {
            ApiError::new(ErrorKind::InvalidHeader, format!("{name} holds other than visible ASCII characters"))
        })?;
        Ok(first.map(|first| format!("{first}, {}", others.join(", "))))
    }

    /// Reads the text after the `?`.
    pub(super) fn parse_query(&self) -> Result<QueryString<'_>, ApiError> {
        QueryString::parse(&self.query, self.parameters)
    }

    pub(super) fn read_headers(&self) -> Result<ReadHeaders, ApiError> {
        let min_position = self.header("memdb-min-position")?;
        Ok(ReadHeaders { min_position, if_none_match: self.header("if-none-match")? })
    }

    pub(super) fn naming(&self) -> Result<DedupHeaders, ApiError> {
        Ok(DedupHeaders {
            key: self.header("idempotency-key")?,
            stream: self.header("memdb-stream")?,
            stream_sequence: self.header("memdb-stream-seq")?,
        })
    }

    pub(super) fn write_headers(&self) -> Result<WriteHeaders, ApiError> {
        let naming = self.naming()?;
        let content_type = self.header("content-type")?;
        Ok(WriteHeaders { naming, content_type, content_length: self.header("content-length")? })
    }

    /// Of which database a follower says to be that has sent a write.
    pub(super) fn forwarded(&self) -> Result<Option<String>, ApiError> {
        self.header(FORWARDED)
    }

    /// The request of a node; none if a client asks.
    pub(super) fn of_node(&self) -> Option<NodeRequest> {
        NodeRequest::of(&self.method, &self.headers)
    }

    pub(super) fn credentials(&self) -> Result<NodeCredentials, ApiError> {
        let is_admitted = self.principal.is_some();
        Ok(NodeCredentials { authorization: self.header("authorization")?, client: self.client.clone(), is_admitted })
    }

    /// The coding that `Accept-Encoding` asks for.
    pub(super) fn wanted_coding(&self) -> Option<ContentCoding> {
        ContentCoding::wanted(
            self.headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()),
        )
    }
}
