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
use super::spec::{Health, RateLimit, Resources, RouteSettings, Spec};
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
        route.public = manifest.public.unwrap_or(route.public);
        self.within(manifest.max_in_flight.as_ref(), 1..=100_000, &mut route.max_in_flight);
        self.within(manifest.idle.as_ref(), Seconds::millis(100)..=Seconds::new(86_400), &mut route.idle);
        self.within(manifest.total.as_ref(), Seconds::millis(100)..=Seconds::new(30 * 86_400), &mut route.total);
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
mod tests {
    use super::*;
    use crate::tree::spec::{Egress, Probe};

    fn read(text: &str) -> (Spec, Vec<Diagnostic>) {
        let mut findings = Vec::new();
        let spec = read_manifest(&Spec::built_in("a"), Source::new("apis/a/api.yaml", text), &mut findings);
        (spec, findings)
    }

    fn codes(text: &str) -> Vec<&'static str> {
        read(text).1.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn what_is_not_said_is_as_built_in() {
        for text in ["", "# nothing\n", "env:\nresources:\n", "{}", "name: ~\n"] {
            assert_eq!(read(text), (Spec::built_in("a"), vec![]), "{text:?}");
        }
    }

    #[test]
    fn every_key_is_taken() {
        let (spec, findings) = read(
            "name: Thumbnails\ndescription: Resizes images.\napp: pkg.web:site.app\n\
             resources: { cpu: 0.5, memory: 1GiB, pids: 64, tmp: 128MiB }\nreplicas: 3\n\
             health: { probe: tcp, path: /up, interval: 5s, timeout: 1s, grace: 1m }\n\
             route: { timeout: 10s, max_body: 5MB, public: true, hosts: [a.test], max_in_flight: 7, idle: 8s, total: 9m }\n\
             rate_limit: { requests: 60, per: 1h, burst: 20 }\n\
             env: { A: text, B: 1.10, C: true, D: 'no' }\negress: none\ndeploy: { drain: 5s }\nsuspend: true\n",
        );
        assert_eq!(findings, []);
        let env = [("A", "text"), ("B", "1.10"), ("C", "true"), ("D", "no")];
        let expected = Spec {
            name: "Thumbnails".into(),
            description: "Resizes images.".into(),
            app: "pkg.web:site.app".into(),
            resources: Resources { cpu: Cpu(500), memory: Size::mib(1024), pids: 64, tmp: Size::mib(128) },
            replicas: 3,
            health: Health {
                probe: Probe::Tcp,
                path: "/up".into(),
                interval: Seconds::new(5),
                timeout: Seconds::new(1),
                grace: Seconds::new(60),
            },
            route: RouteSettings {
                timeout: Seconds::new(10),
                max_body: Size(5_000_000),
                public: true,
                hosts: vec!["a.test".to_owned()],
                max_in_flight: 7,
                idle: Seconds::new(8),
                total: Seconds::new(540),
            },
            rate_limit: Some(RateLimit { requests: 60, per: Seconds::new(3600), burst: 20 }),
            env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            egress: Egress::None,
            drain: Seconds::new(5),
            suspend: true,
        };
        assert_eq!(spec, expected);
    }

    #[test]
    fn all_that_is_wrong_is_said_in_one_go() {
        let text = "memroy: 1\nreplicas: 0\nresources: { cpu: 65, memory: 512, ram: 1 }\negress: non\nenv: [A]\n\
                    suspend: maybe\nname: 7\n";
        let (_, findings) = read(text);
        let found: Vec<_> = findings.iter().map(|f| (f.code, f.span.unwrap().line)).collect();
        for expected in [
            (code::UNKNOWN_KEY, 1),
            (code::OUT_OF_BOUNDS, 2),
            (code::OUT_OF_BOUNDS, 3),
            (code::BAD_VALUE, 3),
            (code::UNKNOWN_KEY, 3),
            (code::BAD_VALUE, 4),
            (code::WRONG_TYPE, 5),
            (code::WRONG_TYPE, 6),
            (code::WRONG_TYPE, 7),
        ] {
            assert!(found.contains(&expected), "{expected:?} in {findings:#?}");
        }
        assert_eq!(found.len(), 9);
    }

