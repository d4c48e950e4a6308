//! Judges what installations have on the engine: what of ours nobody needs, and whose else there is.

use std::collections::BTreeMap;

use super::Found;
use super::engine::list;
use super::facts::Hosted;
use super::finding::Finding;
use super::host::mib;
use crate::engine::docker::examine::{FirewallFacts, HeldImage};

/// How many names a line shows.
const SHOWN: usize = 3;

/// What one other installation has.
#[derive(Debug, Default)]
struct Other {
    containers: usize,
    running: usize,
    images: usize,
    networks: usize,
    volumes: usize,
    chains: usize,
}

/// Our leftovers, and, where there are any, other installations.
pub(super) fn leftovers(hosted: &Found<Hosted>, firewall: &Found<FirewallFacts>) -> Vec<Finding> {
    let hosted = match hosted {
        Ok(hosted) => hosted,
        Err(blank) => return vec![Finding::unknown("leftovers", blank.to_string())],
    };
    let chains = firewall.as_ref().map_or(&[][..], |firewall| &firewall.chains);
    let mut findings = vec![own(hosted)];
    findings.extend(others(hosted, chains));
    findings
}

fn own(hosted: &Hosted) -> Finding {
    const CHECK: &str = "leftovers";
    let Some(owner) = &hosted.owner else {
        return Finding::ok(CHECK, "none: there is no installation here yet");
    };
    let removed = hosted.removed.as_ref().map(|removed| {
        let kept = if removed.kept.is_empty() { String::new() } else { format!("; kept {}", removed.kept.join("; ")) };
        format!(
            "removed {} and {}{kept}",
            count(removed.containers, "build container"),
            count(removed.images, "untagged image")
        )
    });
    let holdings = &hosted.holdings;
    let containers: Vec<_> = holdings.containers.iter().filter(|found| &found.owner == owner).collect();
    let images: Vec<&HeldImage> = holdings.images.iter().filter(|found| &found.owner == owner).collect();

    let spent: Vec<&str> =
        containers.iter().filter(|found| found.is_spent_workshop()).map(|found| found.name.as_str()).collect();
    let untagged: Vec<&HeldImage> = images.iter().copied().filter(|image| image.tags.is_empty()).collect();
    let orphans: Vec<&str> = match &hosted.apis {
        Some(apis) => {
            let is_orphan = |api: &Option<String>| api.as_ref().is_some_and(|api| !apis.contains(api));
            containers.iter().filter(|found| is_orphan(&found.api)).map(|found| found.name.as_str()).collect()
        }
        None => Vec::new(),
    };
    let unneeded: Vec<&HeldImage> = match &hosted.tags {
        Some(tags) => {
            let is_needed = |image: &HeldImage| image.tags.iter().any(|tag| tags.contains(tag));
            images.iter().copied().filter(|image| !image.tags.is_empty() && !is_needed(image)).collect()
        }
        None => Vec::new(),
    };
    let is_ours = |(of, _): &&(String, String)| of == owner;
    let networks: Vec<&str> = holdings
        .networks
        .iter()
        .filter(is_ours)
        .map(|(_, name)| name.as_str())
        .filter(|name| !hosted.networks.iter().any(|wanted| wanted == name))
        .collect();

    let mut parts = Vec::new();
    if !spent.is_empty() {
        parts.push(format!("{} that ended ({})", count(spent.len(), "build container"), some(&spent)));
    }
    if !untagged.is_empty() {
        parts.push(format!("{} ({})", count(untagged.len(), "untagged image"), size(&untagged)));
    }
    if !orphans.is_empty() {
        parts.push(format!("{} of no API ({})", count(orphans.len(), "instance"), some(&orphans)));
    }
    if !unneeded.is_empty() {
        let tags: Vec<&str> = unneeded.iter().filter_map(|image| image.tags.first()).map(String::as_str).collect();
        parts.push(format!("{} that no API needs ({})", count(unneeded.len(), "image"), some(&tags)));
    }
    if !networks.is_empty() {
        parts.push(format!(
            "{} of ours that skep does not use ({})",
            count(networks.len(), "network"),
            some(&networks)
        ));
    }
    if parts.is_empty() {
        let done = removed.map_or_else(|| "none".to_owned(), |removed| format!("{removed}; nothing is left"));
        return Finding::ok(CHECK, done);
    }
    let mut found = list(parts.iter().map(String::as_str));
    if let Some(removed) = removed {
        found = format!("{removed}; left: {found}");
    }
    let can_fix = !spent.is_empty() || !untagged.is_empty();
    if !can_fix && orphans.is_empty() && networks.is_empty() {
        // Going back to what these were made for takes no build; they cost their layers.
        let tags: Vec<&str> = unneeded.iter().flat_map(|image| &image.tags).map(String::as_str).collect();
        let means = "They were made for revisions that neither the tree nor the records have any more, and take room.";
        return Finding::note(CHECK, found, means).next(format!("docker image rm {}", tags.join(" ")));
    }
    let mut finding =
        Finding::warning(CHECK, found, "They do no harm and take room; an update, a crash or a hand has left them.");
    if can_fix {
        finding =
            finding.next("skep doctor --fix    # removes ended build containers and untagged images, nothing else");
    }
    if !orphans.is_empty() {
        finding = finding.next("skep plan    # shows what `skep apply` would remove");
    }
    if let Some(name) = networks.first() {
        finding = finding.next(format!("docker network rm {name}"));
    }
    finding
}

