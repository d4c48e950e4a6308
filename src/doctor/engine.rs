//! Judges the engine: whether it answers, how old it and its parts are, and what it can hold containers to.

use super::finding::Finding;
use super::holes::{self, Hole, Opening};
use super::version::Version;
use super::{Blank, Found};
use crate::engine::docker::examine::EngineFacts;

/// The oldest engine that skep works with, and the API that it speaks.
const OLDEST: (&str, &str) = ("20.10", "1.41");

/// Why other checks say nothing, where the engine does not answer.
pub const NO_ENGINE: &str = "the engine does not answer";

/// Whether the engine answers, and is young enough.
pub(super) fn engine(engine: &Found<EngineFacts>) -> Finding {
    const CHECK: &str = "engine";
    let engine = match engine {
        Ok(engine) => engine,
        Err(blank) => return unreachable(CHECK, blank),
    };
    let found = format!("{} {}, API {}, at {}", engine.product, engine.version, engine.api_version, engine.address);
    let is_older = |version: &str, than: &str| match (Version::read(version), Version::read(than)) {
        (Some(version), Some(than)) => version < than,
        _ => false,
    };
    if is_older(&engine.version, OLDEST.0) && is_older(&engine.api_version, OLDEST.1) {
        let means = format!("skep works with engines from {} (API {}) on.", OLDEST.0, OLDEST.1);
        return Finding::problem(CHECK, found, means).next(upgrade("docker.io"));
    }
    let holes = if engine.product == "Docker" { holes::ENGINE } else { &[] };
    let open = open_holes(holes, std::slice::from_ref(&engine.version));
    if !open.is_empty() {
        let means = format!("{} Fixed in {}, unless your distribution has backported that.", lets(&open), fixes(&open));
        return Finding::warning(CHECK, format!("{found}; {}", ids(&open)), means).next(upgrade("docker.io"));
    }
    if !engine.warnings.is_empty() {
        let all = engine.warnings.join("; ");
        return Finding::note(CHECK, found, format!("The engine itself says: {all}"));
    }
    Finding::ok(CHECK, found)
}

fn unreachable(check: &'static str, blank: &Blank) -> Finding {
    let why = blank.to_string();
    let means =
        "Nothing can be built, started or healed; what runs already goes on, and is served by a daemon that runs.";
    let finding = Finding::problem(check, why.clone(), means);
    let says = |part: &str| why.to_lowercase().contains(part);
    if says("permission denied") {
        finding.next("sudo usermod -aG docker $USER    # then log in again; or run skep as root")
    } else if says("tcp://") || says("http://") {
        finding.next("echo $DOCKER_HOST    # names the engine's address; without it, the engine of this host is asked")
    } else if says("no such file") || says("not found") {
        finding
            .next("sudo apt-get install docker.io    # where there is no engine yet")
            .next("sudo systemctl start docker       # where there is one; `echo $DOCKER_HOST` names another address")
    } else {
        finding.next("sudo systemctl restart docker    # `journalctl -u docker -n 50` says why it does not answer")
    }
}

/// Whether what stands between containers and the host has known holes.
pub(super) fn runtime(engine: &Found<EngineFacts>) -> Finding {
    const CHECK: &str = "runtime";
    let Ok(engine) = engine else { return Finding::unknown(CHECK, Blank::Skipped(NO_ENGINE).to_string()) };
    let name = |name: &str, versions: &[String]| versions.last().map(|version| format!("{name} {version}"));
    let both = [name("runc", &engine.runc), name("containerd", &engine.containerd)];
    let found = both.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if !engine.default_runtime.is_empty() && engine.default_runtime != "runc" {
        let means = "skep knows the published holes of runc only; ask whoever makes the other one.";
        return Finding::note(CHECK, format!("containers run under {}", engine.default_runtime), means);
    }
    if engine.runc.is_empty() {
        return Finding::unknown(CHECK, "the engine does not say which runc it has");
    }
    let of_runc = open_holes(holes::RUNC, &engine.runc);
    let of_containerd = open_holes(holes::CONTAINERD, &engine.containerd);
    let patched: Vec<&Hole> = [(holes::RUNC, &engine.runc), (holes::CONTAINERD, &engine.containerd)]
        .into_iter()
        .flat_map(|(all, versions)| all.iter().filter(|hole| hole.opening(versions) == Opening::Patched))
        .collect();
    let open: Vec<_> = of_runc.iter().chain(&of_containerd).copied().collect();
    let closed = match patched.as_slice() {
        [] => String::new(),
        patched => {
            format!(" Your distribution has backported the fix of {}.", list(patched.iter().map(|hole| hole.id)))
        }
    };
    if open.is_empty() {
        let means = closed.trim_start().to_owned();
        return Finding { means, ..Finding::ok(CHECK, format!("{found}: no known hole is open")) };
    }
    let found =
        format!("{found}: {} known hole{} ({})", open.len(), if open.len() == 1 { "" } else { "s" }, ids(&open));
    let lets = lets(&open);
    let fixed = fixes(&open);
    if of_runc.iter().any(|(_, opening)| *opening == Opening::Open) {
        let means = format!("{lets} Code of an API may get out of its container. Fixed in {fixed}.{closed}");
        return Finding::problem(CHECK, found, means).next(upgrade("containerd.io"));
    }
    let means = format!("{lets} Fixed in {fixed}, unless your distribution has backported that.{closed}");
    let package = if of_runc.is_empty() { "containerd" } else { "runc" };
    let first = open.first().map_or("CVE", |(hole, _)| hole.id);
    Finding::warning(CHECK, found, means)
        .next(format!(
            "zgrep -m1 {first} /usr/share/doc/{package}/changelog.Debian.gz    # a line: your package has the fix"
        ))
        .next(upgrade(package))
}

