//! Settling lays one manifest over what holds without it, and checks every value against its bounds.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::diagnostic::{Diagnostic, code};
use super::manifest::{
    DeployManifest, HealthManifest, LimitManifest, Manifest, RateLimitManifest, ResourcesManifest, RouteManifest,
    VariablesManifest,
};
use super::quantity::{Cpu, Seconds, Size};
use super::source::{MAX_FINDINGS, Source};
use super::spec::{Auth, Health, RateLimit, Resources, RouteSettings, Spec};
use super::variables;
use super::yaml::{self, At};

/// Checks values of one file and takes those that are within bounds.
pub struct Settler<'a, 'f> {
    source: Source<'a>,
    findings: &'f mut Vec<Diagnostic>,
}

/// Reads an `api.yaml`: its settings over those of `base`. With findings that are errors, the value is of no use.
#[must_use]
pub fn read_manifest(base: &Spec, source: Source<'_>, findings: &mut Vec<Diagnostic>) -> Spec {
    let Some(node) = yaml::parse(source, findings) else { return base.clone() };
    let manifest: Manifest = yaml::decode(&node, source, findings);
    let mut spec = base.clone();
    Settler::new(source, findings).spec(&manifest, &mut spec);
    spec
}

impl<'a, 'f> Settler<'a, 'f> {
    /// Settles what that source says.
    pub fn new(source: Source<'a>, findings: &'f mut Vec<Diagnostic>) -> Self {
        Self { source, findings }
    }

    /// Lays a manifest over a spec.
    pub fn spec(&mut self, manifest: &Manifest, spec: &mut Spec) {
        self.line(manifest.name.as_ref(), 1..=100, "a name", &mut spec.name);
        self.line(manifest.description.as_ref(), 0..=500, "a description", &mut spec.description);
        self.app(manifest.app.as_ref(), &mut spec.app);
        if let Some(resources) = &manifest.resources {
            self.resources(resources, &mut spec.resources);
        }
        self.within(manifest.replicas.as_ref(), 1..=50, &mut spec.replicas);
        if let Some(health) = &manifest.health {
            self.health(health, &mut spec.health);
        }
        if let Some(route) = &manifest.route {
            self.route(route, &mut spec.route);
        }
        self.rate_limit(manifest.rate_limit.as_ref(), &mut spec.rate_limit);
        if let Some(env) = &manifest.env {
            self.variables(env, spec);
        }
        spec.secrets = manifest.secrets.as_ref().and_then(|secrets| secrets.given_as).unwrap_or(spec.secrets);
        spec.egress = manifest.egress.unwrap_or(spec.egress);
        if let Some(DeployManifest { drain }) = &manifest.deploy {
            self.within(drain.as_ref(), Seconds::new(0)..=Seconds::new(3600), &mut spec.drain);
        }
        spec.suspend = manifest.suspend.unwrap_or(spec.suspend);
    }

    fn resources(&mut self, manifest: &ResourcesManifest, resources: &mut Resources) {
        self.within(manifest.cpu.as_ref(), Cpu(10)..=Cpu(64_000), &mut resources.cpu);
        self.within(manifest.memory.as_ref(), Size::mib(16)..=Size::mib(1024 * 1024), &mut resources.memory);
        self.within(manifest.pids.as_ref(), 16..=32_768, &mut resources.pids);
        self.within(manifest.tmp.as_ref(), Size::mib(1)..=Size::mib(1024 * 1024), &mut resources.tmp);
        if resources.tmp > resources.memory {
            match (&manifest.tmp, &manifest.memory) {
                (Some(tmp), _) => {
                    let message = format!("{} of /tmp do not fit into {} of memory", resources.tmp, resources.memory);
                    self.error(code::OUT_OF_BOUNDS, tmp, message, "what is in /tmp counts against `memory`");
                }
                // Only the memory was lowered: a default must not be what breaks an API.
                (None, _) => resources.tmp = resources.memory,
            }
        }
    }

