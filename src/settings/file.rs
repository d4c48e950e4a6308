//! `skep.yaml` as somebody wrote it, and how it is laid over the built-in settings.

use schemars::JsonSchema;
use serde::Deserialize;

use super::callers::{self, KeyFile, PlansFile};
use super::jwt::{self, AuthFile};
use super::notifications::{self, NotifiedFile};
use super::previews::{self, PreviewsFile};
use super::pull::{self, SourceFile};
use super::push::{self, PushFile};
use super::records::{self, RecordsFile};
use super::{BuildSettings, CaBundle, Dial, Policy, Settings, TlsFiles};
use crate::tree::diagnostic::{Diagnostic, code};
use crate::tree::manifest::Manifest;
use crate::tree::settle::Settler;
use crate::tree::source::Source;
use crate::tree::yaml::{self, At};
use crate::tree::{Cpu, Seconds, Size};

/// Settings that a team shares in git. Every key is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "skep.yaml")]
pub struct SettingsFile {
    /// What holds for every API where its `api.yaml` says nothing. The same keys, but for `name` and `description`.
    pub defaults: Option<Manifest>,
    /// How images are built.
    pub build: Option<BuildFile>,
    /// What is allowed.
    pub policy: Option<PolicyFile>,
    /// How callers are served.
    pub gateway: Option<GatewayFile>,
    /// How apps are reached.
    pub engine: Option<EngineFile>,
    /// The longest time between two full looks at tree and engine. Changes are noticed at once all the same.
    #[schemars(extend("default" = "30s", "x-bounds" = "1s to 1h"))]
    pub look_every: Option<At<Seconds>>,
    /// Where records are kept.
    pub records: Option<RecordsFile>,
    /// Whether an API that nothing of ours serves yet is answered by its container of the system before (label
    /// `app=api-builder`), where one runs and answers. Holds from the next start; see adopt.md.
    #[schemars(extend("default" = false))]
    pub adopt: Option<bool>,
    /// Lets people deploy by `git push`. Without it, no push is taken; `{}` takes those of `main`.
    #[schemars(extend("x-optional" = true))]
    pub push: Option<PushFile>,
    /// Remote repositories that the tree is pulled from, each of which brings API folders. See pull.md.
    pub pull: Option<At<Vec<SourceFile>>>,
    /// Who is told what happens. Holds from the next start; see notifications.md.
    pub notifications: Option<At<Vec<NotifiedFile>>>,
    /// Has pull requests served beside what they would change. Without it, none is; `{}` takes these limits. See previews.md.
    #[schemars(extend("x-optional" = true))]
    pub previews: Option<PreviewsFile>,
    /// How callers show who they are, besides keys.
    pub auth: Option<AuthFile>,
    /// How many requests the keys of each plan may make, of all APIs together.
    #[schemars(example = serde_json::json!({ "free": { "requests": 60, "per": "1m" } }))]
    pub plans: Option<PlansFile>,
    /// Callers' keys, by their hashes alone. `skep keys hash` makes a hash.
    pub keys: Option<Vec<KeyFile>>,
}

/// How images are built.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BuildFile {
    /// The image that all stand on. It has Python 3.11.
    #[schemars(length(min = 1, max = 500), extend("default" = "python:3.11-slim"))]
    pub base_image: Option<At<String>>,
    /// Which CA certificates installs and apps trust besides those of the image: `auto` for the host's, `none`, or
    /// the path of a file, relative to `skep.yaml`.
    #[schemars(length(min = 1, max = 4000), extend("default" = "auto"))]
    pub ca_bundle: Option<At<String>>,
    /// The package index. The installer's own default where nothing is said; `SKEP_INDEX_URL` takes its place.
    #[schemars(length(min = 1, max = 2000), regex(pattern = "^https?://"))]
    pub index_url: Option<At<String>>,
    /// How many installs and builds run at once.
    #[schemars(range(min = 1, max = 64), extend("default" = 2))]
    pub concurrency: Option<At<u16>>,
    /// For one install or build.
    #[schemars(extend("default" = "10m", "x-bounds" = "10s to 6h"))]
    pub timeout: Option<At<Seconds>>,
    /// For one install.
    #[schemars(extend("default" = "1GiB", "x-bounds" = "64MiB to 1024GiB"))]
    pub memory: Option<At<Size>>,
    /// For one install, in cores.
    #[schemars(range(min = 0.01, max = 64), extend("default" = 1.0))]
    pub cpu: Option<At<Cpu>>,
}