/// Installations whose state folder is not this one.
fn others(hosted: &Hosted, chains: &[String]) -> Option<Finding> {
    const CHECK: &str = "other-installations";
    let is_other = |owner: &str| hosted.owner.as_deref() != Some(owner);
    let mut all: BTreeMap<&str, Other> = BTreeMap::new();
    let holdings = &hosted.holdings;
    for found in holdings.containers.iter().filter(|found| is_other(&found.owner)) {
        let other = all.entry(&found.owner).or_default();
        other.containers += 1;
        other.running += usize::from(found.is_running);
    }
    for found in holdings.images.iter().filter(|found| is_other(&found.owner)) {
        all.entry(&found.owner).or_default().images += 1;
    }
    for (owner, _) in holdings.networks.iter().filter(|(owner, _)| is_other(owner)) {
        all.entry(owner).or_default().networks += 1;
    }
    for (owner, _) in holdings.volumes.iter().filter(|(owner, _)| is_other(owner)) {
        all.entry(owner).or_default().volumes += 1;
    }
    // A chain knows the first eight digits of its owner only.
    for chain in chains {
        let digits = chain.strip_prefix("SKEP-").unwrap_or(chain);
        if hosted.owner.as_ref().is_some_and(|owner| owner.starts_with(digits)) {
            continue;
        }
        match all.iter_mut().find(|(owner, _)| owner.starts_with(digits)) {
            Some((_, other)) => other.chains += 1,
            None => all.entry(digits).or_default().chains += 1,
        }
    }
    if all.is_empty() {
        return None;
    }
    // Those of which nothing runs come first: their folders may be gone, and there is something to do.
    let (idle, busy): (Vec<_>, Vec<_>) = all.iter().partition(|(_, other)| other.running == 0);
    let told: Vec<String> =
        idle.iter().chain(&busy).take(SHOWN).map(|(owner, other)| format!("{owner}: {}", other.told())).collect();
    let more = if all.len() > SHOWN { format!("; and {} more", all.len() - SHOWN) } else { String::new() };
    let means = "Other folders of this host, or of others that use this engine, are served by it; or their folders are gone \
                 and these stayed. skep touches nothing of theirs.";
    let mut finding = Finding::note(CHECK, format!("{}{more}", told.join("; ")), means);
    if let Some((owner, other)) = idle.first() {
        finding = finding.next(removal(owner, other));
    }
    Some(finding)
}

impl Other {
    fn told(&self) -> String {
        let parts = [
            (self.containers, "container", format!(", {} running", self.running)),
            (self.images, "image", String::new()),
            (self.networks, "network", String::new()),
            (self.volumes, "volume", String::new()),
            (self.chains, "firewall chain", String::new()),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(number, ..)| *number > 0)
            .map(|(number, what, more)| format!("{}{more}", count(number, what)))
            .collect();
        list(parts.iter().map(String::as_str))
    }
}

/// What would remove the rest of an installation that is gone, in the order in which it goes.
fn removal(owner: &str, other: &Other) -> String {
    let filter = format!("--filter label=dev.skep.owner={owner}");
    let mut steps = Vec::new();
    if other.containers > 0 {
        steps.push(format!("docker rm -f $(docker ps -aq {filter})"));
    }
    if other.images > 0 {
        steps.push(format!("docker rmi -f $(docker images -q {filter})"));
    }
    if other.networks > 0 {
        steps.push(format!("docker network rm $(docker network ls -q {filter})"));
    }
    if other.volumes > 0 {
        steps.push(format!("docker volume rm skep-{owner}-uv-cache"));
    }
    if other.chains > 0 {
        let digits = owner.get(..8).unwrap_or(owner);
        let jumps = format!(
            "sudo iptables -D INPUT -i sk{digits}+ -j SKEP-{digits}; \
             sudo iptables -D DOCKER-USER -d 169.254.0.0/16 -i sk{digits}+ -j DROP"
        );
        steps.push(format!("{jumps}; sudo iptables -F SKEP-{digits}; sudo iptables -X SKEP-{digits}"));
    }
    format!("{}    # where {owner} is really gone", steps.join("; "))
}

