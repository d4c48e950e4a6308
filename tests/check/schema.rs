//! The schemas: fresh, true to the parser, and true to the built-in defaults.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use skep::cli::schema::{File, schema, table, text};
use skep::settings::Settings;
use skep::tree::source::Source;
use skep::tree::{Diagnostic, Spec, manifest, settle, yaml};

#[test]
fn what_is_in_the_repository_is_fresh() {
    for (path, fresh) in [
        ("schema/api.schema.json", text(File::Api)),
        ("schema/skep.schema.json", text(File::Skep)),
        ("docs/settings.md", table()),
    ] {
        let kept = fs::read_to_string(super::repository(path)).unwrap_or_default();
        assert!(kept == fresh, "{path} is stale: run `skep schema --write schema --table docs/settings.md`");
    }
}

/// A document as JSON, scalars as the core schema of YAML 1.2 reads them.
fn json(node: &yaml::Node) -> Value {
    match &node.value {
        yaml::Value::Refused => Value::Null,
        yaml::Value::List(items) => items.iter().map(json).collect(),
        yaml::Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect(),
        yaml::Value::Scalar { text, plain: false } => Value::String(text.clone()),
        yaml::Value::Scalar { text, .. } => match text.as_str() {
            "" | "~" | "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            word => serde_json::from_str::<serde_json::Number>(word)
                .map_or_else(|_| Value::String(word.to_owned()), Value::Number),
        },
    }
}

fn document(text: &str) -> Value {
    let mut findings = Vec::new();
    let node = yaml::parse(Source::new("x.yaml", text), &mut findings).unwrap();
    assert_eq!(findings, []);
    json(&node)
}

fn settle_api(text: &str) -> (Spec, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let spec = settle::read_manifest(&Spec::built_in("a"), Source::new("api.yaml", text), &mut findings);
    (spec, findings)
}

#[test]
fn schema_and_parser_of_api_yaml_agree() {
    let validator = jsonschema::validator_for(&schema(File::Api)).unwrap();
    let both = |text: &str| (validator.is_valid(&document(text)), settle_api(text).1.is_empty());
    for text in [
        "{}",
        "name: Thumbnails\ndescription: ''\n",
        "resources: { cpu: 0.01, memory: 1.5GiB, pids: 16, tmp: 1MiB }",
        "resources: { cpu: 64 }\nreplicas: 50",
        "resources:\nenv:\nname:\n",
        "health: { probe: tcp, path: /up, interval: 100ms, timeout: 5m, grace: 1 h }",
        "rate_limit: none",
        "rate_limit: { requests: 1, per: 1d, burst: 1000000 }",
        "env: { A: x, B: 1, C: 1.5, D: true, _e: '' }",
        "egress: none\nsuspend: true\ndeploy: { drain: 0s }\n",
        "route: { timeout: 1h, max_body: 100MB, public: true }",
        "route: { auth: jwt, total_limit: { requests: 9 }, address_limit: none }",
        "route: { allow: [10.0.0.0/8, 2001:db8::/32, 203.0.113.7], deny: [], compress: true, maintenance: Back at 9. }",
        "route: { cors: none }",
        "route: { cors: { origins: ['*'], methods: [get, PURGE], headers: [X-A], expose: [], max_age: 0s } }",
        "route: { cors: { origins: [https://a.test, 'https://*.b.test:8443'], credentials: true } }",
    ] {
        assert_eq!(both(text), (true, true), "{text}");
    }
    for text in [
        "nmae: x",
        "name: 7",
        "name: ''",
        "resources: { cpu: 0.001 }",
        "resources: { cpu: 500m }",
        "resources: { memory: 512 }",
        "resources: { memory: 512Mib }",
        "resources: { ram: 1GiB }",
        "replicas: 51",
        "replicas: 0",
        "replicas: 1.5",
        "replicas: -1",
        "health: { probe: exec }",
        "health: { path: up }",
        "health: { interval: 2 }",
        "rate_limit: some",
        "rate_limit: 60",
        "env: [A]",
        "env: { 1A: x }",
        "env: { A: }",
        "env: { A: [x] }",
        "egress: internal",
        "suspend: 1",
        "suspend: yes",
        "[]",
        "resources: [1]",
        "route: 5",
        "route: { auth: token }",
        "route: { total_limit: 9 }",
        "route: { allow: 10.0.0.0/8 }",
        "route: { deny: [example.com] }",
        "route: { compress: gzip }",
        "route: { maintenance: '' }",
        "route: { cors: '*' }",
        "route: { cors: { origins: [] } }",
        "route: { cors: { origins: [a.test] } }",
        "route: { cors: { origins: ['*'], headers: ['*'] } }",
        "route: { cors: { origins: ['*'], methods: ['G T'] } }",
    ] {
        assert_eq!(both(text), (false, false), "{text}");
    }
}

