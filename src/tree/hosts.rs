//! Hosts are the names by which an API is called besides `/run/<id>`: a whole host for one API.

use std::collections::BTreeMap;

use super::Tree;
use super::api::Api;
use super::diagnostic::{Diagnostic, code};
use super::id::ApiId;
use super::settle::Settler;
use super::yaml::At;

/// The most hosts of one API.
const MOST: usize = 20;

/// Takes the hosts that a file gives an API.
pub(super) fn settle(settler: &mut Settler<'_, '_>, written: &[At<String>], hosts: &mut Vec<String>) {
    hosts.clear();
    for host in written {
        if hosts.len() == MOST {
            settler.error(code::OUT_OF_BOUNDS, host, format!("{MOST} hosts are the most"), "leave some out");
            return;
        }
        if !is_host(&host.value) {
            let hint = "write a name in lower case and without a port, as in thumbs.example.com";
            settler.error(code::BAD_VALUE, host, "this is no name of a host", hint);
        } else if hosts.contains(&host.value) {
            settler.error(code::BAD_VALUE, host, "this host is there already", "write it once");
        } else {
            hosts.push(host.value.clone());
        }
    }
}

/// Whether a text names a host, in the one way in which we write it; no address, and no word like `localhost`, by which
/// the gateway itself is called.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_a_word = text.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_lowercase()));
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label) && last_is_a_word
}

/// The hosts that more than one API claims, each an error: none of them can have it for sure.
pub(super) fn conflicts(tree: &Tree, path: impl Fn(&ApiId) -> String) -> Vec<Diagnostic> {
    let mut claims: BTreeMap<&str, Vec<&ApiId>> = BTreeMap::new();
    for id in tree.folders.keys() {
        for host in tree.sound(id).map(|api: &std::sync::Arc<Api>| &api.spec.route.hosts).into_iter().flatten() {
            claims.entry(host).or_default().push(id);
        }
    }
    let shared = claims.into_iter().filter_map(|(host, ids)| match ids.as_slice() {
        [first, others @ ..] => others.last().map(|last| (host, *first, *last)),
        [] => None,
    });
    shared
        .map(|(host, first, last)| {
            let message = format!("`route.hosts`: {host} is claimed by `{first}` too, which has it");
            Diagnostic::error(code::HOST_TAKEN, path(last), message, "take it out of one of the two")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_of_several_words_in_lower_case() {
        for good in ["thumbs.example.com", "a.b", "xn--bcher-kva.example", "1.example"] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "Thumbs.example.com",
            "a.b:80",
            "10.0.0.1",
            "a..b",
            ".a.b",
            "a.b.",
            "-a.b",
            "*.b.c",
            "a_b.c",
            "a.b/c",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
