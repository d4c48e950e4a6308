//! A manifest is `api.yaml` as somebody wrote it: everything optional, nothing settled. See [`super::settle`] for that.
//!
//! The doc comments of this file are the descriptions of the JSON Schema; bounds are checked in [`super::settle`] and
//! repeated here as `x-bounds` for quantities, which no keyword of JSON Schema can compare.

use schemars::JsonSchema;
use serde::Deserialize;

use super::quantity::{Cpu, Seconds, Size};
use super::spec::{Auth, Egress, Probe};
use super::yaml::{AsWritten, At};

/// Keys that belong to a group, for the hint to somebody who left the group out. `timeout` belongs to two.
pub const GROUPED: &[&str] = &[
    "resources.cpu",
    "resources.memory",
    "resources.pids",
    "resources.tmp",
    "health.probe",
    "health.path",
    "health.interval",
    "health.grace",
    "route.max_body",
    "route.auth",
    "route.total_limit",
    "route.address_limit",
    "route.public",
    "route.hosts",
    "route.max_in_flight",
    "route.idle",
    "route.total",
    "rate_limit.requests",
    "rate_limit.per",
    "rate_limit.burst",
    "deploy.drain",
];

/// Settings of one API. Every key is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "api.yaml")]
pub struct Manifest {
    /// What people call the API. The name of its folder where nothing is said.
    #[schemars(length(min = 1, max = 100), example = &"Thumbnails")]
    pub name: Option<At<String>>,
    /// One sentence for lists.
    #[schemars(length(max = 500), example = &"Resizes and crops images.", extend("default" = ""))]
    pub description: Option<At<String>>,
    /// The ASGI object, as `module:attribute`.
    #[schemars(extend("default" = "main:app"), example = &"service.web:app")]
    pub app: Option<At<String>>,
    /// What each instance may use.
    pub resources: Option<ResourcesManifest>,
    /// How many instances run side by side.
    #[schemars(range(min = 1, max = 50), extend("default" = 1))]
    pub replicas: Option<At<u16>>,
    /// When an instance counts as ready and as well.
    pub health: Option<HealthManifest>,
    /// How the gateway treats requests to the API.
    pub route: Option<RouteManifest>,
    /// How many requests each caller may make; `none` is without limit.
    #[schemars(extend("default" = "none"))]
    pub rate_limit: Option<At<RateLimitManifest>>,
    /// Environment variables for the app. Values are taken as they are written.
    #[schemars(example = serde_json::json!({ "LOG_LEVEL": "info" }))]
    pub env: Option<VariablesManifest>,
    /// What the app may reach from inside its container: the internet, or nothing at all.
    #[schemars(extend("default" = "internet"))]
    pub egress: Option<Egress>,
    /// How a new revision takes over from the old one.
    pub deploy: Option<DeployManifest>,
    /// Keep the API, run nothing.
    #[schemars(extend("default" = false))]
    pub suspend: Option<bool>,
}

/// What each instance may use.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcesManifest {
    /// Processor time in cores; 1.0 is one core.
    #[schemars(range(min = 0.01, max = 64), extend("default" = 1.0))]
    pub cpu: Option<At<Cpu>>,
    /// Memory, swap included.
    #[schemars(extend("default" = "512MiB", "x-bounds" = "16MiB to 1024GiB"))]
    pub memory: Option<At<Size>>,
    /// Processes and threads.
    #[schemars(range(min = 16, max = 32768), extend("default" = 128))]
    pub pids: Option<At<u32>>,
    /// Size of the writable `/tmp`. What is in it counts against `memory`.
    #[schemars(extend("default" = "64MiB", "x-bounds" = "1MiB to the value of `memory`"))]
    pub tmp: Option<At<Size>>,
}

/// When an instance counts as ready and as well.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthManifest {
    /// What is asked: `http` sends GET to `path`, and any status below 500 is good; `tcp` only connects.
    #[schemars(extend("default" = "http"))]
    pub probe: Option<Probe>,
    /// The path that an HTTP probe asks for.
    #[schemars(length(max = 1000), regex(pattern = "^/"), extend("default" = "/"))]
    pub path: Option<At<String>>,
    /// Between two probes of an instance that serves.
    #[schemars(extend("default" = "2s", "x-bounds" = "100ms to 1h"))]
    pub interval: Option<At<Seconds>>,
    /// For one probe.
    #[schemars(extend("default" = "2s", "x-bounds" = "100ms to 5m"))]
    pub timeout: Option<At<Seconds>>,
    /// From start to the first good probe; after that the instance is given up.
    #[schemars(extend("default" = "30s", "x-bounds" = "1s to 1h"))]
    pub grace: Option<At<Seconds>>,
}