/// What is allowed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyFile {
    /// How many APIs may be removed in one go; the larger of the two holds.
    pub max_deletes: Option<MaxDeletesFile>,
    /// The largest file of an API.
    #[schemars(extend("default" = "25MiB", "x-bounds" = "1KiB to 1GiB"))]
    pub max_file: Option<At<Size>>,
    /// The largest folder of an API, all files together.
    #[schemars(extend("default" = "100MiB", "x-bounds" = "1KiB to 10GiB"))]
    pub max_folder: Option<At<Size>>,
    /// The most files of an API.
    #[schemars(range(min = 1, max = 100_000), extend("default" = 1000))]
    pub max_files: Option<At<u32>>,
    /// What is kept of what is over.
    pub keep: Option<KeepFile>,
    /// Nothing is built while less than this is free where the engine keeps its images; what serves goes on.
    #[schemars(extend("default" = "1GiB", "x-bounds" = "0B to 1024GiB"))]
    pub min_free_disk: Option<At<Size>>,
}

/// What is kept of what is over.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeepFile {
    /// Revisions of each API that have served, to roll back to.
    #[schemars(range(min = 1, max = 1000), extend("default" = 5))]
    pub revisions: Option<At<u32>>,
    /// Events.
    #[schemars(extend("default" = "90d", "x-bounds" = "1h to 3650d"))]
    pub events: Option<At<Seconds>>,
    /// Usage. A daemon goes by what stands here when it starts.
    #[schemars(extend("default" = "400d", "x-bounds" = "1d to 3650d"))]
    pub usage: Option<At<Seconds>>,
}

/// How many APIs may be removed in one go; the larger of the two holds.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaxDeletesFile {
    /// Counted.
    #[schemars(range(min = 0, max = 1_000_000), extend("default" = 3))]
    pub count: Option<At<u32>>,
    /// In percent of the APIs that there are.
    #[schemars(range(min = 0, max = 100), extend("default" = 30))]
    pub percent: Option<At<u8>>,
}

/// How callers are served.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayFile {
    /// What TLS is spoken with. Without it, the gateway speaks plain HTTP.
    pub tls: Option<At<TlsFile>>,
    /// Open connections. Those beyond wait to be accepted.
    #[schemars(range(min = 10, max = 1_000_000), extend("default" = 10_000))]
    pub connections: Option<At<u32>>,
    /// Open connections of one address, or of one /64 of IPv6. Those beyond are closed at once.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 5000))]
    pub connections_per_address: Option<At<u32>>,
}

/// What TLS is spoken with. The files are read again when they change.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFile {
    /// The file of the certificate in PEM, with those that lead to its root behind it; relative to `skep.yaml`.
    /// `SKEP_TLS_CERTIFICATE` takes its place.
    #[schemars(length(min = 1, max = 4000))]
    pub certificate: Option<At<String>>,
    /// The file of its private key in PEM; relative to `skep.yaml`. Keep it out of git. `SKEP_TLS_KEY` takes its place.
    #[schemars(length(min = 1, max = 4000))]
    pub key: Option<At<String>>,
}

/// How apps are reached.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineFile {
    /// How the gateway dials instances: by the container's `address`, by a port on `loopback`, or `auto` for the first
    /// that works. `SKEP_DIAL` takes its place.
    #[schemars(extend("default" = "auto"))]
    pub dial: Option<Dial>,
    /// The loopback ports that instances may be given.
    pub ports: Option<PortsFile>,
}

