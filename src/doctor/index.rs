//! Judges what installs stand on: the base image, the certificates that go into it, the package index.

use jiff::{SignedDuration, Timestamp};

use super::facts::Bundle;
use super::finding::Finding;
use super::{Blank, Examination, certificates as x509};
use crate::engine::docker::examine::{Stage, Visit};

/// A base image older than this lacks so many fixes of its distribution that it is worth saying.
const OLD: SignedDuration = SignedDuration::from_hours(24 * 120);

/// Certificates that end within this are worth saying.
const SOON: SignedDuration = SignedDuration::from_hours(24 * 14);

/// Whether the base image is there, or can come.
pub(super) fn base(seen: &Examination) -> Finding {
    const CHECK: &str = "base-image";
    let base = match &seen.base {
        Ok(base) => base,
        Err(blank @ Blank::Failed(_)) => {
            return Finding::problem(
                CHECK,
                blank.to_string(),
                "Nothing can be installed or built without a base image.",
            );
        }
        Err(blank) => return Finding::unknown(CHECK, blank.to_string()),
    };
    let wanted = &base.wanted;
    if let Some(name) = &base.name {
        let python = seen.visit.as_ref().ok().and_then(|visit| visit.python.as_ref());
        let python = python.map(|version| format!(", Python {version}")).unwrap_or_default();
        let age = base.created.map(|created| seen.now.duration_since(created)).filter(SignedDuration::is_positive);
        let age_text = age.map(|age| format!(", {}", days(age))).unwrap_or_default();
        let found = format!("{name}{python}{age_text}");
        if age.is_some_and(|age| age > OLD) {
            let means = "Fixes of its distribution since then are in no image. A newer one makes every API anew, one by one \
                         and without a break.";
            let step = if name == wanted {
                format!("docker pull {name} && skep apply")
            } else {
                format!("docker image rm {name} && skep apply")
            };
            return Finding::note(CHECK, found, means).next(step);
        }
        if !base.is_prepared {
            return Finding::ok(CHECK, format!("{found}; made ready for apps at the first start"));
        }
        return Finding::ok(CHECK, found);
    }
    match (&base.registry, base.can_be_made) {
        (Some(Ok(())), _) => Finding::ok(CHECK, format!("{wanted} is fetched at the first start; a registry has it")),
        (_, true) if seen.has_mmdebstrap => {
            Finding::ok(CHECK, format!("no registry has {wanted} for us; an equal one is made at the first start"))
        }
        (refusal, can_be_made) => {
            let why = match refusal {
                Some(Err(why)) => why.as_str(),
                _ => "no registry was asked",
            };
            let finding = Finding::problem(
                CHECK,
                format!("{wanted} is not here and cannot be fetched: {why}"),
                "Nothing can be installed or built without a base image.",
            );
            let load = "On a host that reaches a registry: docker save python:3.11-slim | ssh THIS-HOST docker load";
            if can_be_made {
                finding
                    .next("sudo apt-get install mmdebstrap debian-archive-keyring    # skep then makes an equal one")
                    .next(load)
            } else {
                finding
                    .next(load)
                    .next("Or set build.base_image to python:3.11-slim, which can be made of Debian's packages.")
            }
        }
    }
}

