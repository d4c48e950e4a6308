//! What callers will notice of a plan, in sentences.

use super::Verdict;
use crate::reconcile::desired::Desired;
use crate::tree::spec::RouteSettings;
use crate::tree::{ApiId, Auth, RateLimit, Seconds, Spec};

/// What callers of an API will notice. `old` are the settings in force; `restart` is whether new instances take over from those
/// that serve, `is_down` whether there are none.
pub(super) fn callers(
    desired: &Desired,
    verdict: Verdict,
    old: Option<&Spec>,
    (restart, is_down): (bool, bool),
) -> Vec<String> {
    let id = &desired.id;
    let target = desired.target().map(|target| &target.spec);
    let mut notices = Vec::new();
    match verdict {
        Verdict::Create => {
            notices.push(match target.map(|spec| spec.route.auth) {
                Some(Auth::None) => format!("/run/{id} answers anybody"),
                Some(Auth::Jwt) => format!("/run/{id} answers callers with a token"),
                _ => format!("/run/{id} answers callers with a key"),
            });
            // What it has of these, it has from the start.
            if let Some(spec) = target {
                let route = &spec.route;
                hosts(&mut notices, id, &[], &route.hosts);
                networks(&mut notices, (&[], &[]), (&route.allow, &route.deny));
                limits(&mut notices, [None; 3], [spec.rate_limit, route.total_limit, route.address_limit]);
            }
        }
        Verdict::Suspend => notices.push(format!("/run/{id} answers 503: suspended")),
        Verdict::Remove => notices.push(format!("/run/{id} answers 401 as any unknown API does")),
        Verdict::Update | Verdict::Heal if is_down => {
            notices.push(format!("/run/{id} answers 503 until an instance is ready"));
        }
        Verdict::Update | Verdict::Heal if restart => notices.push(match target {
            Some(spec) => format!("no request is lost; open streams end after {} at the latest", spec.drain),
            None => "no request is lost".to_owned(),
        }),
        Verdict::Update | Verdict::Heal | Verdict::Blocked => {}
    }
    if let (Some(old), Some(new)) = (old, target) {
        settings(&mut notices, id, old, new);
    }
    notices
}

/// What callers notice of settings that change.
fn settings(notices: &mut Vec<String>, id: &ApiId, old: &Spec, new: &Spec) {
    // All of them by name, so that one that comes to be is thought of here too.
    let RouteSettings {
        timeout,
        max_body,
        auth,
        total_limit,
        address_limit,
        hosts: at,
        max_in_flight,
        idle,
        total,
        allow,
        deny,
        cors,
        compress,
        maintenance,
    } = &new.route;
    let route = &old.route;
    let mut say = |sentence: String| notices.push(sentence);
    if old.suspend && !new.suspend {
        say(format!("/run/{id} answers again"));
    }
    if *auth != route.auth {
        say(match auth {
            Auth::None => "anybody may call, without a key".to_owned(),
            Auth::Jwt => "callers need a token of the issuer".to_owned(),
            Auth::Key => "callers need a key".to_owned(),
        });
    }
    let mut waits = |what: &str, new: &Seconds, old: &Seconds| {
        if new != old {
            say(format!("{what} {new}, not {old}"));
        }
    };
    waits("an answer may take", timeout, &route.timeout);
    waits("the middle of an answer may be silent for", idle, &route.idle);
    waits("a request and its answer may take", total, &route.total);
    if *max_body != route.max_body {
        say(format!("a request body may be {max_body}, not {}", route.max_body));
    }
    if *max_in_flight != route.max_in_flight {
        let was = route.max_in_flight;
        say(format!(
            "each instance answers {max_in_flight} requests at once, not {was}; others wait, or are told to come again"
        ));
    }
    if *compress != route.compress {
        let what = if *compress { "are compressed for who asks for it" } else { "are not compressed any more" };
        say(format!("answers {what}"));
    }
    if *cors != route.cors {
        say(match (&route.cors, cors) {
            (None, _) => {
                "which pages of other origins may call is what the gateway says (CORS), not the app".to_owned()
            }
            (_, None) => "which pages of other origins may call is left to the app (CORS)".to_owned(),
            _ => "which pages of other origins may call is something else (CORS)".to_owned(),
        });
    }
    if new.suspend && old.suspend && *maintenance != route.maintenance {
        say("what they are told while it is suspended is something else".to_owned());
    }
    hosts(notices, id, &route.hosts, at);
    networks(notices, (&route.allow, &route.deny), (allow, deny));
    let old = [old.rate_limit, route.total_limit, route.address_limit];
    limits(notices, old, [new.rate_limit, *total_limit, *address_limit]);
}

/// Which hosts lead to an API.
fn hosts(notices: &mut Vec<String>, id: &ApiId, old: &[String], new: &[String]) {
    let added = new.iter().filter(|host| !old.contains(host)).map(|host| format!("{host} leads to {id}"));
    let gone = old.iter().filter(|host| !new.contains(host)).map(|host| format!("{host} leads to {id} no longer"));
    notices.extend(added.chain(gone));
}

/// Networks that are let in and refused.
type Networks<'a> = (&'a [ipnet::IpNet], &'a [ipnet::IpNet]);

