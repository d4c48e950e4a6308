//! A spec is an API's settings, settled: `api.yaml` over the defaults of `skep.yaml` over the built-in defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::cors::Cors;
use super::quantity::{Cpu, Seconds, Size};
use super::revision::Digest;

/// All settings of one API, none left open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What people call it; the id where `api.yaml` says nothing.
    pub name: String,
    /// One sentence for lists; may be empty.
    pub description: String,
    /// The ASGI object, as `module:attribute`.
    pub app: String,
    /// What each instance may use.
    pub resources: Resources,
    /// How many instances run side by side.
    pub replicas: u16,
    /// When an instance counts as ready and as well.
    pub health: Health,
    /// How the gateway treats requests to it.
    pub route: RouteSettings,
    /// How many requests each caller may make; `None` is without limit.
    pub rate_limit: Option<RateLimit>,
    /// Environment variables for the app.
    pub env: BTreeMap<String, String>,
    /// How the app is given its secrets.
    #[serde(default, skip_serializing_if = "SecretsAs::is_default")]
    pub secrets: SecretsAs,
    /// What the app may reach from inside its container.
    pub egress: Egress,
    /// How long an old instance may finish what it is doing.
    pub drain: Seconds,
    /// Keep the API, run nothing.
    pub suspend: bool,
}

/// What each instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time; 1.0 is one core.
    pub cpu: Cpu,
    /// Memory, swap included.
    pub memory: Size,
    /// Processes and threads.
    pub pids: u32,
    /// Size of the writable `/tmp`, which counts against `memory`.
    pub tmp: Size,
}

/// When an instance counts as ready and as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// The path that an HTTP probe asks for; any answer below 500 is a good one.
    pub path: String,
    /// Between two probes of an instance that serves.
    pub interval: Seconds,
    /// For one probe.
    pub timeout: Seconds,
    /// From start to the first good probe; after that the instance is given up.
    pub grace: Seconds,
}

/// What a health probe does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// `GET` of the health path; any status below 500 is good.
    Http,
    /// A TCP connection that is accepted.
    Tcp,
}

/// How the gateway treats requests to an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSettings {
    /// From the last byte of the request to the first byte of the answer.
    pub timeout: Seconds,
    /// The largest request body.
    pub max_body: Size,
    /// How callers show that they may call.
    #[serde(alias = "public", deserialize_with = "auth_or_public")]
    pub auth: Auth,
    /// How many requests all callers together may make; `None` is without limit.
    #[serde(default)]
    pub total_limit: Option<RateLimit>,
    /// How many requests each client address may make, whatever it shows; `None` is without limit.
    #[serde(default)]
    pub address_limit: Option<RateLimit>,
    /// Hosts that are this API's alone, in lower case.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The most requests that each instance answers at once.
    #[serde(default = "max_in_flight")]
    pub max_in_flight: u32,
    /// The longest silence in the middle of an answer; a stream of events may be silent for as long as it likes.
    #[serde(default = "idle")]
    pub idle: Seconds,
    /// From the head of a request to the end of its answer; WebSockets and streams of events aside.
    #[serde(default = "total")]
    pub total: Seconds,
    /// Networks whose callers are let in, and no others; none named is all. None is of IPv4 mapped into IPv6.
    #[serde(default)]
    pub allow: Vec<IpNet>,
    /// Networks whose callers are refused, also where `allow` names them.
    #[serde(default)]
    pub deny: Vec<IpNet>,
    /// Which pages of other origins may call from a browser; `None` leaves CORS to the app.
    #[serde(default)]
    pub cors: Option<Arc<Cors>>,
    /// Compress answers for callers who ask for it, where that is safe.
    #[serde(default)]
    pub compress: bool,
    /// What callers are told while the API is suspended.
    #[serde(default = "maintenance")]
    pub maintenance: String,
}

// What an API gets that was written down before there was the setting.

fn max_in_flight() -> u32 {
    100
}

fn idle() -> Seconds {
    Seconds::new(300)
}

fn total() -> Seconds {
    Seconds::new(86_400)
}

fn maintenance() -> String {
    "API is paused".to_owned()
}

/// How callers show that they may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// By a key of this installation.
    Key,
    /// By a token that an issuer has signed, as `auth.jwt` in `skep.yaml` says.
    Jwt,
    /// Not at all: anybody may call.
    None,
}

/// Reads what an older skep wrote too: whether an API is public.
fn auth_or_public<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Auth, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Auth(Auth),
        Public(bool),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Auth(auth) => auth,
        Written::Public(true) => Auth::None,
        Written::Public(false) => Auth::Key,
    })
}

/// How many requests each caller may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests in each period.
    pub requests: u32,
    /// The period.
    pub per: Seconds,
    /// Requests that may come at once, before the even pace holds.
    pub burst: u32,
}

/// What an app may reach from inside its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// The internet.
    Internet,
    /// Nothing at all.
    None,
}

/// The part of a [`Spec`] that a container sees. It is what a revision is made of besides the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// See [`Spec::app`].
    pub app: String,
    /// See [`Spec::resources`].
    pub resources: Resources,
    /// See [`Spec::env`].
    pub env: BTreeMap<String, String>,
    /// See [`Spec::secrets`].
    #[serde(default, skip_serializing_if = "SecretsAs::is_default")]
    pub secrets: SecretsAs,
    /// See [`Spec::egress`].
    pub egress: Egress,
}

/// How an app is given its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretsAs {
    /// As files below `/run/secrets`, each called by its name.
    #[default]
    Files,
    /// As such files, and as environment variables.
    Env,
}

impl SecretsAs {
    /// Left out where it is written down, so that what was written before there was a choice is the same.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it in like this")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Spec {
    /// The built-in defaults, for an API of that name.
    #[must_use]
    pub fn built_in(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            app: "main:app".to_owned(),
            resources: Resources { cpu: Cpu(1000), memory: Size::mib(512), pids: 128, tmp: Size::mib(64) },
            replicas: 1,
            health: Health {
                probe: Probe::Http,
                path: "/".to_owned(),
                interval: Seconds::new(2),
                timeout: Seconds::new(2),
                grace: Seconds::new(30),
            },
            route: RouteSettings {
                timeout: Seconds::new(30),
                max_body: Size::mib(100),
                auth: Auth::Key,
                total_limit: None,
                address_limit: None,
                hosts: Vec::new(),
                max_in_flight: max_in_flight(),
                idle: idle(),
                total: total(),
                allow: Vec::new(),
                deny: Vec::new(),
                cors: None,
                compress: false,
                maintenance: maintenance(),
            },
            rate_limit: None,
            env: BTreeMap::new(),
            secrets: SecretsAs::Files,
            egress: Egress::Internet,
            drain: Seconds::new(30),
            suspend: false,
        }
    }

    /// The part that a container sees.
    #[must_use]
    pub fn run(&self) -> RunSpec {
        RunSpec {
            app: self.app.clone(),
            resources: self.resources,
            env: self.env.clone(),
            secrets: self.secrets,
            egress: self.egress,
        }
    }

    /// The digest of all settings, those that restart nothing included.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_value(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_of_an_older_skep_is_read() {
        let mut value = serde_json::to_value(Spec::built_in("a")).unwrap();
        for (public, auth) in [(true, Auth::None), (false, Auth::Key)] {
            value["route"] = serde_json::json!({ "timeout": "30s", "max_body": "100MiB", "public": public });
            let route = serde_json::from_value::<Spec>(value.clone()).unwrap().route;
            assert_eq!(route, RouteSettings { auth, ..Spec::built_in("a").route });
        }
    }
}