/// Which certificates go into builds, and whether those of the house are still good.
pub(super) fn certificates(bundle: &Bundle, now: Timestamp) -> Finding {
    const CHECK: &str = "certificates";
    match bundle {
        Bundle::Host { path, count } => Finding::ok(CHECK, format!("{count} of {} go into builds", path.display())),
        Bundle::NoHost => Finding::note(
            CHECK,
            "this host has no CA bundle, so builds trust the base image's own",
            "Behind a proxy that looks into TLS, installs fail until the proxy's certificate is known here.",
        )
        .next("sudo apt-get install ca-certificates"),
        Bundle::Image => Finding::ok(CHECK, "build.ca_bundle is none: builds trust the base image's own"),
        Bundle::Unreadable { path, cause } => Finding::problem(
            CHECK,
            format!("build.ca_bundle: {}: {cause}", path.display()),
            "Nothing can be installed: the certificates that the settings ask for cannot be read.",
        )
        .next("Correct build.ca_bundle in skep.yaml; the path is relative to that file."),
        Bundle::File { path, certificates } => {
            let place = path.display();
            let good: Vec<_> = certificates.iter().filter_map(|found| found.as_ref().ok()).collect();
            if certificates.is_empty() {
                let means = "Installs trust nobody new; a file of certificates has lines that say BEGIN CERTIFICATE.";
                return Finding::problem(CHECK, format!("{place} holds no certificate"), means).next(format!(
                    "openssl x509 -inform der -in {place} -out {place}.pem    # where it is in the binary form"
                ));
            }
            if let Some(Err(why)) = certificates.iter().find(|found| found.is_err()) {
                let broken = certificates.len() - good.len();
                let means = format!("Whoever is signed by it is not trusted. The first: {why}.");
                return Finding::warning(
                    CHECK,
                    format!("{broken} of {} in {place} cannot be read", certificates.len()),
                    means,
                );
            }
            let show = format!("openssl storeutl -noout -text -certs {place} | grep -E 'Subject:|Not After'");
            let over: Vec<_> = good.iter().filter(|found| found.ends < now || found.begins > now).collect();
            if let Some(first) = over.first() {
                let when = if first.ends < now {
                    format!("ended on {}", date(first.ends))
                } else {
                    format!("begins on {}", date(first.begins))
                };
                let found =
                    format!("{} of {} in {place} are not good now: {} {when}", over.len(), good.len(), first.subject);
                let means = "An index or proxy that is signed by it is not trusted, and installs fail.";
                let finding = if over.len() == good.len() {
                    Finding::problem(CHECK, found, means)
                } else {
                    Finding::warning(CHECK, found, means)
                };
                return finding.next(show);
            }
            let first = good.iter().min_by_key(|found| found.ends);
            if let Some(first) = first.filter(|first| first.ends.duration_since(now) < SOON) {
                let found = format!("{} in {place} ends on {}", first.subject, date(first.ends));
                return Finding::warning(CHECK, found, "After that day installs fail.").next(show);
            }
            let until = first.map(|first| format!(", good until {}", date(first.ends))).unwrap_or_default();
            Finding::ok(CHECK, format!("{} of {place} go into builds{until}", good.len()))
        }
    }
}

/// How far a container comes that asks the package index.
pub(super) fn index(seen: &Examination) -> Finding {
    const CHECK: &str = "index";
    let visit = match &seen.visit {
        Ok(visit) => visit,
        Err(blank @ Blank::Failed(_)) => {
            let means =
                "Asked is from a container like those that install; none could be had, so none can install either.";
            return Finding::problem(CHECK, blank.to_string(), means);
        }
        Err(blank) => return Finding::unknown(CHECK, blank.to_string()),
    };
    let place = visit.index.clone().unwrap_or_else(|| "the package index".to_owned());
    let host = visit.host.clone().unwrap_or_default();
    let through = if visit.proxy.is_some() { " (the base image's proxy)" } else { "" };
    let why = visit.error.clone().unwrap_or_else(|| "no reason was given".to_owned());
    let means = "Requirements cannot be installed. What is installed already goes on being built and started.";
    let problem = |found: String| Finding::problem(CHECK, found, means);
    let elsewhere =
        "SKEP_INDEX_URL=https://index.example/simple skep apply    # names an index that containers do reach";
    match visit.stage {
        Stage::Done => Finding::ok(CHECK, well(visit, &place)),
        Stage::Find => problem(format!("the installer does not say which index it asks: {why}")),
        Stage::Resolve => problem(format!("{place}: a container cannot resolve {host}{through}: {why}"))
            .next("cat /etc/resolv.conf    # the engine hands this host's name servers to containers; 127.0.0.x are not theirs")
            .next("Set \"dns\": [\"ADDRESS\"] in /etc/docker/daemon.json to a name server that containers reach.")
            .next(elsewhere),
        Stage::Connect if is_loopback(&host) => {
            problem(format!("{place}: a container cannot connect to {host}{}: {why}", port(visit)))
                .next("In a container that address is the container itself, and services of this host are kept from it: name an index elsewhere in SKEP_INDEX_URL.")
        }
        Stage::Connect => {
            let finding = problem(format!("{place}: a container cannot connect to {host}{}{through}: {why}", port(visit)));
            let finding = if seen.has_proxy {
                finding.next("This host goes out through a proxy, and containers do not: name an index that needs none in SKEP_INDEX_URL.")
            } else {
                finding.next("sudo sysctl net.ipv4.ip_forward    # must be 1; a firewall of the house may drop forwarded traffic")
            };
            finding.next(elsewhere)
        }
        Stage::Tls => tls(seen, visit, &place, &why),
        Stage::Ask => match visit.status {
            Some(401 | 403) => problem(format!("{place} answers {}: it wants a login, or another one", visit.status.unwrap_or_default()))
                .next("SKEP_INDEX_URL=https://USER:PASSWORD@index.example/simple skep apply"),
            Some(404) => problem(format!("{place} answers 404 for fastapi: it is no index, or does not have what every API needs"))
                .next("The address of an index ends in /simple on most servers; correct SKEP_INDEX_URL or build.index_url."),
            Some(407) => problem(format!("the proxy before {place} answers 407: it wants a login"))
                .next(elsewhere),
            Some(status) => problem(format!("{place} answers {status}"))
                .next("Ask whoever runs the index; 5xx are its own trouble, and skep tries again by itself."),
            None => problem(format!("{place} does not answer{through}: {why}")).next(elsewhere),
        },
        Stage::Install => problem(format!("{place} answers, and the installer finds no fastapi, uvicorn and python-multipart there: {why}"))
            .next(elsewhere),
    }
}