fn networks(notices: &mut Vec<String>, old: Networks<'_>, new: Networks<'_>) {
    let list = |all: &[ipnet::IpNet]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (old.0 == new.0, new.0) {
        (true, _) => {}
        (false, []) => notices.push("callers of all networks are let in".to_owned()),
        (false, some) => notices.push(format!("only callers from {} are let in", list(some))),
    }
    match (old.1 == new.1, new.1) {
        (true, _) => {}
        (false, []) => notices.push("callers of no network are refused any more".to_owned()),
        (false, some) => notices.push(format!("callers from {} are refused", list(some))),
    }
}

/// Limits for each caller, for all of them together, and for each address.
fn limits(notices: &mut Vec<String>, old: [Option<RateLimit>; 3], new: [Option<RateLimit>; 3]) {
    let who = ["each caller", "all callers together", "each client address"];
    let text = |limit: Option<RateLimit>| match limit {
        None => "as many requests as they like".to_owned(),
        Some(RateLimit { requests, per, burst }) => format!("{requests} requests in {per}, {burst} at once"),
    };
    for (who, (old, new)) in who.into_iter().zip(old.into_iter().zip(new)) {
        notices.extend((old != new).then(|| match old {
            Some(_) if new.is_some() => format!("{who} may make {}, not {}", text(new), text(old)),
            _ => format!("{who} may make {}", text(new)),
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tree::Size;
    use crate::tree::cors::{Cors, Origin};

    fn anybody() -> Cors {
        let (origins, max_age) = (vec![Origin::Any], Seconds::new(600));
        Cors { origins, methods: Vec::new(), headers: Vec::new(), expose: Vec::new(), credentials: false, max_age }
    }

    fn noticed(change: impl FnOnce(&mut Spec)) -> Vec<String> {
        let old = Spec::built_in("shop");
        let mut new = old.clone();
        change(&mut new);
        let mut notices = Vec::new();
        settings(&mut notices, &ApiId::new("shop").unwrap(), &old, &new);
        notices
    }

    #[test]
    fn what_no_caller_sees_is_nothing_to_tell_them() {
        assert_eq!(noticed(|_| {}), [""; 0]);
        assert_eq!(noticed(|spec| spec.replicas = 3), [""; 0]);
        assert_eq!(noticed(|spec| spec.route.maintenance = "Back soon".to_owned()), [""; 0]);
    }

    #[test]
    fn each_setting_that_callers_meet_is_told_in_a_sentence() {
        type Case = (fn(&mut Spec), &'static str);
        let limit = RateLimit { requests: 5, per: Seconds::new(1), burst: 10 };
        let cases: [Case; 13] = [
            (|spec| spec.route.auth = Auth::None, "anybody may call, without a key"),
            (|spec| spec.route.timeout = Seconds::new(5), "an answer may take 5s, not 30s"),
            (|spec| spec.route.idle = Seconds::new(5), "the middle of an answer may be silent for 5s, not 5m"),
            (|spec| spec.route.total = Seconds::new(60), "a request and its answer may take 1m, not 1d"),
            (|spec| spec.route.max_body = Size::mib(1), "a request body may be 1MiB, not 100MiB"),
            (
                |spec| spec.route.max_in_flight = 3,
                "each instance answers 3 requests at once, not 100; others wait, or are told to come again",
            ),
            (|spec| spec.route.compress = true, "answers are compressed for who asks for it"),
            (
                |spec| spec.route.cors = Some(Arc::new(anybody())),
                "which pages of other origins may call is what the gateway says (CORS), not the app",
            ),
            (|spec| spec.route.hosts = vec!["a.test".to_owned()], "a.test leads to shop"),
            (|spec| spec.route.allow = vec!["10.0.0.0/8".parse().unwrap()], "only callers from 10.0.0.0/8 are let in"),
            (|spec| spec.route.deny = vec!["10.0.0.0/8".parse().unwrap()], "callers from 10.0.0.0/8 are refused"),
            (
                |spec| spec.rate_limit = Some(RateLimit { requests: 5, per: Seconds::new(1), burst: 10 }),
                "each caller may make 5 requests in 1s, 10 at once",
            ),
            (
                |spec| spec.route.total_limit = Some(RateLimit { requests: 5, per: Seconds::new(1), burst: 10 }),
                "all callers together may make 5 requests in 1s, 10 at once",
            ),
        ];
        for (change, sentence) in cases {
            assert_eq!(noticed(change), [sentence]);
        }
        let mut notices = Vec::new();
        limits(&mut notices, [None, None, Some(limit)], [None; 3]);
        assert_eq!(notices, ["each client address may make as many requests as they like"]);
        notices.clear();
        limits(&mut notices, [Some(limit), None, None], [Some(RateLimit { burst: 5, ..limit }), None, None]);
        assert_eq!(notices, ["each caller may make 5 requests in 1s, 5 at once, not 5 requests in 1s, 10 at once"]);
        notices.clear();
        let host = || vec!["a.test".to_owned()];
        hosts(&mut notices, &ApiId::new("shop").unwrap(), &host(), &[]);
        assert_eq!(notices, ["a.test leads to shop no longer"]);
    }
}