/// How well the storage driver does.
pub(super) fn storage(engine: &Found<EngineFacts>) -> Finding {
    const CHECK: &str = "storage";
    let Ok(engine) = engine else { return Finding::unknown(CHECK, Blank::Skipped(NO_ENGINE).to_string()) };
    let status = |key: &str| engine.driver_status.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let below = status("Backing Filesystem").map(|name| format!(" on {name}")).unwrap_or_default();
    let found = format!("{}{below}", engine.driver);
    match engine.driver.as_str() {
        "overlay2" if status("Supports d_type") == Some("false") => Finding::problem(
            CHECK,
            format!("{found}, whose entries have no type"),
            "Files that an upper layer removes show through again, so images are not what they were built as.",
        )
        .next("Make the file system anew: xfs with `mkfs.xfs -n ftype=1`, or ext4."),
        "overlay2" => Finding::ok(CHECK, found),
        "overlayfs" => Finding::note(
            CHECK,
            format!("{found}, the image store of containerd"),
            "Works; changed code is built in about twice the time that overlay2 takes.",
        ),
        "vfs" => Finding::warning(
            CHECK,
            found,
            "Each image and each container is a full copy: disk goes fast, and every start takes as long as the copy.",
        )
        .next("Set \"storage-driver\": \"overlay2\" in /etc/docker/daemon.json; in a container, mount a volume at /var/lib/docker."),
        "devicemapper" | "aufs" | "overlay" => Finding::warning(
            CHECK,
            found,
            "Newer engines have taken this driver out, and will not see what is stored with it.",
        )
        .next("Set \"storage-driver\": \"overlay2\" in /etc/docker/daemon.json; `skep apply` then makes all images anew."),
        "fuse-overlayfs" => Finding::note(
            CHECK,
            found,
            "An engine without root on an older kernel: each file operation goes through a process of its own, slowly.",
        ),
        "" => Finding::unknown(CHECK, "the engine does not say which driver it has"),
        _ => Finding::note(CHECK, found, "skep is tried with overlay2; this one ought to work as well."),
    }
}

