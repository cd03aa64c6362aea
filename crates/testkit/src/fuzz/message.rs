//! Messages between nodes: nobody vouches for these bytes. What is read says the same once it is written again.

use memdb::replication::{Answer, Hello, Offer};

/// The first byte: which message.
pub fn message(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 3 {
        0 => {
            if let Ok(hello) = Hello::decode(bytes) {
                super::accepted();
                let encoded = hello.encode();
                assert!(encoded.len() <= bytes.len(), "the shortest form");
                assert_eq!(Hello::decode(&encoded), Ok(hello));
            }
        }
        1 => {
            if let Ok(answer) = Answer::decode(bytes) {
                super::accepted();
                let encoded = answer.encode();
                assert!(encoded.len() <= bytes.len(), "the shortest form");
                assert_eq!(Answer::decode(&encoded), Ok(answer));
            }
        }
        _ => {
            if let Ok(offer) = Offer::decode(bytes) {
                super::accepted();
                assert!(offer.records.len() < bytes.len() && bytes.ends_with(offer.records));
                let mut encoded = offer.encode_head();
                encoded.extend_from_slice(offer.records);
                assert!(encoded.len() <= bytes.len(), "the shortest form");
                assert_eq!(Offer::decode(&encoded), Ok(offer));
            }
        }
    }
}
