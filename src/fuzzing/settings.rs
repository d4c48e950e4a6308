//! `api.yaml` and `skep.yaml`.

use std::path::Path;

use super::{findings, written};
use crate::settings::{self, Settings};
use crate::tree::settle::read_manifest;
use crate::tree::source::Source;
use crate::tree::{Cpu, Diagnostic, Seconds, Size, Spec, variables};

/// Reads an `api.yaml`, and what was settled again.
pub fn api_yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let base = Spec::built_in("a");
    let source = Source::new("apis/a/api.yaml", text);
    let mut found = Vec::new();
    let spec = read_manifest(&base, source, &mut found);
    findings::check(source, &found);
    if found.iter().any(Diagnostic::is_error) {
        return;
    }
    check_name(&spec);
    check_spec(&spec);
    let json = serde_json::to_vec(&spec).expect("settings are JSON");
    assert_eq!(serde_json::from_slice::<Spec>(&json).ok().as_ref(), Some(&spec));
    let text = written::manifest(&spec);
    let again = read_manifest(&base, Source::new(source.path, &text), &mut found);
    assert_eq!(found, [], "{text}");
    assert_eq!(again, spec);
}

/// Reads a `skep.yaml`, and what was settled again.
pub fn skep_yaml(data: &[u8]) {
    let root = Path::new("/srv/tree");
    let (settings, found) = Settings::settle(root, data, |_| None);
    let sound = std::str::from_utf8(data)
        .unwrap_or_else(|error| std::str::from_utf8(&data[..error.valid_up_to()]).expect("valid up to there"));
    findings::check(Source::new(settings::FILE, sound), &found);
    if found.iter().any(Diagnostic::is_error) {
        return;
    }
    check_spec(&settings.defaults);
    assert!(settings.defaults.name.is_empty() && settings.defaults.description.is_empty());
    let (first, last) = settings.engine.ports;
    assert!(first >= 1024 && last - first >= 100);
    let build = &settings.build;
    assert!((1..=64).contains(&build.concurrency) && build.memory >= Size::mib(64) && build.cpu >= Cpu(10));
    let policy = &settings.policy;
    assert!((1..=1000).contains(&policy.keep_revisions) && policy.keep_events >= Seconds::new(3600));
    assert!(policy.keep_usage >= Seconds::new(86_400));
    let text = written::settings(&settings);
    let (again, found) = Settings::settle(root, text.as_bytes(), |_| None);
    assert_eq!(found, [], "{text}");
    assert_eq!(again, settings);
}

/// The lines that lists show.
fn check_name(spec: &Spec) {
    assert!((1..=100).contains(&spec.name.chars().count()) && spec.description.chars().count() <= 500);
    assert!(!spec.name.contains(char::is_control) && !spec.description.contains(char::is_control));
}

/// What is settled is within the bounds that the schema states, and of use to those who run it.
fn check_spec(spec: &Spec) {
    let (module, attribute) = spec.app.split_once(':').expect("an ASGI object is module:attribute");
    assert!(!module.is_empty() && !attribute.is_empty() && !spec.app.contains(char::is_whitespace));
    let resources = &spec.resources;
    assert!((Cpu(10)..=Cpu(64_000)).contains(&resources.cpu) && (16..=32_768).contains(&resources.pids));
    assert!((Size::mib(16)..=Size::mib(1024 * 1024)).contains(&resources.memory));
    assert!((Size::mib(1)..=resources.memory).contains(&resources.tmp));
    assert!((1..=50).contains(&spec.replicas));
    let health = &spec.health;
    assert!((Seconds::millis(100)..=Seconds::new(3600)).contains(&health.interval));
    assert!((Seconds::millis(100)..=Seconds::new(300)).contains(&health.timeout));
    assert!((Seconds::new(1)..=Seconds::new(3600)).contains(&health.grace));
    // The prober asks for it as it stands.
    let path = http::uri::PathAndQuery::try_from(health.path.as_str()).expect("a probe can ask for the path");
    assert_eq!(path.as_str(), health.path);
    assert!((Seconds::millis(100)..=Seconds::new(3600)).contains(&spec.route.timeout));
    assert!((Size(1024)..=Size::mib(1024 * 1024)).contains(&spec.route.max_body));
    assert!((1..=100_000).contains(&spec.route.max_in_flight));
    assert!((Seconds::millis(100)..=Seconds::new(86_400)).contains(&spec.route.idle));
    assert!((Seconds::millis(100)..=Seconds::new(30 * 86_400)).contains(&spec.route.total));
    if let Some(limit) = &spec.rate_limit {
        let counts = 1..=1_000_000;
        assert!(counts.contains(&limit.requests) && counts.contains(&limit.burst));
        assert!((Seconds::new(1)..=Seconds::new(30 * 86_400)).contains(&limit.per));
    }
    assert!(spec.env.len() <= variables::MAX_COUNT && spec.drain <= Seconds::new(3600));
    for (name, value) in &spec.env {
        assert!(variables::is_name(name) && variables::reserved(name).is_none(), "{name}");
        assert!(!value.contains('\0') && value.len() <= variables::MAX_VALUE, "{name}");
    }
}