#[test]
fn schema_and_parser_of_skep_yaml_agree() {
    let validator = jsonschema::validator_for(&schema(File::Skep)).unwrap();
    let settle = |text: &str| Settings::settle(Path::new("/srv"), text.as_bytes(), |_| None);
    let both = |text: &str| (validator.is_valid(&document(text)), settle(text).1.is_empty());
    for text in [
        "{}",
        "defaults: { replicas: 2, env: { A: x }, rate_limit: { requests: 5 } }",
        "build: { base_image: 'registry.test/python:3.11', ca_bundle: none, index_url: 'https://index.test/simple' }",
        "build: { ca_bundle: certs/site.pem, concurrency: 4, timeout: 1h, memory: 2GiB, cpu: 2 }",
        "policy: { max_deletes: { count: 0, percent: 100 }, max_file: 1GiB, max_folder: 2GiB, max_files: 7 }",
        "engine: { dial: loopback, ports: { first: 30000, last: 31000 } }\nlook_every: 1m\n",
        "plans: { free: { requests: 60 }, pro: { requests: 600, per: 1h, burst: 9 } }",
        "keys: [{ name: a, hash: '0000000000000000000000000000000000000000000000000000000000000000', apis: all, methods: [GET], paths: [/x] }]",
        "keys: [{ name: a, hash: '0000000000000000000000000000000000000000000000000000000000000000', apis: [a, b], expires: 2027-01-31 }]",
        "push: {}",
        "push: { branch: release/1.x, max_size: 1GiB }",
        "auth: { jwt: { jwks_url: 'https://a.test/k', issuer: i, audience: a, claims: { role: x, n: 1 }, pass: [email] } }",
    ] {
        assert_eq!(both(text), (true, true), "{text}: {:?}", settle(text).1);
    }
    for text in [
        "default: {}",
        "defaults: { name: x }",
        "defaults: { description: x }",
        "build: { concurrency: 0 }",
        "build: { index_url: 'ftp://x' }",
        "build: { base_image: '' }",
        "policy: { max_deletes: 3 }",
        "policy: { max_deletes: { percent: 101 } }",
        "engine: { dial: tunnel }",
        "plans: { free: {} }",
        "plans: { free: { requests: 0 } }",
        "plans: [free]",
        "keys: [{ name: a, hash: abc, apis: all }]",
        "keys: [{ name: a, hash: '0000000000000000000000000000000000000000000000000000000000000000', apis: some }]",
        "keys: [{ name: a, hash: '0000000000000000000000000000000000000000000000000000000000000000', apis: all, key: x }]",
        "push: { branch: '' }",
        "push: { branch: -x }",
        "push: { max_size: big }",
        "push: main",
        "auth: jwt",
        "auth: { jwt: { claims: [role] } }",
        "look_every: 30",
    ] {
        assert_eq!(both(text), (false, false), "{text}");
    }
}

/// All defaults that a schema names, as a document.
fn defaults(root: &Value, schema: &Value) -> Value {
    let mut document = serde_json::Map::new();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        // A group that is there or not makes a difference of its own: what it does is off where nobody says it.
        if property["x-optional"] == true {
            continue;
        }
        if let Some(default) = property.get("default") {
            document.insert(key.clone(), default.clone());
            continue;
        }
        let reference = property["anyOf"][0]["$ref"].as_str().filter(|reference| !reference.ends_with("/Manifest"));
        if let Some(inner) = reference.and_then(|reference| root.pointer(reference.trim_start_matches('#'))) {
            // A group whose keys all go without a default, as that of two files which go together, is none of its own.
            let inner = defaults(root, inner);
            if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
                document.insert(key.clone(), inner);
            }
        }
    }
    Value::Object(document)
}

