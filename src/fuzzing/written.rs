//! Settled settings, written down as somebody could have written them.

use crate::settings::{
    BuildSettings, CaBundle, DeclaredKey, Dial, EngineSettings, JwksPlace, JwtSettings, Policy, Settings,
};
use crate::tree::{Auth, Cors, Egress, KeyTerms, Probe, RateLimit, SecretsAs, Spec};

/// An `api.yaml` that says all that the spec does.
pub(super) fn manifest(spec: &Spec) -> String {
    let (name, description) = (text(&spec.name), text(&spec.description));
    format!("name: {name}\ndescription: {description}\n{}", common(spec, "\n"))
}

/// A `skep.yaml` that says all that the settings do, but for what belongs to the host. All fields are named, so that a
/// new one cannot be forgotten.
pub(super) fn settings(settings: &Settings) -> String {
    let Settings { build, policy, engine, look_every, adopt, defaults, plans, keys, jwt, .. } = settings;
    let BuildSettings { base_image, ca_bundle, index_url, concurrency, timeout, memory, cpu } = build;
    let Policy {
        max_deletes,
        max_deletes_percent,
        max_file,
        max_folder,
        max_files,
        keep_revisions,
        keep_events,
        keep_usage,
        min_free_disk,
    } = policy;
    let EngineSettings { host: _, dial, ports: (first, last) } = engine;
    let ca_bundle = match ca_bundle {
        CaBundle::Auto => text("auto"),
        CaBundle::Image => text("none"),
        CaBundle::File(path) => text(path.to_str().expect("it was read from text")),
    };
    let index_url = index_url.as_ref().map(|url| format!(", index_url: {}", text(url))).unwrap_or_default();
    let base_image = text(base_image);
    let dial = match dial {
        Dial::Auto => "auto",
        Dial::Address => "address",
        Dial::Loopback => "loopback",
    };
    let jwt = tokens(jwt);
    let plan = |(name, one): (&String, &RateLimit)| format!("{}: {}", text(name), limit(Some(*one)));
    let plans = plans.iter().map(plan).collect::<Vec<_>>().join(", ");
    let keys = keys.iter().map(key).collect::<Vec<_>>().join(", ");
    let defaults = common(defaults, ", ");
    let defaults = defaults.trim_end_matches([',', ' ']);
    format!(
        "defaults: {{ {defaults} }}\n\
         build: {{ base_image: {base_image}, ca_bundle: {ca_bundle}, concurrency: {concurrency}, timeout: {timeout}, \
         memory: {memory}, cpu: {cpu}{index_url} }}\n\
         policy: {{ max_deletes: {{ count: {max_deletes}, percent: {max_deletes_percent} }}, max_file: {max_file}, \
         max_folder: {max_folder}, max_files: {max_files}, min_free_disk: {min_free_disk}, \
         keep: {{ revisions: {keep_revisions}, events: {keep_events}, usage: {keep_usage} }} }}\n\
         engine: {{ dial: {dial}, ports: {{ first: {first}, last: {last} }} }}\n\
         look_every: {look_every}\n\
         adopt: {adopt}\n\
         auth: {{ jwt: {{ {jwt} }} }}\n\
         plans: {{ {plans} }}\n\
         keys: [{keys}]\n",
    )
}

/// A declared key, and all that it is good for.
fn key(key: &DeclaredKey) -> String {
    let DeclaredKey { name, hash, apis, terms: KeyTerms { expires, methods, paths, plan, limit: _ } } = key;
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    let apis =
        apis.as_ref().map_or_else(|| "all".to_owned(), |apis| list(apis.iter().map(|id| text(id.as_str())).collect()));
    let methods = list(methods.iter().map(|method| text(&method.to_string())).collect());
    let paths = list(paths.iter().map(|path| text(&path.to_string())).collect());
    let expires = expires.map(|at| format!(", expires: {}", text(&at.to_string()))).unwrap_or_default();
    let plan = plan.as_ref().map(|plan| format!(", plan: {}", text(plan))).unwrap_or_default();
    let (name, hash) = (text(name), text(&hash.to_string()));
    format!("{{ name: {name}, hash: {hash}, apis: {apis}, methods: {methods}, paths: {paths}{expires}{plan} }}")
}

