//! How HTTP tells an [`ApiError`]: as `application/problem+json` (RFC 9457), the one shape of everything wrong.

use super::{headers, settings::RETRY_AFTER_SECONDS};
use crate::api::error::{ApiError, ErrorKind};
use http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

/// The ways in which a client may say whose its requests are.
const CHALLENGE: &str = "Bearer, Basic realm=\"memdb\", charset=\"UTF-8\"";

impl ApiError {
    /// A panic: it costs one answer.
    pub(super) fn defect() -> Self {
        Self::new(ErrorKind::Internal, "a defect of this server; its log says more")
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status()).expect("a test has seen every status")
    }

    /// The body: a JSON object of RFC 9457, what a person reads first, and a newline.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut members: Vec<(&str, serde_json::Value)> = vec![
            ("type", format!("urn:memdb:problem:{}", self.kind.slug()).into()),
            ("title", self.kind.title().into()),
            ("status", self.kind.status().into()),
            ("detail", (*self.detail).into()),
        ];
        members.extend(self.expected.map(|expected| ("expected", expected.into())));
        if let Some(position) = &self.applied {
            members.extend([("applied", true.into()), ("position", position.to_string().into())]);
        }
        let others = self.members.iter().filter_map(|members| members.as_object()).flatten();
        members.extend(others.map(|(name, value)| (name.as_str(), value.clone())));
        let mut body = Vec::with_capacity(256);
        for (at, (name, value)) in members.iter().enumerate() {
            body.push(if at == 0 { b'{' } else { b',' });
            headers::write_json_string(&mut body, name);
            body.extend_from_slice(format!(":{value}").as_bytes());
        }
        body.extend_from_slice(b"}\n");
        body
    }

    /// Seconds after which to come again.
    fn retry_after_seconds(&self) -> u64 {
        // A key whose window has room could not wait for it: the queue moves on sooner.
        let of_window =
            self.quota.as_ref().filter(|quota| quota.remaining == 0).map(|quota| quota.reset_ms.div_ceil(1_000));
        of_window.map_or(RETRY_AFTER_SECONDS.into(), |seconds| seconds.max(1))
    }

    pub(super) fn into_response(self) -> Response {
        let (mut response, retry_after) = (Response::new(self.body().into()), self.retry_after_seconds());
        *response.status_mut() = self.status();
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(position) = self.applied {
            fields.insert(&headers::MEMDB_POSITION, headers::position_value(*position));
        }
        if let Some((position, lag_ms)) = self.read_at.as_deref() {
            fields.insert(&headers::MEMDB_POSITION, headers::position_value(*position));
            headers::set_lag(&mut response, *lag_ms);
        }
        let fields = response.headers_mut();
        if let Some(leads) = self.leads {
            fields.insert(&headers::MEMDB_DATABASE, headers::value(String::from(leads)));
        }
        if self.kind == ErrorKind::Unauthenticated {
            fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        if self.kind.repeat_later() {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        if let Some(quota) = self.quota {
            headers::set_rate_limit(&mut response, *quota);
        }
        let fields = response.headers_mut();
        if let Some(accepted) = self.accepted {
            let is_method = self.kind == ErrorKind::MethodNotAllowed;
            let name = if is_method { &header::ALLOW } else { &headers::ACCEPT_POST };
            fields.insert(name, headers::value(accepted.into_owned()));
        }
        response
    }

    /// The whole answer as bytes, for a connection that hyper does not answer on: it is closed afterwards.
    pub(super) fn into_closing_response(self) -> Vec<u8> {
        let body = self.body();
        let status = self.status();
        let retry =
            if self.kind.repeat_later() { format!("retry-after: {RETRY_AFTER_SECONDS}\r\n") } else { String::new() };
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n{retry}connection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or("Error"),
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::counts::quotas::QuotaKind;
    use crate::{
        base::position::{DatabaseTag, Position},
        engine::leader::{AckLevel, WriteError},
    };

    #[test]
    fn a_problem_begins_with_what_a_person_reads_first() {
        let gap = ApiError::of_write(&WriteError::StreamGap { expected: 7 }, DatabaseTag::of(7))
            .with(serde_json::json!({ "taken": 0 }));
        let body = String::from_utf8(gap.body()).expect("JSON is UTF-8");
        let begin = r#"{"type":"urn:memdb:problem:stream-gap","title":"The stream has a gap","status":409,"detail":"the stream's "#;
        assert!(body.starts_with(begin) && body.ends_with(",\"expected\":7,\"taken\":0}\n"), "{body}");
    }

    #[test]
    fn a_gap_names_the_number_the_stream_goes_on_with() {
        let problem = ApiError::of_write(&WriteError::StreamGap { expected: 7 }, DatabaseTag::of(7));
        assert_eq!((problem.status(), problem.kind().refusal_label()), (StatusCode::CONFLICT, Some("stream-gap")));
        let body: serde_json::Value = serde_json::from_slice(&problem.body()).expect("JSON");
        assert_eq!(body["expected"], 7);
        assert_eq!(body["type"], "urn:memdb:problem:stream-gap");
    }

    #[test]
    fn statuses_of_refused_writes_say_whether_to_come_again() {
        let cases = [
            (WriteError::QueueFull, 429, true),
            (WriteError::WindowFull, 429, true),
            (WriteError::KeyReused, 422, false),
            (WriteError::Overflow { word: "a".to_owned() }, 422, false),
            (WriteError::BeyondBound { word: "a".to_owned() }, 422, false),
            (WriteError::TooManyNamespaces(1), 422, false),
            (WriteError::MemoryFull, 507, false),
            (WriteError::NamespaceFull(QuotaKind::Words), 507, false),
            (WriteError::DiskFull, 503, true),
            (WriteError::Poisoned, 503, false),
            (WriteError::Stopping, 503, true),
            (WriteError::OutcomeUnknown, 500, false),
            (WriteError::NotReplicated { level: AckLevel::Replica, position: Position::ZERO }, 504, false),
            (WriteError::NoReplicaKeepsFiles, 400, false),
            (WriteError::SteppedDown, 503, false),
        ];
        for (error, status, retry) in cases {
            let response = ApiError::of_write(&error, DatabaseTag::of(7)).into_response();
            assert_eq!(response.status().as_u16(), status, "{error:?}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retry, "{error:?}");
        }
    }
}
