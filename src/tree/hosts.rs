//! Hosts are the names by which an API is called besides `/run/<id>`: a whole host for one API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::api::Api;
use super::diagnostic::{Diagnostic, code};
use super::folder::{self, MANIFEST, is_ignored};
use super::id::ApiId;
use super::scan::Scanner;
use super::settle::Settler;
use super::yaml::At;
use super::{Tree, TreeError};
use crate::settings::Settings;

/// How an error says what to do about a host that two claim.
const HINT: &str = "take it out of one of the two";

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
            Diagnostic::error(code::HOST_TAKEN, path(last), message, HINT)
        })
        .collect()
}

/// The hosts that the sound folders of a tree claim.
#[must_use]
pub fn claimed(tree: &Tree) -> BTreeSet<String> {
    tree.folders.keys().filter_map(|id| tree.sound(id)).flat_map(|api| api.spec.route.hosts.iter().cloned()).collect()
}

/// The hosts that folders claim which are to come, and that others claim too which stay as they are. An error each, of the
/// folder that comes: what is wrong between folders that stay is nothing that it brings.
#[must_use]
pub fn taken(coming: &Tree, staying: &Tree, path: impl Fn(&ApiId) -> String) -> Vec<Diagnostic> {
    let mut holders: BTreeMap<&str, &ApiId> = BTreeMap::new();
    for api in staying.folders.keys().filter_map(|id| staying.sound(id)) {
        for host in &api.spec.route.hosts {
            holders.entry(host).or_insert(&api.id);
        }
    }
    let mut taken = Vec::new();
    for api in coming.folders.keys().filter_map(|id| coming.sound(id)) {
        for host in &api.spec.route.hosts {
            if let Some(holder) = holders.get(host.as_str()).filter(|holder| **holder != &api.id) {
                let message = format!("`route.hosts`: {host} is claimed by `{holder}` too, which stays as it is");
                taken.push(Diagnostic::error(code::HOST_TAKEN, path(&api.id), message, HINT));
            }
        }
    }
    taken
}

/// As [`taken`], where those that come come to lie beside what lies in the tree of these settings, in which `replaced` are the
/// names of what does not stay. Where none of those that come claims a host, nothing is read; else the `api.yaml` of all that
/// stay, and whole only the folders in which one of the hosts stands.
///
/// # Errors
/// Where the tree cannot be read. One that is not there yet has nothing that stays.
pub fn taken_beside(
    coming: &Tree,
    settings: &Settings,
    replaced: &BTreeSet<String>,
) -> Result<Vec<Diagnostic>, TreeError> {
    let hosts = claimed(coming);
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let ids = naming(&settings.apis, &hosts, replaced)?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let staying = Scanner::new(settings)?.read_folders(&ids)?.tree;
    Ok(taken(coming, &staying, |id| format!("{}/{id}/{MANIFEST}", settings.apis_name())))
}

/// The folders whose `api.yaml` names one of these hosts, as it is usually written: one that stands there by escapes is found
/// by who reads the whole tree.
fn naming(apis: &Path, hosts: &BTreeSet<String>, replaced: &BTreeSet<String>) -> Result<BTreeSet<ApiId>, TreeError> {
    let failed = |source| TreeError::Io { path: apis.to_owned(), source };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(CWD, apis, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(BTreeSet::new()),
        Err(errno) => return Err(failed(errno.into())),
    };
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(apis).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if is_ignored(&name) || replaced.contains(&name) {
            continue;
        }
        let Ok(id) = ApiId::new(&name) else { continue };
        if folder::read_small(&directory, &format!("{name}/{MANIFEST}")).is_some_and(|text| names_one(&text, hosts)) {
            ids.insert(id);
        }
    }
    Ok(ids)
}

/// Whether one of these hosts stands in a text, as a word of its own.
fn names_one(text: &[u8], hosts: &BTreeSet<String>) -> bool {
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let words = text.split(|byte| !is_of_host(*byte)).filter_map(|word| std::str::from_utf8(word).ok());
    words.into_iter().any(|word| hosts.contains(word))
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

    #[test]
    fn a_folder_that_may_have_a_host_is_found_by_its_text() {
        let hosts = BTreeSet::from(["shop.example.com".to_owned()]);
        for good in [
            "route: { hosts: [a.b,shop.example.com] }",
            "route:\n  hosts:\n    - shop.example.com\n",
            "route: { hosts: [\"shop.example.com\"] }",
            "hosts: &all [shop.example.com]",
            "# shop.example.com",
        ] {
            assert!(names_one(good.as_bytes(), &hosts), "{good}");
        }
        for bad in ["", "hosts: [myshop.example.com]", "hosts: [shop.example.com.au]", "shop.example", "\u{e9}\0"] {
            assert!(!names_one(bad.as_bytes(), &hosts), "{bad}");
        }
    }
}
