//! Plans of the old system as `skep.yaml` is to name them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::settings::Settings;
use crate::tree::{Diagnostic, RateLimit, Seconds};

/// What becomes of the plans that keys are of.
#[derive(Debug, Default, Serialize)]
pub struct PlansImport {
    /// Plans that `skep.yaml` does not name, with what is proposed for each.
    pub missing: Vec<AssumedPlan>,
    /// Plans that nobody has said anything about: the tightest of the others holds for their keys.
    pub unknown: Vec<String>,
    /// What is added at the end of `skep.yaml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
}

/// A plan, and where its limit comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AssumedPlan {
    /// Its name.
    pub name: String,
    /// Its limit, as in `100/1h`.
    pub limit: String,
    /// Nobody has said so: the old system's figures do not stand in its tables.
    pub assumed: bool,
}

/// What holds for a plan that nobody has said anything about: requests an hour.
const ASSUMED: [(&str, u32); 3] = [("free", 100), ("pro", 1000), ("enterprise", 10_000)];

/// Says which plans `skep.yaml` lacks, and what to add to it. `file` is what stands in it now, `None` where it is not there.
#[must_use]
pub fn plans(
    used: &BTreeSet<String>,
    said: &BTreeMap<String, RateLimit>,
    settings: &Settings,
    file: Option<&[u8]>,
) -> PlansImport {
    let mut import = PlansImport::default();
    // Those that somebody has said are wanted, whether a key is of them or not.
    for name in used.iter().chain(said.keys()).collect::<BTreeSet<_>>() {
        if settings.plans.contains_key(name) {
            continue;
        }
        let assumed = ASSUMED.iter().find(|(known, _)| known == name).map(|(_, requests)| *requests);
        let assumed = assumed.map(|requests| RateLimit { requests, per: Seconds::new(3600), burst: requests });
        match (said.get(name), assumed) {
            (Some(limit), _) => import.missing.push(AssumedPlan::new(name, limit, false)),
            (None, Some(limit)) => import.missing.push(AssumedPlan::new(name, &limit, true)),
            (None, None) => import.unknown.push(name.clone()),
        }
    }
    let block = block(&import.missing);
    if !import.missing.is_empty() && with(file.unwrap_or_default(), &block, settings).is_some() {
        import.block = Some(block);
    }
    import
}

/// A `skep.yaml` with a block at its end, where that says the same as before and the block; `None` where it cannot be
/// put there, as where the file has `plans` already.
#[must_use]
pub fn with(file: &[u8], block: &str, settings: &Settings) -> Option<Vec<u8>> {
    let mut text = file.to_vec();
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    if !text.is_empty() {
        text.push(b'\n');
    }
    text.extend(block.as_bytes());
    // The environment has nothing to do with it.
    let (before, _) = Settings::settle(&settings.root, file, |_| None);
    let (mut after, findings) = Settings::settle(&settings.root, &text, |_| None);
    let is_sound = !findings.iter().any(Diagnostic::is_error) && after.plans.len() > before.plans.len();
    after.plans.clone_from(&before.plans);
    (is_sound && after == before).then_some(text)
}

/// The lines to add.
#[must_use]
pub fn block(missing: &[AssumedPlan]) -> String {
    let mut block = String::from("# The plans of the old system, taken over by `skep import`.\nplans:\n");
    for AssumedPlan { name, limit, assumed } in missing {
        let (requests, per) = limit.split_once('/').unwrap_or((limit, "1h"));
        let name = serde_json::Value::from(name.as_str());
        let comment = if *assumed { "  # assumed: put in your own figures" } else { "" };
        block.push_str(&format!("  {name}: {{ requests: {requests}, per: {per} }}{comment}\n"));
    }
    block
}

impl AssumedPlan {
    fn new(name: &str, limit: &RateLimit, assumed: bool) -> Self {
        Self { name: name.to_owned(), limit: limit.to_string(), assumed }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn propose(file: Option<&str>, used: &[&str]) -> PlansImport {
        let bytes = file.map(str::as_bytes);
        let (settings, _) = Settings::settle(Path::new("/srv"), bytes.unwrap_or_default(), |_| None);
        let used = used.iter().map(|&name| name.to_owned()).collect();
        plans(&used, &BTreeMap::from([("team".to_owned(), "5/1m".parse().unwrap())]), &settings, bytes)
    }

    #[test]
    fn plans_are_added_below_what_stands_there_and_nothing_else_changes() {
        for file in [None, Some(""), Some("# ours\ndefaults: { replicas: 2 }"), Some("look_every: 5s\n\n")] {
            let import = propose(file, &["free", "pro", "odd: #x"]);
            let block = import.block.unwrap();
            assert!(block.contains("  \"free\": { requests: 100, per: 1h }  # assumed"), "{block}");
            assert!(block.contains("  \"team\": { requests: 5, per: 1m }\n"), "{block}");
            assert_eq!((import.missing.len(), import.unknown.len()), (3, 1));
            let settings = Settings::settle(Path::new("/srv"), file.unwrap_or_default().as_bytes(), |_| None).0;
            let text = with(file.unwrap_or_default().as_bytes(), &block, &settings).unwrap();
            assert!(text.starts_with(file.unwrap_or_default().as_bytes()));
            assert_eq!(Settings::settle(Path::new("/srv"), &text, |_| None).0.plans.len(), 3);
        }
    }

    #[test]
    fn a_file_that_has_plans_or_cannot_be_added_to_is_left_alone() {
        for file in ["plans: { free: { requests: 7 } }\n", "{ look_every: 5s }\n", "look_every: 5s\n...\n"] {
            let import = propose(Some(file), &["free", "pro"]);
            assert!(import.block.is_none() && !import.missing.is_empty(), "{file}");
        }
        assert!(propose(Some("plans: { team: { requests: 1 }, pro: { requests: 1 } }"), &["pro"]).missing.is_empty());
    }
}