/// The loopback ports that instances may be given.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortsFile {
    /// The first.
    #[schemars(range(min = 1024, max = 65535), extend("default" = 20_000))]
    pub first: Option<At<u16>>,
    /// The last; at least 100 above the first.
    #[schemars(range(min = 1024, max = 65535), extend("default" = 29_999))]
    pub last: Option<At<u16>>,
}

/// Lays a file over settings.
pub(super) fn lay_over(settings: &mut Settings, source: Source<'_>, findings: &mut Vec<Diagnostic>) {
    let Some(node) = yaml::parse(source, findings) else { return };
    let file: SettingsFile = yaml::decode(&node, source, findings);
    let mut settler = Settler::new(source, findings);
    if let Some(defaults) = &file.defaults {
        for (key, value) in [("name", &defaults.name), ("description", &defaults.description)] {
            if let Some(value) = value {
                let message = format!("a {key} belongs to one API");
                settler.error(code::UNKNOWN_KEY, value, message, "set it in the api.yaml of that API");
            }
        }
        if let Some(host) = defaults.route.as_ref().and_then(|route| route.hosts.as_ref()?.first()) {
            settler.error(code::UNKNOWN_KEY, host, "a host belongs to one API", "set it in the api.yaml of that API");
        }
        let defaults = Manifest { name: None, description: None, ..defaults.clone() };
        settler.spec(&defaults, &mut settings.defaults);
    }
    if let Some(build) = &file.build {
        lay_build(&mut settler, build, settings);
    }
    if let Some(policy) = &file.policy {
        lay_policy(&mut settler, policy, &mut settings.policy);
    }
    if let Some(gateway) = &file.gateway {
        lay_gateway(&mut settler, gateway, settings);
    }
    if let Some(engine) = &file.engine {
        settings.engine.dial = engine.dial.unwrap_or(settings.engine.dial);
        if let Some(PortsFile { first, last }) = &engine.ports {
            settler.within(first.as_ref(), 1024..=65535, &mut settings.engine.ports.0);
            settler.within(last.as_ref(), 1024..=65535, &mut settings.engine.ports.1);
            let (low, high) = settings.engine.ports;
            if u32::from(high) < u32::from(low) + 100
                && let Some(at) = last.as_ref().or(first.as_ref())
            {
                let message = format!("ports {low} to {high} are too few");
                settler.error(code::OUT_OF_BOUNDS, at, message, "leave at least 100 between the first and the last");
            }
        }
    }
    settler.within(file.look_every.as_ref(), Seconds::new(1)..=Seconds::new(3600), &mut settings.look_every);
    settings.adopt = file.adopt.unwrap_or(settings.adopt);
    if let Some(AuthFile { jwt: Some(file) }) = &file.auth {
        jwt::lay_over(&mut settler, file, settings);
    }
    if let Some(file) = &file.push {
        push::lay_over(&mut settler, file, settings);
    }
    if let Some(file) = &file.previews {
        previews::lay_over(&mut settler, file, settings);
    }
    if let Some(files) = &file.pull {
        pull::lay_over(&mut settler, files, settings);
    }
    if let Some(files) = &file.notifications {
        notifications::lay_over(&mut settler, files, settings);
    }
    if let Some(file) = &file.records {
        records::lay_over(&mut settler, file, settings);
    }
    callers::lay_over(&mut settler, file.plans.as_ref(), file.keys.as_deref().unwrap_or_default(), settings);
}