fn well(visit: &Visit, place: &str) -> String {
    let found = match visit.found.len() {
        0 => "answers",
        _ => "has what every API needs",
    };
    let through = visit.proxy.as_ref().map(|proxy| format!(" through {proxy}")).unwrap_or_default();
    format!(
        "{place} {found}, asked from a container{through}, in {:.1} s",
        f64::from(u32::try_from(visit.millis).unwrap_or(u32::MAX)) / 1000.0
    )
}

/// A certificate that is not trusted: who is in between, and how to trust them.
fn tls(seen: &Examination, visit: &Visit, place: &str, why: &str) -> Finding {
    const CHECK: &str = "index";
    let presented = visit.certificate.as_ref().and_then(|pem| x509::read(pem.as_bytes()).into_iter().next()?.ok());
    let by = presented.as_ref().map(|found| format!(", signed by {}", found.issuer)).unwrap_or_default();
    let found = format!("{place}: a container does not trust its certificate{by}: {why}");
    let is_time = why.contains("expired") || why.contains("not yet valid");
    let means = if is_time {
        "Requirements cannot be installed. Either the certificate is over, or a clock is wrong; see `clock`."
    } else {
        "Requirements cannot be installed. A proxy that looks into TLS signs with a certificate of its own, which builds must \
         be given."
    };
    let finding = Finding::problem(CHECK, found, means);
    if is_time {
        return finding.next("date -u    # then `sudo timedatectl set-ntp true` where that is wrong");
    }
    if why.to_lowercase().contains("hostname mismatch") || why.contains("not valid for") {
        return finding.next("Name the index in SKEP_INDEX_URL as its certificate does.");
    }
    let finding = match seen.bundle {
        Bundle::Image => {
            finding.next("Take `ca_bundle: none` out of skep.yaml, so that builds trust what this host trusts.")
        }
        _ => finding,
    };
    finding
        .next("sudo cp PROXY-CA.pem /usr/local/share/ca-certificates/proxy-ca.crt && sudo update-ca-certificates")
        .next("Or name the file in skep.yaml, as build.ca_bundle: PROXY-CA.pem")
}