#[test]
fn the_defaults_that_the_schemas_name_are_the_built_in_ones() {
    let api = schema(File::Api);
    let document = defaults(&api, &api);
    assert_eq!(document["health"]["grace"], "30s");
    assert_eq!(settle_api(&document.to_string()), (Spec::built_in("a"), vec![]));
    let skep = schema(File::Skep);
    let document = defaults(&skep, &skep);
    assert_eq!(document["policy"]["max_deletes"]["count"], 3);
    let settled = Settings::settle(Path::new("/srv"), document.to_string().as_bytes(), |_| None);
    assert_eq!(settled, (Settings::built_in(Path::new("/srv")), vec![]));
    // The optional groups, once they are there.
    let inner = |name: &str| {
        let reference = skep["properties"][name]["anyOf"][0]["$ref"].as_str().unwrap();
        defaults(&skep, skep.pointer(reference.trim_start_matches('#')).unwrap())
    };
    let settle = |text: String| Settings::settle(Path::new("/srv"), text.as_bytes(), |_| None);
    assert_eq!(settle(format!("push: {}", inner("push"))), settle("push: {}".to_owned()));
    assert!(settle("push: {}".to_owned()).0.push.is_some());
}

#[test]
fn every_key_of_a_group_is_known_to_the_hints() {
    let api = schema(File::Api);
    let mut keys = Vec::new();
    for (group, property) in api["properties"].as_object().unwrap() {
        let inner = &property["anyOf"][0];
        let reference = inner["$ref"].as_str().or(inner["anyOf"][0]["$ref"].as_str());
        let Some(reference) = reference else { continue };
        let inner = api.pointer(reference.trim_start_matches('#')).unwrap();
        let inner = inner["properties"].as_object().into_iter().flatten();
        keys.extend(inner.map(|(key, _)| format!("{group}.{key}")));
    }
    keys.retain(|key| !key.ends_with(".timeout"));
    assert_eq!(keys.iter().map(String::as_str).collect::<BTreeSet<_>>(), manifest::GROUPED.iter().copied().collect());
}

#[test]
fn the_schema_is_printed() {
    for (arguments, expected) in [
        (&["schema"][..], text(File::Api)),
        (&["schema", "api"], text(File::Api)),
        (&["schema", "skep"], text(File::Skep)),
    ] {
        assert_eq!(super::stdout(&super::skep(Path::new("/"), arguments)), expected);
    }
}

/// What the bounds of the document say is what the parser does, at both ends.
#[test]
fn bounds_are_as_documented() {
    let api = schema(File::Api);
    let mut checked = 0;
    for (group, schema) in api["$defs"].as_object().unwrap() {
        let key = match group.as_str() {
            "ResourcesManifest" => "resources",
            "HealthManifest" => "health",
            "RouteManifest" => "route",
            "DeployManifest" => "deploy",
            "LimitManifest" => "rate_limit",
            _ => continue,
        };
        for (name, property) in schema["properties"].as_object().unwrap() {
            let Some((low, high)) = property["x-bounds"].as_str().and_then(|bounds| bounds.split_once(" to ")) else {
                continue;
            };
            let code = |value: &str| {
                let beside = if key == "rate_limit" { "requests: 1, " } else { "" };
                let beside = if name == "tmp" { "memory: 1024GiB, " } else { beside };
                settle_api(&format!("{key}: {{ {beside}{name}: {value} }}")).1.first().map(|finding| finding.code)
            };
            let larger = |value: &str| format!("1{value}");
            assert_eq!(code(low), None, "{key}.{name}: {low}");
            if name != "tmp" {
                assert_eq!(code(high), None, "{key}.{name}: {high}");
                assert_eq!(code(&larger(high)), Some("out-of-bounds"), "{key}.{name}: {}", larger(high));
            }
            if low != "0s" {
                let smaller = format!("0.9{}", low.trim_start_matches(|c: char| c.is_ascii_digit()));
                assert_eq!(code(&smaller), Some("out-of-bounds"), "{key}.{name}: {smaller}");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 11);
}
