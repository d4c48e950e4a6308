//! The door of the fuzzers to what is written on containers; see [`crate::fuzzing`].

use std::collections::HashMap;

use super::labels;
use crate::engine::{ImageTag, Start};
use crate::tree::{ApiId, Revision, Spec};
use crate::world::instance::InstanceName;

/// Reads labels that all say `text`, and those of an instance whose API is called so.
#[allow(clippy::missing_panics_doc, reason = "to panic is what this function is for")]
pub fn labels(text: &str) {
    let keys = [labels::API, labels::REVISION, labels::NUMBER, labels::SPEC, labels::PORT];
    let mut written: HashMap<String, String> = keys.map(|key| (key.to_owned(), text.to_owned())).into();
    if let Ok(read) = labels::read(&written) {
        assert_eq!(read.api.as_str(), text);
        assert_eq!(read.revision.as_str(), text);
    }
    written.insert(labels::NUMBER.to_owned(), "7".to_owned());
    assert_eq!(labels::read(&written).is_ok(), ApiId::new(text).is_ok());

    let Ok(api) = ApiId::new(text) else { return };
    let revision = Revision::from_label(text);
    let name = InstanceName::new(&api, &revision, 3);
    let run = Spec::built_in(text).run();
    let job = Start {
        name,
        api: api.clone(),
        revision: revision.clone(),
        number: 3,
        image: ImageTag(text.into()),
        run,
        secrets: None,
    };
    let read = labels::read(&labels::of_instance("owner", &job)).expect("our own labels are read");
    assert_eq!((read.api, read.revision, read.number), (api, revision, 3));
}