fn port(visit: &Visit) -> String {
    visit.port.map(|port| format!(" port {port}")).unwrap_or_default()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn days(age: SignedDuration) -> String {
    match age.as_hours() / 24 {
        0 => "made today".to_owned(),
        1 => "made yesterday".to_owned(),
        days => format!("made {days} days ago"),
    }
}

fn date(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::tests::sound;
    use super::super::{Outcome, judge};
    use super::*;
    use crate::doctor::certificates::Certificate;
    use crate::engine::docker::examine::BaseFacts;

    fn of(seen: &Examination, check: &str) -> Finding {
        judge(seen).into_iter().find(|finding| finding.check == check).unwrap()
    }

    fn at(stage: Stage, error: &str) -> Examination {
        let mut seen = sound();
        let visit = seen.visit.as_mut().unwrap();
        (visit.stage, visit.error) = (stage, Some(error.to_owned()));
        seen
    }

    #[test]
    fn each_stage_that_fails_has_a_remedy_of_its_own() {
        let resolve = of(&at(Stage::Resolve, "Name or service not known"), "index");
        assert!(resolve.next.iter().any(|step| step.contains("resolv.conf")), "{resolve:?}");
        let connect = of(&at(Stage::Connect, "Connection refused"), "index");
        assert!(connect.found.contains("cannot connect to index.test port 443: Connection refused"), "{connect:?}");
        assert!(connect.next[0].contains("ip_forward"), "{connect:?}");
        let mut behind = at(Stage::Connect, "timed out");
        behind.has_proxy = true;
        assert!(of(&behind, "index").next[0].contains("proxy"));
        let mut own = at(Stage::Connect, "Connection refused");
        own.visit.as_mut().unwrap().host = Some("127.0.0.1".to_owned());
        assert!(of(&own, "index").next[0].contains("the container itself"));
        for (status, remedy) in [(401, "USER:PASSWORD"), (404, "/simple"), (503, "tries again")] {
            let mut refused = at(Stage::Ask, "refused");
            refused.visit.as_mut().unwrap().status = Some(status);
            let finding = of(&refused, "index");
            assert_eq!(finding.outcome, Outcome::Problem);
            assert!(finding.found.contains(&status.to_string()) && finding.next[0].contains(remedy), "{finding:?}");
        }
        let nothing = of(&at(Stage::Install, "Because fastapi was not found"), "index");
        assert!(nothing.found.contains("fastapi was not found"), "{nothing:?}");
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_told_with_who_signed_it() {
        let mut seen = at(Stage::Tls, "unable to get local issuer certificate");
        seen.visit.as_mut().unwrap().certificate = Some(include_str!("certificates/expired.pem").to_owned());
        let finding = of(&seen, "index");
        assert!(finding.found.contains("signed by House CA"), "{finding:?}");
        assert!(finding.next[0].contains("update-ca-certificates"), "{finding:?}");
        seen.bundle = Bundle::Image;
        assert!(of(&seen, "index").next[0].contains("ca_bundle: none"));
        let expired = of(&at(Stage::Tls, "certificate has expired"), "index");
        assert!(expired.next[0].starts_with("date"), "{expired:?}");
    }

    #[test]
    fn a_base_image_that_is_not_there_is_a_problem_only_where_it_cannot_come() {
        let with = |registry: Result<(), &str>, can_be_made, has_mmdebstrap| {
            let mut seen = sound();
            let registry = Some(registry.map_err(str::to_owned));
            let wanted = "python:3.11-slim".to_owned();
            seen.base = Ok(BaseFacts { wanted, registry, can_be_made, ..BaseFacts::default() });
            seen.has_mmdebstrap = has_mmdebstrap;
            of(&seen, "base-image")
        };
        assert_eq!(with(Ok(()), false, false).outcome, Outcome::Ok);
        assert_eq!(with(Err("timeout"), true, true).outcome, Outcome::Ok);
        let without = with(Err("timeout"), true, false);
        assert_eq!(without.outcome, Outcome::Problem);
        assert!(without.next[0].contains("mmdebstrap"), "{without:?}");
        assert!(with(Err("timeout"), false, true).next[0].contains("docker load"));
        let mut old = sound();
        old.base.as_mut().unwrap().created = Some("2025-01-01T00:00:00Z".parse().unwrap());
        let finding = of(&old, "base-image");
        assert_eq!(finding.outcome, Outcome::Note);
        assert!(finding.found.contains("Python 3.11.9, made 365 days ago"), "{finding:?}");
    }

    #[test]
    fn certificates_of_the_house_are_looked_at_one_by_one() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let until = |ends: &str| {
            let (begins, ends) = ("2020-01-01T00:00:00Z".parse().unwrap(), ends.parse().unwrap());
            Ok(Certificate { subject: format!("until {ends}"), issuer: "House".to_owned(), begins, ends })
        };
        let of = |found: Vec<Result<Certificate, String>>| {
            certificates(&Bundle::File { path: PathBuf::from("/house.pem"), certificates: found }, now)
        };
        let (over, soon, good) =
            (until("2025-12-31T00:00:00Z"), until("2026-01-10T00:00:00Z"), until("2030-01-01T00:00:00Z"));
        assert_eq!(of(vec![good.clone()]).outcome, Outcome::Ok);
        assert_eq!(of(vec![good.clone(), soon]).outcome, Outcome::Warning);
        assert_eq!(of(vec![good.clone(), over.clone()]).outcome, Outcome::Warning);
        let all = of(vec![over]);
        assert_eq!(all.outcome, Outcome::Problem);
        assert!(all.found.contains("ended on 2025-12-31"), "{all:?}");
        assert_eq!(of(vec![good, Err("malformed".to_owned())]).outcome, Outcome::Warning);
        assert_eq!(of(Vec::new()).outcome, Outcome::Problem);
        let unreadable = Bundle::Unreadable { path: PathBuf::from("/no.pem"), cause: "no such file".to_owned() };
        assert_eq!(certificates(&unreadable, now).outcome, Outcome::Problem);
    }
}
