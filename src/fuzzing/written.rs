//! Settled settings, written down as somebody could have written them.

use crate::settings::{CaBundle, Dial, Settings};
use crate::tree::{Egress, Probe, Spec};

/// An `api.yaml` that says all that the spec does.
pub(super) fn manifest(spec: &Spec) -> String {
    let (name, description) = (text(&spec.name), text(&spec.description));
    format!("name: {name}\ndescription: {description}\n{}", common(spec, "\n"))
}

/// A `skep.yaml` that says all that the settings do, but for what belongs to the host.
pub(super) fn settings(settings: &Settings) -> String {
    let Settings { build, policy, engine, .. } = settings;
    let ca_bundle = match &build.ca_bundle {
        CaBundle::Auto => text("auto"),
        CaBundle::Image => text("none"),
        CaBundle::File(path) => text(path.to_str().expect("it was read from text")),
    };
    let index_url = build.index_url.as_ref().map(|url| format!(", index_url: {}", text(url))).unwrap_or_default();
    let dial = match engine.dial {
        Dial::Auto => "auto",
        Dial::Address => "address",
        Dial::Loopback => "loopback",
    };
    let defaults = common(&settings.defaults, ", ");
    let defaults = defaults.trim_end_matches([',', ' ']);
    format!(
        "defaults: {{ {defaults} }}\n\
         build: {{ base_image: {}, ca_bundle: {ca_bundle}, concurrency: {}, timeout: {}, memory: {}, cpu: {}{index_url} }}\n\
         policy: {{ max_deletes: {{ count: {}, percent: {} }}, max_file: {}, max_folder: {}, max_files: {} }}\n\
         engine: {{ dial: {dial}, ports: {{ first: {}, last: {} }} }}\n\
         look_every: {}\n",
        text(&build.base_image),
        build.concurrency,
        build.timeout,
        build.memory,
        build.cpu,
        policy.max_deletes,
        policy.max_deletes_percent,
        policy.max_file,
        policy.max_folder,
        policy.max_files,
        engine.ports.0,
        engine.ports.1,
        settings.look_every,
    )
}

/// The keys that `api.yaml` and the defaults of `skep.yaml` share.
fn common(spec: &Spec, between: &str) -> String {
    let Spec { resources, health, route, .. } = spec;
    let probe = match health.probe {
        Probe::Http => "http",
        Probe::Tcp => "tcp",
    };
    let egress = match spec.egress {
        Egress::Internet => "internet",
        Egress::None => "none",
    };
    let limit = spec.rate_limit.map_or_else(
        || "none".to_owned(),
        |limit| format!("{{ requests: {}, per: {}, burst: {} }}", limit.requests, limit.per, limit.burst),
    );
    let env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
    let lines = [
        format!("app: {}", text(&spec.app)),
        format!(
            "resources: {{ cpu: {}, memory: {}, pids: {}, tmp: {} }}",
            resources.cpu, resources.memory, resources.pids, resources.tmp
        ),
        format!("replicas: {}", spec.replicas),
        format!(
            "health: {{ probe: {probe}, path: {}, interval: {}, timeout: {}, grace: {} }}",
            text(&health.path),
            health.interval,
            health.timeout,
            health.grace
        ),
        format!("route: {{ timeout: {}, max_body: {}, public: {} }}", route.timeout, route.max_body, route.public),
        format!("rate_limit: {limit}"),
        format!("env: {{ {} }}", env.join(", ")),
        format!("egress: {egress}"),
        format!("deploy: {{ drain: {} }}", spec.drain),
        format!("suspend: {}", spec.suspend),
    ];
    lines.into_iter().map(|line| line + between).collect()
}

/// A text in double quotes, with all but plain characters escaped as YAML has it.
fn text(value: &str) -> String {
    let mut quoted = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted += &format!("\\U{:08X}", u32::from(c)),
        }
    }
    quoted + "\""
}