/// The first of many.
fn some(names: &[&str]) -> String {
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, …") } else { shown }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Of all together. They share layers, so it is the most that it can be.
fn size(images: &[&HeldImage]) -> String {
    format!("up to {}", mib(images.iter().map(|image| image.size).sum()))
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;
    use crate::engine::docker::examine::{HeldContainer, Holdings, Removed};

    const OURS: &str = "0123456789ab";
    const THEIRS: &str = "fedcba987654";

    fn container(owner: &str, name: &str, api: Option<&str>, is_running: bool) -> HeldContainer {
        let api = api.map(str::to_owned);
        HeldContainer { owner: owner.to_owned(), name: name.to_owned(), api, is_running, is_over: !is_running }
    }

    fn image(owner: &str, tags: &[&str]) -> HeldImage {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        HeldImage { owner: owner.to_owned(), id: "sha256:0123456789abcdef".to_owned(), tags, size: 3 << 20 }
    }

    fn hosted(holdings: Holdings) -> Hosted {
        Hosted {
            owner: Some(OURS.to_owned()),
            holdings,
            apis: Some(vec!["hello".to_owned()]),
            tags: Some(vec!["skep/0123456789ab/deps:1".to_owned()]),
            networks: vec!["skep-0123456789ab-none".to_owned()],
            removed: None,
        }
    }

    fn judged(hosted: Hosted, chains: &[&str]) -> Vec<Finding> {
        let chains = chains.iter().map(|&chain| chain.to_owned()).collect();
        leftovers(&Ok(hosted), &Ok(FirewallFacts { missing: Vec::new(), wanted: 6, chains }))
    }

    #[test]
    fn what_somebody_needs_is_no_leftover() {
        let holdings = Holdings {
            containers: vec![
                container(OURS, "skep-hello-1", Some("hello"), true),
                // Stopped by hand: the reconciler sees to it.
                container(OURS, "skep-hello-2", Some("hello"), false),
                container(OURS, "skep-build-1", None, true),
            ],
            images: vec![image(OURS, &["skep/0123456789ab/deps:1"])],
            networks: vec![(OURS.to_owned(), "skep-0123456789ab-none".to_owned())],
            volumes: vec![(OURS.to_owned(), "skep-0123456789ab-uv-cache".to_owned())],
        };
        let findings = judged(hosted(holdings), &["SKEP-01234567"]);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].outcome, findings[0].found.as_str()), (Outcome::Ok, "none"));
    }

    #[test]
    fn leftovers_are_named_with_what_removes_them() {
        let holdings = Holdings {
            containers: vec![
                container(OURS, "skep-build-1", None, false),
                container(OURS, "skep-gone-1", Some("gone"), true),
            ],
            images: vec![image(OURS, &[]), image(OURS, &["skep/0123456789ab/api-gone:2"])],
            networks: vec![(OURS.to_owned(), "by-hand".to_owned())],
            volumes: Vec::new(),
        };
        let finding = judged(hosted(holdings), &[]).remove(0);
        assert_eq!(finding.outcome, Outcome::Warning);
        for part in [
            "1 build container that ended (skep-build-1)",
            "1 untagged image (up to 3.0 MiB)",
            "1 instance of no API (skep-gone-1)",
            "1 image that no API needs (skep/0123456789ab/api-gone:2)",
            "(by-hand)",
        ] {
            assert!(finding.found.contains(part), "no {part:?} in {finding:?}");
        }
        let steps = finding.next.join("\n");
        assert!(
            steps.contains("--fix") && steps.contains("skep plan") && steps.contains("network rm by-hand"),
            "{steps}"
        );
    }

    #[test]
    fn what_cannot_be_judged_accuses_nobody() {
        let holdings = Holdings {
            containers: vec![container(OURS, "skep-gone-1", Some("gone"), true)],
            images: vec![image(OURS, &["skep/0123456789ab/api-gone:2"])],
            ..Holdings::default()
        };
        let unread = Hosted { apis: None, tags: None, ..hosted(holdings) };
        assert_eq!(judged(unread, &[])[0].outcome, Outcome::Ok);
    }

    #[test]
    fn what_was_removed_is_told() {
        let removed = Removed { containers: 2, images: 1, kept: Vec::new() };
        let finding = judged(Hosted { removed: Some(removed), ..hosted(Holdings::default()) }, &[]).remove(0);
        assert_eq!(finding.found, "removed 2 build containers and 1 untagged image; nothing is left");
    }

    #[test]
    fn other_installations_are_told_of_and_never_offered_while_they_run() {
        let holdings = Holdings {
            containers: vec![container(THEIRS, "skep-x-1", Some("x"), true)],
            volumes: vec![("aaaaaaaaaaaa".to_owned(), "skep-aaaaaaaaaaaa-uv-cache".to_owned())],
            ..Holdings::default()
        };
        let findings = judged(hosted(holdings), &["SKEP-fedcba98", "SKEP-99999999", "SKEP-01234567"]);
        let other = &findings[1];
        assert_eq!(other.outcome, Outcome::Note);
        assert!(other.found.contains("fedcba987654: 1 container, 1 running and 1 firewall chain"), "{other:?}");
        assert!(other.found.contains("99999999: 1 firewall chain"), "{other:?}");
        assert_eq!(other.next.len(), 1);
        assert!(!other.next[0].contains(THEIRS) && other.next[0].contains("really gone"), "{other:?}");
    }
}
