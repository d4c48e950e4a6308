//! A manifest is `api.yaml` as somebody wrote it: everything optional, nothing settled. See [`super::settle`] for that.
//!
//! The doc comments of this file are the descriptions of the JSON Schema; bounds are checked in [`super::settle`] and
//! repeated here as `x-bounds` for quantities, which no keyword of JSON Schema can compare.

use schemars::JsonSchema;
use serde::Deserialize;

use super::quantity::{Cpu, Seconds, Size};
use super::spec::{Auth, Egress, Probe, SecretsAs};
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
    "route.allow",
    "route.deny",
    "route.cors",
    "route.compress",
    "route.maintenance",
    "rate_limit.requests",
    "rate_limit.per",
    "rate_limit.burst",
    "secrets.as",
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
    /// How the app is given what `secrets.age` holds.
    pub secrets: Option<SecretsManifest>,
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
    /// Networks and addresses whose callers are let in, and no others; where none is named, all are. Looked at before
    /// keys and limits.
    #[schemars(length(max = 1000), inner(regex(pattern = "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")))]
    #[schemars(extend("default" = []), example = &["10.0.0.0/8", "2001:db8::/32", "203.0.113.7"])]
    pub allow: Option<Vec<At<String>>>,
    /// Networks and addresses whose callers are refused, also where `allow` names them.
    #[schemars(length(max = 1000), inner(regex(pattern = "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")))]
    #[schemars(extend("default" = []), example = &["203.0.113.0/24"])]
    pub deny: Option<Vec<At<String>>>,
    /// Which pages of other origins may call from a browser. With it, the gateway answers preflights and writes all
    /// headers of CORS itself; `none` leaves both to the app.
    #[schemars(extend("default" = "none"))]
    pub cors: Option<At<CorsManifest>>,
    /// Compress answers for callers who ask for it, where that is safe. Not for answers that hold a secret beside what
    /// a caller can choose: their length would tell of it.
    #[schemars(extend("default" = false))]
    pub compress: Option<bool>,
    /// What callers are told while the API is suspended.
    #[schemars(length(min = 1, max = 500), extend("default" = "API is paused"), example = &"Back on Monday at 9.")]
    pub maintenance: Option<At<String>>,
}

/// Which pages of other origins may call from a browser, and how.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsRulesManifest {
    /// Where the pages come from, as browsers write it; `https://*.example.com` is every host below that one, and `*`
    /// any page at all. Must be given here or in the defaults.
    #[schemars(length(min = 1, max = 100), inner(regex(pattern = r"^(\*|[a-z][a-z0-9+.-]*://[^/@]+)$")))]
    #[schemars(example = &["https://app.example.com", "https://*.example.com"])]
    pub origins: Option<At<Vec<At<String>>>>,
    /// The methods that they may use.
    #[schemars(length(max = 20), inner(regex(pattern = "^[A-Za-z-]{1,20}$")))]
    #[schemars(extend("default" = super::cors::METHODS))]
    pub methods: Option<Vec<At<String>>>,
    /// The headers that they may send, besides those that every page may.
    #[schemars(length(max = 100), inner(regex(pattern = "^[A-Za-z0-9_-]+$")))]
    #[schemars(extend("default" = super::cors::HEADERS))]
    pub headers: Option<Vec<At<String>>>,
    /// The headers of an answer that they may read, besides those that every page may.
    #[schemars(length(max = 100), inner(regex(pattern = "^[A-Za-z0-9_-]+$")))]
    #[schemars(extend("default" = []), example = &["Retry-After", "X-Request-ID"])]
    pub expose: Option<Vec<At<String>>>,
    /// Whether cookies and the like go along.
    #[schemars(extend("default" = false))]
    pub credentials: Option<At<bool>>,
    /// For how long a browser may go by the answer to a preflight.
    #[schemars(extend("default" = "10m", "x-bounds" = "0s to 1d"))]
    pub max_age: Option<At<Seconds>>,
}

/// Rules of CORS, or the word `none`.
#[derive(Debug, Clone)]
pub enum CorsManifest {
    /// Left to the app, whatever the defaults say.
    None,
    /// By these.
    Rules(CorsRulesManifest),
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

/// How an app is given its secrets.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsManifest {
    /// `files`: as files below `/run/secrets`, each called by its name; `env`: as environment variables, too.
    #[serde(rename = "as")]
    #[schemars(extend("default" = "files"))]
    pub given_as: Option<SecretsAs>,
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

/// Reads a mapping, or the word `none`; and says so in the schema.
macro_rules! mapping_or_none {
    ($type:ident, $variant:ident, $mapping:ty, $name:literal, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$type, E> {
                        if word == "none" {
                            return Ok($type::None);
                        }
                        Err(E::invalid_type(serde::de::Unexpected::Str(word), &self))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        let mapping = <$mapping>::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                        Ok($type::$variant(mapping))
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mapping = generator.subschema_for::<$mapping>();
                schemars::json_schema!({ "anyOf": [mapping, { "const": "none" }] })
            }
        }
    };
}
mapping_or_none!(
    RateLimitManifest,
    Limit,
    LimitManifest,
    "RateLimit",
    "a mapping with `requests`, `per` and `burst`, or the word none"
);
mapping_or_none!(CorsManifest, Rules, CorsRulesManifest, "Cors", "a mapping with `origins`, or the word none");