    fn health(&mut self, manifest: &HealthManifest, health: &mut Health) {
        health.probe = manifest.probe.unwrap_or(health.probe);
        if let Some(path) = &manifest.path {
            // As the prober will send it.
            let plain = path.value.chars().all(|c| c.is_ascii_graphic() && c != '#')
                && http::uri::PathAndQuery::try_from(path.value.as_str()).is_ok();
            if path.value.starts_with('/') && plain && path.value.len() <= 1000 {
                health.path.clone_from(&path.value);
            } else {
                let message = "a health path begins with `/` and holds no spaces, control characters, `#`, `<` or `>`";
                self.error(code::BAD_VALUE, path, message, "write it as in /health; other characters percent-encoded");
            }
        }
        self.within(manifest.interval.as_ref(), Seconds::millis(100)..=Seconds::new(3600), &mut health.interval);
        self.within(manifest.timeout.as_ref(), Seconds::millis(100)..=Seconds::new(300), &mut health.timeout);
        self.within(manifest.grace.as_ref(), Seconds::new(1)..=Seconds::new(3600), &mut health.grace);
    }

    fn route(&mut self, manifest: &RouteManifest, route: &mut RouteSettings) {
        self.within(manifest.timeout.as_ref(), Seconds::millis(100)..=Seconds::new(3600), &mut route.timeout);
        self.within(manifest.max_body.as_ref(), Size(1024)..=Size::mib(1024 * 1024), &mut route.max_body);
        if let Some(hosts) = &manifest.hosts {
            super::hosts::settle(self, hosts, &mut route.hosts);
        }
        self.within(manifest.max_in_flight.as_ref(), 1..=100_000, &mut route.max_in_flight);
        self.within(manifest.idle.as_ref(), Seconds::millis(100)..=Seconds::new(86_400), &mut route.idle);
        self.within(manifest.total.as_ref(), Seconds::millis(100)..=Seconds::new(30 * 86_400), &mut route.total);
        match (&manifest.auth, manifest.public) {
            (Some(auth), Some(public)) if public != (auth.value == Auth::None) => {
                let hint = "remove `public`; `auth: none` is what `public: true` says";
                self.error(code::BAD_VALUE, auth, format!("`public: {public}` says something else"), hint);
            }
            (Some(auth), _) => route.auth = auth.value,
            (None, Some(true)) => route.auth = Auth::None,
            (None, Some(false)) if route.auth == Auth::None => route.auth = Auth::Key,
            (None, _) => {}
        }
        self.rate_limit(manifest.total_limit.as_ref(), &mut route.total_limit);
        self.rate_limit(manifest.address_limit.as_ref(), &mut route.address_limit);
        if let Some(allow) = &manifest.allow {
            super::networks::settle(self, allow, &mut route.allow);
        }
        if let Some(deny) = &manifest.deny {
            super::networks::settle(self, deny, &mut route.deny);
        }
        if let Some(cors) = &manifest.cors {
            super::cors::settle(self, cors, &mut route.cors);
        }
        route.compress = manifest.compress.unwrap_or(route.compress);
        self.line(manifest.maintenance.as_ref(), 1..=500, "what callers are told", &mut route.maintenance);
    }

    fn rate_limit(&mut self, manifest: Option<&At<RateLimitManifest>>, limit: &mut Option<RateLimit>) {
        let Some(manifest) = manifest else { return };
        let LimitManifest { requests, per, burst } = match &manifest.value {
            RateLimitManifest::None => {
                *limit = None;
                return;
            }
            RateLimitManifest::Limit(limit) => limit,
        };
        let Some(first) = requests.as_ref().map(|requests| requests.value).or(limit.map(|limit| limit.requests)) else {
            let message = "a rate limit needs `requests`";
            self.error(code::MISSING_KEY, manifest, message, "write it as in { requests: 60, per: 1m }");
            return;
        };
        let mut settled = limit.unwrap_or(RateLimit { requests: first, per: Seconds::new(60), burst: first });
        // A burst of the defaults belongs to the requests of the defaults.
        if requests.is_some() {
            settled.burst = first;
        }
        self.within(requests.as_ref(), 1..=1_000_000, &mut settled.requests);
        self.within(per.as_ref(), Seconds::new(1)..=Seconds::new(30 * 86_400), &mut settled.per);
        self.within(burst.as_ref(), 1..=1_000_000, &mut settled.burst);
        *limit = Some(settled);
    }