    #[test]
    fn a_finding_points_at_the_value_and_hints_at_the_word_that_was_meant() {
        let (_, findings) = read("resources:\n  cpu: 65\n");
        let span = findings[0].span.unwrap();
        assert_eq!((span.line, span.column, span.end_column), (2, 8, 10));
        assert_eq!(findings[0].hint, "write a value from 0.01 to 64");
        assert_eq!(read("egress: intenet\n").1[0].hint, "did you mean `internet`?");
        assert_eq!(read("memroy: 1GiB\n").1[0].hint, "did you mean `resources.memory`?");
        assert_eq!(read("healht: {}\n").1[0].hint, "did you mean `health`?");
        assert_eq!(read("resources: { memory: 512Mib }\n").1[0].hint, "did you mean 512MiB?");
        assert_eq!(read("deploy: { drain: 30sec }\n").1[0].hint, "did you mean 30s?");
        assert_eq!(read("app: main.py\n").1[0].hint, "did you mean `main:app`?");
    }

    #[test]
    fn variables_are_checked() {
        assert_eq!(codes("env: { 1A: x }"), [code::BAD_ENV_NAME]);
        assert_eq!(codes("env: { PYTHONPATH: x, UV_X: y }"), [code::RESERVED_ENV, code::RESERVED_ENV]);
        assert_eq!(codes("env: { A: \"x\\0y\" }"), [code::BAD_VALUE]);
        assert_eq!(codes(&format!("env: {{ A: {} }}", "x".repeat(33_000))), [code::OUT_OF_BOUNDS]);
        assert_eq!(codes("env: { A: }"), [code::WRONG_TYPE]);
        let many: String = (0..201).map(|n| format!("  A{n}: x\n")).collect();
        assert_eq!(codes(&format!("env:\n{many}")), [code::OUT_OF_BOUNDS]);
    }

    #[test]
    fn a_rate_limit_is_laid_over_that_of_the_defaults() {
        let mut base = Spec::built_in("a");
        base.rate_limit = Some(RateLimit { requests: 10, per: Seconds::new(5), burst: 3 });
        let settle = |text| read_manifest(&base, Source::new("a", text), &mut Vec::new()).rate_limit;
        assert_eq!(settle("rate_limit: none"), None);
        assert_eq!(settle("rate_limit: { per: 9s }"), Some(RateLimit { requests: 10, per: Seconds::new(9), burst: 3 }));
        let twenty = RateLimit { requests: 20, per: Seconds::new(5), burst: 20 };
        assert_eq!(settle("rate_limit: { requests: 20 }"), Some(twenty));
        assert_eq!(codes("rate_limit: { per: 9s }"), [code::MISSING_KEY]);
        assert_eq!(codes("rate_limit: 60"), [code::WRONG_TYPE]);
    }

    #[test]
    fn a_file_of_another_kind_is_not_read_to_its_end() {
        assert_eq!(codes(&"a: 1\n".repeat(40_000)).len(), MAX_FINDINGS);
        let keys: String = (0..20_000).map(|n| format!("a{n}: 1\n")).collect();
        assert_eq!(codes(&keys).len(), MAX_FINDINGS);
        let names: String = (0..20_000).map(|n| format!("  {n}: 1\n")).collect();
        assert_eq!(codes(&format!("env:\n{names}")).len(), MAX_FINDINGS);
    }

    #[test]
    fn a_health_path_is_one_that_a_probe_can_ask_for() {
        assert_eq!(codes("health: { path: '/up?a=%20&b={}' }"), [""; 0]);
        for path in ["up", "/a b", "/a#b", "/<a>", "/a`b", "/\u{e9}"] {
            assert_eq!(codes(&format!("health: {{ path: '{path}' }}")), [code::BAD_VALUE], "{path}");
        }
    }

    #[test]
    fn tmp_fits_into_memory() {
        assert_eq!(codes("resources: { memory: 32MiB, tmp: 64MiB }"), [code::OUT_OF_BOUNDS]);
        assert_eq!(read("resources: { memory: 32MiB }").0.resources.tmp, Size::mib(32));
    }

    #[test]
    fn texts_are_one_line_of_bounded_length() {
        assert_eq!(codes("name: ''"), [code::OUT_OF_BOUNDS]);
        assert_eq!(codes("name: '  '"), [code::OUT_OF_BOUNDS]);
        assert_eq!(codes(&format!("name: {}", "x".repeat(101))), [code::OUT_OF_BOUNDS]);
        assert_eq!(codes("description: \"a\\eb\""), [code::BAD_VALUE]);
        assert_eq!(read("description: >\n  Resizes\n  images.\n").0.description, "Resizes images.");
    }
}