/// Which limits the host enforces.
pub(super) fn limits(engine: &Found<EngineFacts>) -> Finding {
    const CHECK: &str = "limits";
    let Ok(engine) = engine else { return Finding::unknown(CHECK, Blank::Skipped(NO_ENGINE).to_string()) };
    let (held, loose): (Vec<_>, Vec<_>) = engine.limits.iter().partition(|(_, is_supported)| *is_supported);
    let names = |limits: &[&(&'static str, bool)]| list(limits.iter().map(|(name, _)| *name));
    let version = &engine.cgroup_version;
    if loose.is_empty() {
        return Finding::ok(CHECK, format!("cgroup v{version} holds {}", names(&held)));
    }
    let found = format!("cgroup v{version} does not hold {}", names(&loose));
    let lacks = |name: &str| loose.iter().any(|(loose, _)| *loose == name);
    if lacks("memory") || lacks("processes") {
        let means = "An API can take all of what is not held from its neighbours and from the host.";
        return Finding::problem(CHECK, found, means)
            .next("Boot with cgroup_enable=memory (/etc/default/grub, then `sudo update-grub`); a rootless engine needs cgroup v2 with systemd.");
    }
    let means = if lacks("swap") {
        "An API that uses up its memory goes on into swap, and takes as much again there, slowly for all."
    } else {
        "An API can keep all processors busy, and its neighbours wait."
    };
    let step = if lacks("swap") {
        "Boot with swapaccount=1 (/etc/default/grub, then `sudo update-grub`), or turn swap off: sudo swapoff -a"
    } else {
        "A kernel with CONFIG_CFS_BANDWIDTH holds it; with a rootless engine, delegate the cpu controller to the user."
    };
    Finding::warning(CHECK, found, means).next(step)
}

/// What keeps a container in, beside what skep itself asks for.
pub(super) fn isolation(engine: &Found<EngineFacts>) -> Finding {
    const CHECK: &str = "isolation";
    let Ok(engine) = engine else { return Finding::unknown(CHECK, Blank::Skipped(NO_ENGINE).to_string()) };
    let has =
        |name: &str| engine.security.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
    let named = ["seccomp", "apparmor", "selinux", "userns", "rootless"];
    let all: Vec<&str> = named.into_iter().filter(|name| has(name)).collect();
    let found =
        if all.is_empty() { "none of seccomp, AppArmor, SELinux".to_owned() } else { list(all.iter().copied()) };
    let is_unconfined = engine.security.iter().any(|option| option.contains("profile=unconfined"));
    if !has("seccomp") || is_unconfined {
        let found = if is_unconfined { format!("{found}; seccomp is unconfined") } else { found };
        let means = "Code in containers may make every system call, and most holes of kernels need a rare one.";
        return Finding::warning(CHECK, found, means)
            .next("Take \"seccomp-profile\": \"unconfined\" out of /etc/docker/daemon.json, or install a kernel with CONFIG_SECCOMP_FILTER.");
    }
    if !engine.authorization.is_empty() {
        let means = format!(
            "The plugin {} decides what skep may ask of the engine.",
            list(engine.authorization.iter().map(String::as_str))
        );
        return Finding::note(CHECK, found, means);
    }
    Finding::ok(CHECK, found)
}

fn open_holes(all: &'static [Hole], versions: &[String]) -> Vec<(&'static Hole, Opening)> {
    let openings = all.iter().map(|hole| (hole, hole.opening(versions)));
    openings.filter(|(_, opening)| matches!(opening, Opening::Open | Opening::Doubtful)).collect()
}

fn ids(open: &[(&Hole, Opening)]) -> String {
    list(open.iter().map(|(hole, _)| hole.id))
}

fn lets(open: &[(&Hole, Opening)]) -> String {
    open.iter().map(|(hole, _)| format!("{} lets {}.", hole.id, hole.lets)).collect::<Vec<_>>().join(" ")
}

/// The first sound version for each, once.
fn fixes(open: &[(&Hole, Opening)]) -> String {
    let mut fixes: Vec<&str> = open.iter().map(|(hole, _)| hole.first_fixed()).collect();
    fixes.sort_unstable();
    fixes.dedup();
    list(fixes.into_iter())
}

fn upgrade(package: &str) -> String {
    format!("sudo apt-get update && sudo apt-get install --only-upgrade {package}")
}

/// Words as a sentence lists them.
pub(super) fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn sound() -> EngineFacts {
        EngineFacts {
            address: "unix:///var/run/docker.sock".to_owned(),
            product: "Docker".to_owned(),
            version: "28.5.2".to_owned(),
            api_version: "1.51".to_owned(),
            runc: vec!["1.3.3".to_owned(), "v1.3.3-0-gd842d771".to_owned()],
            containerd: vec!["v2.1.5".to_owned()],
            default_runtime: "runc".to_owned(),
            driver: "overlay2".to_owned(),
            driver_status: vec![("Supports d_type".to_owned(), "true".to_owned())],
            cgroup_version: "2".to_owned(),
            limits: vec![("memory", true), ("swap", true), ("processes", true), ("processor time", true)],
            security: vec![
                "name=apparmor".to_owned(),
                "name=seccomp,profile=builtin".to_owned(),
                "name=cgroupns".to_owned(),
            ],
            ..EngineFacts::default()
        }
    }

    fn outcomes(engine: EngineFacts) -> [Outcome; 5] {
        let engine = Ok(engine);
        [self::engine, runtime, storage, limits, isolation].map(|judge| judge(&engine).outcome)
    }

    #[test]
    fn a_sound_engine_is_ok_in_every_way() {
        assert_eq!(outcomes(sound()), [Outcome::Ok; 5]);
    }

    #[test]
    fn an_engine_that_does_not_answer_is_one_problem_and_four_unknowns() {
        let gone: Found<EngineFacts> = Err(Blank::Failed("cannot reach it: permission denied".to_owned()));
        let finding = engine(&gone);
        assert_eq!(finding.outcome, Outcome::Problem);
        assert!(finding.next[0].contains("usermod"), "{finding:?}");
        for judge in [runtime, storage, limits, isolation] {
            let finding = judge(&gone);
            assert_eq!(finding.outcome, Outcome::Unknown);
            assert!(finding.found.contains(NO_ENGINE), "{finding:?}");
        }
        let missing = engine(&Err(Blank::Failed("unix:///run/x.sock: Socket not found".to_owned())));
        assert!(missing.next[0].contains("install docker.io"), "{missing:?}");
        let late = engine(&Err(Blank::Late(std::time::Duration::from_secs(10))));
        assert!(late.next[0].contains("systemctl restart"), "{late:?}");
    }

    #[test]
    fn an_engine_that_is_too_old_is_told_so() {
        let of = |product: &str, version: &str, api: &str| {
            let (product, version, api_version) = (product.to_owned(), version.to_owned(), api.to_owned());
            engine(&Ok(EngineFacts { product, version, api_version, ..sound() })).outcome
        };
        let old = |version: &str, api: &str| of("Docker", version, api);
        assert_eq!(old("19.03.15", "1.40"), Outcome::Problem);
        assert_eq!(old("20.10.24+dfsg1", "1.41"), Outcome::Ok);
        assert_eq!(old("20.10.5+dfsg1", "1.41"), Outcome::Warning);
        // Podman counts otherwise and speaks the API.
        assert_eq!(of("Podman", "4.3.1", "1.41"), Outcome::Ok);
    }

    #[test]
    fn a_hole_that_may_be_patched_is_a_warning_and_one_that_is_not_a_problem() {
        let with = |runc: &[&str]| {
            runtime(&Ok(EngineFacts { runc: runc.iter().map(|&text| text.to_owned()).collect(), ..sound() }))
        };
        let debian = with(&["1.1.5+ds1", "1.1.5+ds1-1+deb12u1"]);
        assert_eq!(debian.outcome, Outcome::Warning);
        assert!(debian.found.contains("3 known holes (CVE-2025-31133"), "{debian:?}");
        assert!(!debian.found.contains("CVE-2024-21626"), "{debian:?}");
        assert!(debian.means.contains("backported the fix of CVE-2024-21626"), "{debian:?}");
        assert!(debian.means.contains("unless your distribution has backported"), "{debian:?}");
        assert!(debian.next[0].starts_with("zgrep -m1 CVE-2025-31133 /usr/share/doc/runc/"), "{debian:?}");
        let upstream = with(&["1.1.11", "v1.1.11-0-g4bccb38"]);
        assert_eq!(upstream.outcome, Outcome::Problem);
        assert!(upstream.means.contains("Fixed in 1.1.12 and 1.2.8."), "{upstream:?}");
        assert_eq!(with(&[]).outcome, Outcome::Unknown);
        let other = runtime(&Ok(EngineFacts { default_runtime: "crun".to_owned(), ..sound() }));
        assert_eq!(other.outcome, Outcome::Note);
    }

    #[test]
    fn drivers_limits_and_profiles_are_weighed() {
        let driver = |name: &str| outcomes(EngineFacts { driver: name.to_owned(), ..sound() })[2];
        assert_eq!(driver("vfs"), Outcome::Warning);
        assert_eq!(driver("devicemapper"), Outcome::Warning);
        assert_eq!(driver("overlayfs"), Outcome::Note);
        let typeless = vec![("Supports d_type".to_owned(), "false".to_owned())];
        assert_eq!(outcomes(EngineFacts { driver_status: typeless, ..sound() })[2], Outcome::Problem);

        let without = |lacking: &str| {
            let limits = sound().limits.into_iter().map(|(name, _)| (name, name != lacking)).collect();
            outcomes(EngineFacts { limits, ..sound() })[3]
        };
        assert_eq!(without("memory"), Outcome::Problem);
        assert_eq!(without("processes"), Outcome::Problem);
        assert_eq!(without("swap"), Outcome::Warning);
        assert_eq!(without("processor time"), Outcome::Warning);

        assert_eq!(outcomes(EngineFacts { security: Vec::new(), ..sound() })[4], Outcome::Warning);
        let loose = vec!["name=seccomp,profile=unconfined".to_owned()];
        assert_eq!(outcomes(EngineFacts { security: loose, ..sound() })[4], Outcome::Warning);
    }
}
