//! Quotas of namespaces, as clients see them.

use tempfile::TempDir;
use testkit::{node::lead, wire::Wire};

#[test]
fn a_namespace_that_is_full_refuses_what_is_new_and_is_listed_with_its_quota() {
    let data = TempDir::new().expect("a directory");
    let leading =
        lead(data.path(), &[("namespace-quota", "tickets=words:2,small=bytes:20000,*=words:1000")]).expect("a leader");
    let mut wire = Wire::to(leading.address());
    let plain = "HTTP/1.1\r\nContent-Type: text/plain";
    assert_eq!(wire.ask(&format!("POST /post?ns=tickets {plain}"), "hello world").status, 202);
    for target in ["POST /post?ns=tickets", "POST /bulk?ns=tickets", "PUT /posts/1?ns=tickets"] {
        let refused = wire.ask(&format!("{target} {plain}"), "one more");
        if target.contains("bulk") {
            assert!(refused.text().contains("namespace-full"), "{refused:?}");
        } else {
            assert_eq!((refused.status, &*refused.problem()), (507, "namespace-full"), "{target}");
        }
    }
    assert_eq!(wire.ask(&format!("POST /post?ns=tickets {plain}"), "hello hello").status, 202, "known words count");
    // Nothing that would be stored compressed.
    let noise = |state: &u64| Some(state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
    let large: Vec<u8> = std::iter::successors(Some(1), noise).map(|state| (state >> 56) as u8).take(30_000).collect();
    let refused = wire.ask(&format!("PUT /cache/a?ns=small {plain}"), &large);
    assert_eq!((refused.status, &*refused.problem()), (507, "namespace-full"));
    assert!(refused.detail().contains("quota of bytes"), "{refused:?}");
    assert_eq!(wire.ask(&format!("PUT /cache/a?ns=small {plain}"), "small").status, 200);
    let refused = wire.ask(&format!("PUT /cache/b?ns=small {plain}"), &large[..20_000]);
    assert_eq!(&*refused.problem(), "namespace-full", "{refused:?}");
    wire.ask("DELETE /wordcount?ns=tickets&word=world HTTP/1.1", "");
    assert_eq!(wire.ask(&format!("POST /post?ns=tickets {plain}"), "room").status, 202, "what goes makes room");
    let listed = wire.get("/ns").json();
    let quota = |name: &str| {
        let all = listed["namespaces"].as_array().expect("a list");
        all.iter().find(|namespace| namespace["name"] == name).expect("it is there")["quota"].clone()
    };
    assert_eq!(quota("tickets"), serde_json::json!({ "words": 2 }));
    assert_eq!(quota("small"), serde_json::json!({ "bytes": 20_000 }));
    let metrics = wire.get("/metrics").text().to_owned();
    assert!(metrics.contains("memdb_namespace_words_limit{ns=\"tickets\"} 2"), "{metrics}");
    assert!(metrics.contains("memdb_refused_total{reason=\"namespace-full\"}"), "{metrics}");
}
