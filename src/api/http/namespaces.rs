//! `GET /ns`: the namespaces, with what each holds.

use super::{headers, reads, request::RouteRequest};
use crate::{
    api::{
        error::ApiError,
        service::{NamespaceList, NamespaceReport, QueryReply},
    },
    data::counts::quotas::{NamespaceQuota, SharedQuotas},
    data::entries::CollectionTotals,
};
use std::{collections::BTreeMap, io::Write};
use warp::reply::Response;

/// The namespaces in the order of their names.
pub(super) async fn list(request: RouteRequest) -> Result<Response, ApiError> {
    let (asked, state) = (request.read_headers()?, &request.state);
    request.parse_query()?;
    let min_position = reads::min_position(&asked)?;
    let QueryReply { answer, position, lag_ms } =
        state.service.query(NamespaceList, min_position, &request.client.usage).await?;
    let quotas = state.service.view.quotas();
    Ok(headers::read_answer(json(&answer, quotas), position, lag_ms, asked.if_none_match.as_deref()))
}

fn json(namespaces: &BTreeMap<String, NamespaceReport>, quotas: &SharedQuotas) -> Vec<u8> {
    let mut body = br#"{"namespaces":["#.to_vec();
    for (at, (name, report)) in namespaces.iter().enumerate() {
        let NamespaceReport { words, total, bytes, entries } = report;
        body.extend_from_slice(if at == 0 { br#"{"name":"# } else { br#",{"name":"#.as_slice() });
        headers::write_json_string(&mut body, name);
        let sizes = write!(body, r#","words":{words},"total":{total},"bytes":{bytes}"#);
        sizes.expect("a Vec takes every byte");
        for (kind, CollectionTotals { entries, bytes }) in entries {
            let of_kind = write!(body, r#","{kind}":{{"entries":{entries},"bytes":{bytes}}}"#);
            of_kind.expect("a Vec takes every byte");
        }
        if let Some(NamespaceQuota { words, bytes }) = quotas.of(name) {
            let limits =
                [("words", words), ("bytes", bytes)].into_iter().filter_map(|(name, most)| Some((name, most?)));
            let limits: Vec<String> = limits.map(|(name, most)| format!(r#""{name}":{most}"#)).collect();
            write!(body, r#","quota":{{{}}}"#, limits.join(",")).expect("a Vec takes every byte");
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}\n");
    body
}
