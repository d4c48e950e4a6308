//! Ids, and all that is named after one.

use crate::engine::Images;
use crate::engine::docker::fuzzing::labels;
use crate::tree::{ApiId, Digest, Files, Requirements, Revision};
use crate::world::instance::InstanceName;

/// Reads a name as the name of a folder, as JSON, and as the labels of a container.
pub fn id(data: &[u8]) {
    if let Ok(id) = serde_json::from_slice::<ApiId>(data) {
        check(&id);
    }
    let Ok(name) = std::str::from_utf8(data) else { return };
    let id = ApiId::new(name);
    assert_eq!(id.is_ok(), is_id(name), "{name:?}");
    assert_eq!(id, name.parse());
    let json = serde_json::to_string(name).expect("a text is JSON");
    assert_eq!(serde_json::from_str::<ApiId>(&json).ok(), id.clone().ok());
    labels(name);
    match id {
        Ok(id) => {
            assert_eq!(id.as_str(), name);
            check(&id);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The rule as it is written down, in other words than those of the code.
fn is_id(name: &str) -> bool {
    let outer = |c: &u8| matches!(c, b'a'..=b'z' | b'0'..=b'9');
    match name.as_bytes() {
        [] => false,
        [one] => outer(one),
        [first, inner @ .., last] => {
            outer(first) && outer(last) && inner.len() <= 38 && inner.iter().all(|c| outer(c) || *c == b'-')
        }
    }
}

/// An id comes back from wherever it is written, and everything that is named after it may be called so.
fn check(id: &ApiId) {
    assert!(is_id(id.as_str()), "{id}");
    assert_eq!(id.to_string().parse().as_ref(), Ok(id));
    let json = serde_json::to_vec(id).expect("an id is JSON");
    assert_eq!(serde_json::from_slice::<ApiId>(&json).ok().as_ref(), Some(id));

    let digest = Digest::of(id.as_str().as_bytes());
    let revision = Revision::from(digest);
    // The most replicas that there may be.
    let instance = InstanceName::new(id, &revision, 50);
    // What the engine takes for the name of a container, and what a resolver takes for that of a host (RFC 1035).
    assert!(instance.as_str().bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'));
    assert!(instance.as_str().len() <= 63, "{instance}");
    assert_eq!(InstanceName::from_engine(&format!("/{instance}")), instance);
    let images = Images::name("0123456789abcdef", id, &digest, &Requirements::base(), &Files::new());
    assert!(images.code.0.starts_with(&format!("skep/0123456789abcdef/api-{id}:")), "{images:?}");
    assert!(images.code.0.len() <= 255, "{images:?}");
}