fn lay_build(settler: &mut Settler<'_, '_>, file: &BuildFile, settings: &mut Settings) {
    let root = settings.root.clone();
    let build: &mut BuildSettings = &mut settings.build;
    if let Some(image) = &file.base_image {
        if is_image(&image.value) {
            build.base_image.clone_from(&image.value);
        } else {
            let hint = "write name:tag, as in python:3.11-slim";
            settler.error(code::BAD_VALUE, image, "this is no name of an image", hint);
        }
    }
    if let Some(bundle) = &file.ca_bundle {
        match bundle.value.as_str() {
            "auto" => build.ca_bundle = CaBundle::Auto,
            "none" => build.ca_bundle = CaBundle::Image,
            path if path.is_empty() || path.chars().any(char::is_control) => {
                settler.error(code::BAD_VALUE, bundle, "this is no path", "write auto, none, or the path of a file");
            }
            path => build.ca_bundle = CaBundle::File(root.join(path)),
        }
    }
    if let Some(url) = &file.index_url {
        match check_index_url(&url.value) {
            Ok(()) => build.index_url = Some(url.value.clone()),
            Err(message) => settler.error(code::BAD_VALUE, url, message, "write it as in https://index.example/simple"),
        }
    }
    settler.within(file.concurrency.as_ref(), 1..=64, &mut build.concurrency);
    settler.within(file.timeout.as_ref(), Seconds::new(10)..=Seconds::new(6 * 3600), &mut build.timeout);
    settler.within(file.memory.as_ref(), Size::mib(64)..=Size::mib(1024 * 1024), &mut build.memory);
    settler.within(file.cpu.as_ref(), Cpu(10)..=Cpu(64_000), &mut build.cpu);
}

fn lay_gateway(settler: &mut Settler<'_, '_>, file: &GatewayFile, settings: &mut Settings) {
    let root = settings.root.clone();
    let gateway = &mut settings.gateway;
    if let Some(tls) = &file.tls {
        match &tls.value {
            TlsFile { certificate: Some(certificate), key: Some(key) } => {
                for path in [certificate, key] {
                    if path.value.is_empty() || path.value.chars().any(char::is_control) {
                        settler.error(code::BAD_VALUE, path, "this is no path", "write the path of a PEM file");
                    }
                }
                let (certificate, key) = (root.join(&certificate.value), root.join(&key.value));
                gateway.tls = Some(TlsFiles { certificate, key });
            }
            _ => {
                let message = "TLS needs a `certificate` and a `key`";
                settler.error(code::MISSING_KEY, tls, message, "write it as in { certificate: tls.crt, key: tls.key }");
            }
        }
    }
    settler.within(file.connections.as_ref(), 10..=1_000_000, &mut gateway.connections);
    settler.within(file.connections_per_address.as_ref(), 1..=1_000_000, &mut gateway.connections_per_address);
}

fn lay_policy(settler: &mut Settler<'_, '_>, file: &PolicyFile, policy: &mut Policy) {
    if let Some(MaxDeletesFile { count, percent }) = &file.max_deletes {
        settler.within(count.as_ref(), 0..=1_000_000, &mut policy.max_deletes);
        settler.within(percent.as_ref(), 0..=100, &mut policy.max_deletes_percent);
    }
    settler.within(file.max_file.as_ref(), Size(1024)..=Size::mib(1024), &mut policy.max_file);
    settler.within(file.max_folder.as_ref(), Size(1024)..=Size::mib(10 * 1024), &mut policy.max_folder);
    settler.within(file.max_files.as_ref(), 1..=100_000, &mut policy.max_files);
    if let Some(KeepFile { revisions, events, usage }) = &file.keep {
        let mut kept = 5;
        settler.within(revisions.as_ref(), 1..=1000, &mut kept);
        policy.keep_revisions = kept as usize;
        settler.within(events.as_ref(), Seconds::new(3600)..=Seconds::new(3650 * 86_400), &mut policy.keep_events);
        settler.within(usage.as_ref(), Seconds::new(86_400)..=Seconds::new(3650 * 86_400), &mut policy.keep_usage);
    }
    settler.within(file.min_free_disk.as_ref(), Size(0)..=Size::mib(1024 * 1024), &mut policy.min_free_disk);
}

/// Whether a text can name an image. The engine knows the whole grammar; this keeps out what would be an option or a
/// line of a build file.
fn is_image(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    (1..=500).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Says why a text is no address of a package index.
pub(super) fn check_index_url(text: &str) -> Result<(), &'static str> {
    let Ok(uri) = text.parse::<http::Uri>() else { return Err("this is no URL") };
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        _ => Err("a package index has an http or https URL"),
    }
}