/// How tokens are checked, but for the secret, which belongs to the host.
fn tokens(jwt: &JwtSettings) -> String {
    let JwtSettings { secret: _, jwks, issuer, audience, claims, pass } = jwt;
    let place = jwks.as_ref().map(|place| match place {
        JwksPlace::Url(uri) => uri.to_string(),
        JwksPlace::File(path) => path.to_str().expect("it was read from text").to_owned(),
    });
    let known = [("jwks_url", place.as_ref()), ("issuer", issuer.as_ref()), ("audience", audience.as_ref())];
    let known = known.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}, ", text(value?))));
    let claims: Vec<String> = claims.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
    let pass: Vec<String> = pass.iter().map(|name| text(name)).collect();
    format!("{}claims: {{ {} }}, pass: [{}]", known.collect::<String>(), claims.join(", "), pass.join(", "))
}

/// A limit, or none.
fn limit(limit: Option<RateLimit>) -> String {
    limit.map_or_else(
        || "none".to_owned(),
        |limit| format!("{{ requests: {}, per: {}, burst: {} }}", limit.requests, limit.per, limit.burst),
    )
}

/// Rules of CORS.
fn cors(cors: &Cors) -> String {
    let Cors { origins, methods, headers, expose, credentials, max_age } = cors;
    format!(
        "{{ origins: {}, methods: {}, headers: {}, expose: {}, credentials: {credentials}, max_age: {max_age} }}",
        texts(origins),
        texts(methods),
        texts(headers),
        texts(expose)
    )
}

/// A list of what is written as text.
fn texts<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(|item| text(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// The keys that `api.yaml` and the defaults of `skep.yaml` share.
fn common(spec: &Spec, between: &str) -> String {
    let Spec {
        name: _,
        description: _,
        app,
        resources,
        replicas,
        health,
        route,
        rate_limit,
        env,
        secrets,
        egress,
        drain,
        suspend,
    } = spec;
    let probe = match health.probe {
        Probe::Http => "http",
        Probe::Tcp => "tcp",
    };
    let egress = match egress {
        Egress::Internet => "internet",
        Egress::None => "none",
    };
    let secrets = match secrets {
        SecretsAs::Files => "files",
        SecretsAs::Env => "env",
    };
    let auth = match route.auth {
        Auth::Key => "key",
        Auth::Jwt => "jwt",
        Auth::None => "none",
    };
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
    let lines = [
        format!("app: {}", text(app)),
        format!(
            "resources: {{ cpu: {}, memory: {}, pids: {}, tmp: {} }}",
            resources.cpu, resources.memory, resources.pids, resources.tmp
        ),
        format!("replicas: {replicas}"),
        format!(
            "health: {{ probe: {probe}, path: {}, interval: {}, timeout: {}, grace: {} }}",
            text(&health.path),
            health.interval,
            health.timeout,
            health.grace
        ),
        format!(
            "route: {{ hosts: [{}], timeout: {}, max_body: {}, auth: {auth}, total_limit: {}, address_limit: {}, max_in_flight: {}, idle: {}, total: {}, \
             allow: {}, deny: {}, cors: {}, compress: {}, maintenance: {} }}",
            route.hosts.join(", "),
            route.timeout,
            route.max_body,
            limit(route.total_limit),
            limit(route.address_limit),
            route.max_in_flight,
            route.idle,
            route.total,
            texts(&route.allow),
            texts(&route.deny),
            route.cors.as_deref().map_or_else(|| "none".to_owned(), cors),
            route.compress,
            text(&route.maintenance)
        ),
        format!("rate_limit: {}", limit(*rate_limit)),
        format!("env: {{ {} }}", env.join(", ")),
        format!("secrets: {{ as: {secrets} }}"),
        format!("egress: {egress}"),
        format!("deploy: {{ drain: {drain} }}"),
        format!("suspend: {suspend}"),
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
