//! What a route is: one row of the table in `routes.rs`.

use super::{
    openapi::{RequestBody, SuccessAnswer},
    query::RouteParameters,
    request::RouteRequest,
    route_access::RouteAccess,
};
use crate::api::error::ApiError;
use futures::future::BoxFuture;
use http::Method;
use std::fmt;
use warp::reply::Response;

/// The future answer of a handler.
pub(super) type RouteAnswer = BoxFuture<'static, Result<Response, ApiError>>;

/// The methods that routes take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteMethod {
    /// `GET`, and `HEAD`: the same answer without its body, which `middleware` leaves out.
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl RouteMethod {
    fn takes(self, method: &Method) -> bool {
        match self {
            RouteMethod::Get => matches!(*method, Method::GET | Method::HEAD),
            RouteMethod::Post => *method == Method::POST,
            RouteMethod::Put => *method == Method::PUT,
            RouteMethod::Patch => *method == Method::PATCH,
            RouteMethod::Delete => *method == Method::DELETE,
        }
    }

    /// The name for a person.
    pub(super) const fn name(self) -> &'static str {
        match self {
            RouteMethod::Get => "GET",
            RouteMethod::Post => "POST",
            RouteMethod::Put => "PUT",
            RouteMethod::Patch => "PATCH",
            RouteMethod::Delete => "DELETE",
        }
    }

    /// The name in `Allow`.
    pub(super) const fn allowed(self) -> &'static str {
        match self {
            RouteMethod::Get => "GET, HEAD",
            other => other.name(),
        }
    }
}

/// The labels under which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteLabel {
    Post,
    Update,
    BulkRequest,
    Wordcount,
    Sync,
    Top,
    Watch,
    Namespace,
    Export,
    Cache,
    Create,
    Posts,
    Counter,
    Data,
    Health,
    Operations,
    /// Every other path, and requests no route saw.
    Other,
}

impl RouteLabel {
    /// The value of the label `route` of `/metrics`.
    pub(super) const fn name(self) -> &'static str {
        ROUTE_LABELS[self as usize]
    }
}

/// Values of the label `route` of `/metrics`, each at the number of its [`RouteLabel`].
pub const ROUTE_LABELS: &[&str] = &[
    "post",
    "update",
    "bulk",
    "wordcount",
    "sync",
    "top",
    "watch",
    "ns",
    "export",
    "cache",
    "create",
    "posts",
    "counter",
    "data",
    "health",
    "operations",
    "other",
];

/// A method and a path, with everything the server knows of them.
pub(super) struct Route {
    method: RouteMethod,
    /// `{name}` at its end stands for one segment, `{*key}` for all the rest, slashes too, up to what stands behind it.
    path: &'static str,
    /// Bytes of `path` in front of `{name}`.
    literal: usize,
    /// The part of `path` behind `{*key}`.
    tail: &'static str,
    pub(super) label: RouteLabel,
    /// The parameters after the `?` that it knows.
    pub(super) parameters: RouteParameters,
    /// The right that a request needs where there are users: every row says it, so that no new one can be forgotten.
    pub(super) access: RouteAccess,
    pub(super) handler: fn(RouteRequest) -> RouteAnswer,
    /// A phrase that says for people what it does.
    pub(super) summary: &'static str,
    /// A call of it; none if nodes alone call it, or another route tells of it.
    pub(super) example: Option<Example>,
    /// It changes nothing, though its method could.
    pub(super) only_reads: bool,
    /// Its body may be compressed.
    pub(super) takes_compressed: bool,
    /// The body that it takes, for `GET /openapi.json`.
    pub(super) body: RequestBody,
    /// Its answer; none if nodes alone call it.
    pub(super) gives: Option<SuccessAnswer>,
    /// The parameters that it cannot do without.
    pub(super) required_parameters: &'static [&'static str],
}

/// A call of curl, for people.
pub(super) struct Example {
    /// Options before the address.
    pub(super) options: &'static str,
    /// The part behind the address.
    pub(super) target: &'static str,
}

impl Route {
    const fn new(
        method: RouteMethod,
        path: &'static str,
        label: RouteLabel,
        parameters: RouteParameters,
        access: RouteAccess,
        handler: fn(RouteRequest) -> RouteAnswer,
    ) -> Self {
        let (bytes, mut literal) = (path.as_bytes(), 0);
        while literal < bytes.len() && bytes[literal] != b'{' {
            literal += 1;
        }
        let mut tail = literal;
        while tail < bytes.len() && bytes[tail] != b'}' {
            tail += 1;
        }
        let tail = if tail < bytes.len() { path.split_at(tail + 1).1 } else { "" };
        Self {
            method,
            path,
            literal,
            tail,
            label,
            parameters,
            access,
            handler,
            summary: "",
            example: None,
            only_reads: false,
            takes_compressed: false,
            body: RequestBody::NONE,
            gives: None,
            required_parameters: &[],
        }
    }

