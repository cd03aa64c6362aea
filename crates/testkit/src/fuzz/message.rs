//! Messages between nodes: nobody vouches for these bytes. What is read says the same once it is written again.

use memdb::replication::{AppendAnswer, AppendRequest, NodeState};

/// The first byte: which message.
pub fn message(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 3 {
        0 => {
            if let Ok(hello) = NodeState::decode(bytes) {
                super::accepted();
                let encoded = hello.encode();
                assert!(encoded.len() <= bytes.len(), "the shortest form");
                assert_eq!(NodeState::decode(&encoded), Ok(hello));
            }
        }
        1 => {
            if let Ok(answer) = AppendAnswer::decode(bytes) {
                super::accepted();
                let encoded = answer.encode();
                assert!(encoded.len() <= bytes.len(), "the shortest form");
                assert_eq!(AppendAnswer::decode(&encoded), Ok(answer));
            }
        }
        _ => {
            if let Ok(offer) = AppendRequest::decode(bytes) {
                super::accepted();
                assert!(offer.records.len() < bytes.len() && bytes.ends_with(offer.records));
                let mut encoded = offer.encode_head();
                encoded.extend_from_slice(offer.records);
                assert!(encoded.len() <= bytes.len(), "the shortest form");
                assert_eq!(AppendRequest::decode(&encoded), Ok(offer));
            }
        }
    }
}