    fn variables(&mut self, manifest: &VariablesManifest, spec: &mut Spec) {
        for (name, value) in &manifest.0 {
            if self.findings.len() >= MAX_FINDINGS {
                return;
            }
            if !variables::is_name(&name.value) {
                let message = format!("{:?} cannot be an environment variable", super::suggest::shorten(&name.value));
                let hint = "a name has letters, digits and underscores, no digit first, 128 characters at most";
                self.error(code::BAD_ENV_NAME, name, message, hint);
            } else if let Some(reason) = variables::reserved(&name.value) {
                let message = format!("{} is not for an API to set: {reason}", name.value);
                self.error(code::RESERVED_ENV, name, message, "remove it, or choose another name");
            } else if value.value.0.contains('\0') {
                self.error(code::BAD_VALUE, value, "an environment variable cannot hold a NUL", "");
            } else if value.value.0.len() > variables::MAX_VALUE {
                let message = format!(
                    "{} has {} bytes, at most {} are taken",
                    name.value,
                    value.value.0.len(),
                    variables::MAX_VALUE
                );
                self.error(code::OUT_OF_BOUNDS, value, message, "put it into a file of the API");
            } else {
                spec.env.insert(name.value.clone(), value.value.0.clone());
            }
        }
        if spec.env.len() > variables::MAX_COUNT
            && let Some((name, _)) = manifest.0.last()
        {
            let message =
                format!("{} environment variables, at most {} are taken", spec.env.len(), variables::MAX_COUNT);
            self.error(code::OUT_OF_BOUNDS, name, message, "put settings into a file of the API");
        }
    }

    fn app(&mut self, app: Option<&At<String>>, target: &mut String) {
        let Some(app) = app else { return };
        let dotted = |path: &str| path.split('.').all(is_identifier);
        match app.value.split_once(':') {
            Some((module, attribute)) if dotted(module) && dotted(attribute) && app.value.len() <= 200 => {
                target.clone_from(&app.value);
            }
            _ => {
                let message = format!("{:?} is no ASGI object", super::suggest::shorten(&app.value));
                let hint = match app.value.strip_suffix(".py").filter(|module| dotted(module)) {
                    Some(module) => format!("did you mean `{module}:app`?"),
                    None => "write module:attribute, as in main:app".to_owned(),
                };
                self.error(code::BAD_VALUE, app, message, &hint);
            }
        }
    }

    /// Takes one line of text: no control characters, `length` characters.
    fn line(&mut self, text: Option<&At<String>>, length: RangeInclusive<usize>, what: &str, target: &mut String) {
        let Some(text) = text else { return };
        let line = text.value.trim_end();
        let count = line.chars().count();
        if !length.contains(&count) {
            let message = format!("{what} has {} to {} characters, this one has {count}", length.start(), length.end());
            self.error(code::OUT_OF_BOUNDS, text, message, "");
        } else if line.chars().any(char::is_control) {
            self.error(code::BAD_VALUE, text, format!("{what} is one line without control characters"), "");
        } else {
            line.clone_into(target);
        }
    }

    /// Takes a value that is within bounds.
    pub fn within<T: Copy + PartialOrd + Display>(
        &mut self,
        value: Option<&At<T>>,
        bounds: RangeInclusive<T>,
        target: &mut T,
    ) {
        let Some(value) = value else { return };
        if bounds.contains(&value.value) {
            *target = value.value;
        } else {
            let message = format!("{} is out of bounds", value.value);
            self.error(
                code::OUT_OF_BOUNDS,
                value,
                message,
                &format!("write a value from {} to {}", bounds.start(), bounds.end()),
            );
        }
    }

    /// Warns of a value.
    pub fn warning<T>(&mut self, code: &'static str, at: &At<T>, message: impl Into<String>, hint: &str) {
        self.findings.push(self.source.warning(code, at.range.clone(), message, hint));
    }

    /// Reports an error at a value.
    pub fn error<T>(&mut self, code: &'static str, at: &At<T>, message: impl Into<String>, hint: &str) {
        self.findings.push(self.source.error(code, at.range.clone(), message, hint));
    }
}

/// Whether a word can be a name in Python. Letters beyond ASCII are left to Python, which has the tables.
fn is_identifier(word: &str) -> bool {
    let letter = |c: char| c == '_' || c.is_alphabetic();
    word.chars().next().is_some_and(letter) && word.chars().all(|c| letter(c) || c.is_numeric())
}

#[cfg(test)]
mod tests;