    pub(super) const fn get(
        path: &'static str,
        label: RouteLabel,
        parameters: RouteParameters,
        access: RouteAccess,
        handler: fn(RouteRequest) -> RouteAnswer,
    ) -> Self {
        Self::new(RouteMethod::Get, path, label, parameters, access, handler)
    }

    pub(super) const fn post(
        path: &'static str,
        label: RouteLabel,
        parameters: RouteParameters,
        access: RouteAccess,
        handler: fn(RouteRequest) -> RouteAnswer,
    ) -> Self {
        Self::new(RouteMethod::Post, path, label, parameters, access, handler)
    }

    pub(super) const fn put(
        path: &'static str,
        label: RouteLabel,
        parameters: RouteParameters,
        access: RouteAccess,
        handler: fn(RouteRequest) -> RouteAnswer,
    ) -> Self {
        Self::new(RouteMethod::Put, path, label, parameters, access, handler)
    }

    pub(super) const fn patch(
        path: &'static str,
        label: RouteLabel,
        parameters: RouteParameters,
        access: RouteAccess,
        handler: fn(RouteRequest) -> RouteAnswer,
    ) -> Self {
        Self::new(RouteMethod::Patch, path, label, parameters, access, handler)
    }

    pub(super) const fn delete(
        path: &'static str,
        label: RouteLabel,
        parameters: RouteParameters,
        access: RouteAccess,
        handler: fn(RouteRequest) -> RouteAnswer,
    ) -> Self {
        Self::new(RouteMethod::Delete, path, label, parameters, access, handler)
    }

    /// Says what it does.
    pub(super) const fn does(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    /// Describes its answer.
    pub(super) const fn gives(self, answer: SuccessAnswer) -> Self {
        Self { gives: Some(answer), ..self }
    }

    /// Describes the body that it takes.
    pub(super) const fn takes_body(self, body: RequestBody) -> Self {
        Self { body, ..self }
    }

    /// Names the parameters that it cannot do without.
    pub(super) const fn requires(self, required_parameters: &'static [&'static str]) -> Self {
        Self { required_parameters, ..self }
    }

    /// Gives a call of it, and lists it for people.
    pub(super) const fn example(self, options: &'static str, target: &'static str) -> Self {
        Self { example: Some(Example { options, target }), ..self }
    }

    /// It changes nothing, so pages of other sites may send it, as they may send a `GET`.
    pub(super) const fn only_reads(self) -> Self {
        Self { only_reads: true, ..self }
    }

    /// Its body may have a `Content-Encoding`.
    pub(super) const fn takes_compressed(self) -> Self {
        Self { takes_compressed: true, ..self }
    }

    /// Returns whether a path is this route's. One `/` behind it means nothing, except in a key.
    pub(super) fn is_at(&self, path: &str) -> bool {
        if self.takes_the_rest() {
            return self.name_in(path).is_some_and(|key| !key.is_empty());
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        match self.literal < self.path.len() {
            true => self.name_in(path).is_some_and(|name| !name.is_empty() && !name.contains('/')),
            false => path == self.path,
        }
    }

    /// Returns what stands in a path where this route has `{name}`, as it was sent.
    pub(super) fn name_in<'a>(&self, path: &'a str) -> Option<&'a str> {
        let name = path.strip_prefix(&self.path[..self.literal])?;
        match self.takes_the_rest() {
            true => name.strip_suffix(self.tail),
            false => Some(name.strip_suffix('/').unwrap_or(name)),
        }
    }

    fn takes_the_rest(&self) -> bool {
        self.path.as_bytes().get(self.literal + 1) == Some(&b'*')
    }

    pub(super) fn takes(&self, method: &Method) -> bool {
        self.method.takes(method)
    }

    /// The path with `{name}` or `{*key}` where something stands for it.
    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    pub(super) fn method(&self) -> RouteMethod {
        self.method
    }
}

/// The name for people: `DELETE /ns/NAME`, `GET /cache/KEY`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, name) = self.path.strip_suffix(self.tail).unwrap_or(self.path).split_at(self.literal);
        let name = name.trim_matches(|one| "{*}".contains(one)).to_ascii_uppercase();
        f.pad(&format!("{} {before}{name}{}", self.method.name(), self.tail))
    }
}