/// How the gateway treats requests to an API.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteManifest {
    /// From the last byte of a request to the first byte of its answer.
    #[schemars(extend("default" = "30s", "x-bounds" = "100ms to 1h"))]
    pub timeout: Option<At<Seconds>>,
    /// The largest request body.
    #[schemars(extend("default" = "100MiB", "x-bounds" = "1KiB to 1024GiB"))]
    pub max_body: Option<At<Size>>,
    /// How callers show that they may call: by a `key` of this installation, by a `jwt` as `auth.jwt` in `skep.yaml`
    /// says, or not at all, which is `none`.
    #[schemars(extend("default" = "key"))]
    pub auth: Option<At<Auth>>,
    /// How many requests all callers together may make; `none` is without limit.
    #[schemars(extend("default" = "none"))]
    pub total_limit: Option<At<RateLimitManifest>>,
    /// How many requests each client address may make, whatever key it shows; `none` is without limit.
    #[schemars(extend("default" = "none"))]
    pub address_limit: Option<At<RateLimitManifest>>,
    /// The same as `auth: none` where true; `auth` says more.
    #[schemars(extend("default" = false))]
    pub public: Option<bool>,
    /// Hosts that are this API's alone: a request to one of them goes to it with its path as it is. No two APIs have the
    /// same.
    #[schemars(length(max = 20), extend("default" = []), example = &["thumbs.example.com"])]
    pub hosts: Option<Vec<At<String>>>,
    /// The most requests that each instance answers at once; WebSockets and event streams aside. As many more wait in
    /// line for up to two seconds, and others are told to come back.
    #[schemars(range(min = 1, max = 100_000), extend("default" = 100))]
    pub max_in_flight: Option<At<u32>>,
    /// The longest silence in the middle of an answer, event streams aside.
    #[schemars(extend("default" = "5m", "x-bounds" = "100ms to 1d"))]
    pub idle: Option<At<Seconds>>,
    /// From the head of a request to the end of its answer, WebSockets and event streams aside.
    #[schemars(extend("default" = "1d", "x-bounds" = "100ms to 30d"))]
    pub total: Option<At<Seconds>>,
}

/// How many requests each caller may make.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitManifest {
    /// Requests in each period. Must be given here or in the defaults.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: Option<At<u32>>,
    /// The period.
    #[schemars(extend("default" = "1m", "x-bounds" = "1s to 30d"))]
    pub per: Option<At<Seconds>>,
    /// Requests that may come at once, before the even pace holds. As many as `requests` where nothing is said.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<At<u32>>,
}

/// A rate limit, or the word `none`.
#[derive(Debug, Clone)]
pub enum RateLimitManifest {
    /// Without limit, whatever the defaults say.
    None,
    /// With these.
    Limit(LimitManifest),
}

/// How a new revision takes over from the old one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeployManifest {
    /// How long an old instance may finish what it is doing.
    #[schemars(extend("default" = "30s", "x-bounds" = "0s to 1h"))]
    pub drain: Option<At<Seconds>>,
}

/// Environment variables in the order of the file, with the places of their names and values.
#[derive(Debug, Clone, Default)]
pub struct VariablesManifest(pub Vec<(At<String>, At<AsWritten>)>);

impl<'de> Deserialize<'de> for VariablesManifest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = VariablesManifest;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping of names to values")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<VariablesManifest, A::Error> {
                let mut variables = Vec::new();
                while let Some(variable) = map.next_entry()? {
                    variables.push(variable);
                }
                Ok(VariablesManifest(variables))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl JsonSchema for VariablesManifest {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Variables".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 128 },
            "additionalProperties": { "type": ["string", "number", "boolean"] },
            "maxProperties": super::variables::MAX_COUNT,
        })
    }
}

impl<'de> Deserialize<'de> for RateLimitManifest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RateLimitManifest;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping with `requests`, `per` and `burst`, or the word none")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<RateLimitManifest, E> {
                if word == "none" {
                    return Ok(RateLimitManifest::None);
                }
                Err(E::invalid_type(serde::de::Unexpected::Str(word), &self))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<RateLimitManifest, A::Error> {
                let limit = LimitManifest::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(RateLimitManifest::Limit(limit))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for RateLimitManifest {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RateLimit".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let limit = generator.subschema_for::<LimitManifest>();
        schemars::json_schema!({ "anyOf": [limit, { "const": "none" }] })
    }
}
