use super::*;
use crate::tree::Cors;
use crate::tree::spec::{Egress, Probe, SecretsAs};

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
         route: { timeout: 10s, max_body: 5MB, auth: jwt, total_limit: { requests: 5 }, hosts: [a.test], max_in_flight: 7, idle: 8s, total: 9m,\n\
         \x20 allow: [10.0.0.0/8, 2001:db8::/32, ::1, 203.0.113.7], deny: [10.1.0.0/16], cors: { origins: [https://*.a.test] },\n\
         \x20 compress: true, maintenance: Back at 9. }\n\
         rate_limit: { requests: 60, per: 1h, burst: 20 }\n\
         env: { A: text, B: 1.10, C: true, D: 'no' }\nsecrets: { as: env }\negress: none\ndeploy: { drain: 5s }\nsuspend: true\n",
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
            auth: Auth::Jwt,
            total_limit: Some("5/1m".parse().unwrap()),
            address_limit: None,
            hosts: vec!["a.test".to_owned()],
            max_in_flight: 7,
            idle: Seconds::new(8),
            total: Seconds::new(540),
            allow: ["10.0.0.0/8", "2001:db8::/32", "::1/128", "203.0.113.7/32"]
                .map(|text| text.parse().unwrap())
                .into(),
            deny: vec!["10.1.0.0/16".parse().unwrap()],
            cors: Some(std::sync::Arc::new(Cors {
                origins: vec!["https://*.a.test".parse().unwrap()],
                methods: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(|method| method.parse().unwrap()).into(),
                headers: vec!["Authorization".to_owned(), "Content-Type".to_owned()],
                expose: vec![],
                credentials: false,
                max_age: Seconds::new(600),
            })),
            compress: true,
            maintenance: "Back at 9.".to_owned(),
        },
        rate_limit: Some(RateLimit { requests: 60, per: Seconds::new(3600), burst: 20 }),
        env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        secrets: SecretsAs::Env,
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
fn public_is_an_older_word_for_auth_none() {
    let mut base = Spec::built_in("a");
    base.route.auth = Auth::Jwt;
    let settle = |text| read_manifest(&base, Source::new("a", text), &mut Vec::new()).route.auth;
    assert_eq!(settle("route: { public: true }"), Auth::None);
    assert_eq!(settle("route: { public: false }"), Auth::Jwt);
    assert_eq!(settle("route: { public: true, auth: none }"), Auth::None);
    assert_eq!(codes("route: { public: true, auth: key }"), [code::BAD_VALUE]);
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

#[test]
fn networks_are_said_anew_or_taken_from_the_defaults() {
    let mut base = Spec::built_in("a");
    base.route.allow = vec!["10.0.0.0/8".parse().unwrap()];
    let settle = |text| read_manifest(&base, Source::new("a", text), &mut Vec::new()).route.allow;
    assert_eq!(settle("route: { deny: [10.0.0.1] }"), base.route.allow);
    assert_eq!(settle("route: { allow: [] }"), []);
    assert_eq!(settle("route: { allow: ['::/0'] }"), ["::/0".parse().unwrap()]);
    let (_, findings) =
        read("route:\n  allow: [10.0.0.0/8, 10.1.2.3/16]\n  deny:\n    - 10.0.0.0/8\n    - 10.0.0.0/8\n");
    let found: Vec<_> = findings.iter().map(|f| f.span.unwrap()).map(|s| (s.line, s.column, s.end_column)).collect();
    assert_eq!(found, [(2, 23, 34), (5, 7, 17)]);
    assert_eq!(codes("route: { allow: 10.0.0.0/8 }"), [code::WRONG_TYPE]);
    let many: String = (0..1001).map(|n| format!("10.{}.{}.0/24, ", n / 256, n % 256)).collect();
    assert_eq!(codes(&format!("route: {{ deny: [{many}] }}")), [code::OUT_OF_BOUNDS]);
}

#[test]
fn what_callers_of_a_suspended_api_are_told_is_one_line() {
    assert_eq!(codes("route: { maintenance: '' }"), [code::OUT_OF_BOUNDS]);
    assert_eq!(codes("route: { maintenance: \"a\\nb\" }"), [code::BAD_VALUE]);
}
