//! Judges the networks that instances are on, and the firewall that keeps them away from the host.

use super::engine::NO_ENGINE;
use super::finding::Finding;
use super::{Blank, Examination, pools};
use crate::engine::docker::examine::{OwnNetworkState, Wrong};

/// Whether our bridges are there and as they should be, and whether there are addresses for them.
pub(super) fn networks(seen: &Examination) -> Finding {
    const CHECK: &str = "networks";
    let networks = match &seen.networks {
        Ok(networks) => networks,
        Err(blank) => return Finding::unknown(CHECK, blank.to_string()),
    };
    let own = seen.engine.as_ref().map_or(&[][..], |engine| &engine.pools);
    let (left, all) = pools::left(own, networks.subnets.iter().chain(&seen.routes));
    let there: Vec<(&str, OwnNetworkState)> =
        networks.ours.iter().filter_map(|network| Some((network.name.as_str(), network.state?))).collect();
    let missing = networks.ours.len() - there.len();
    let room = format!("room for {left} more networks of {all}");

    let bad = there.iter().find_map(|(name, state)| {
        let wrong = match state.wrong? {
            Wrong::Foreign => "was not made by this installation",
            Wrong::Together => "lets containers speak to each other",
            Wrong::Egress => "was made with another `internal`",
        };
        Some((*name, wrong))
    });
    if let Some((name, wrong)) = bad {
        let means =
            "Somebody made it by hand; instances on it are not as apart as they should be, or cannot be started.";
        return Finding::problem(CHECK, format!("the network {name} {wrong}"), means)
            .next(format!("docker network rm {name}    # with no instance on it; skep makes it anew"));
    }
    if missing > 0 && left < missing {
        let means = "The engine has no addresses for a network of ours, so no instance can be started.";
        return Finding::problem(CHECK, room, means).next("docker network prune    # removes networks that no container is on").next(
            "Give the engine more: \"default-address-pools\": [{\"base\": \"10.200.0.0/16\", \"size\": 24}] in /etc/docker/daemon.json",
        );
    }
    if there.iter().any(|(_, state)| !state.is_visible) {
        let means = "The engine is remote, rootless or in a virtual machine: instances are reached by published ports, and \
                     `egress: none` is refused, since this host's firewall cannot hold it.";
        return Finding::note(CHECK, format!("the engine's bridges are not on this host; {room}"), means);
    }
    let how = match there.len() {
        0 => "ours are made at the first start".to_owned(),
        count => format!("{count} of ours, containers kept apart"),
    };
    Finding::ok(CHECK, format!("{how}; {room}"))
}

/// Whether the rules that keep instances away from the host are in force, or could be.
pub(super) fn firewall(seen: &Examination) -> Finding {
    const CHECK: &str = "firewall";
    if seen.engine.is_err() {
        return Finding::unknown(CHECK, Blank::Skipped(NO_ENGINE).to_string());
    }
    let is_ours_here = seen
        .networks
        .as_ref()
        .is_ok_and(|networks| networks.ours.iter().filter_map(|network| network.state).any(|state| state.is_visible));
    match &seen.firewall {
        Ok(_) if !is_ours_here => {
            Finding::ok(CHECK, "iptables can be used; no bridge of ours is on this host to keep away from it")
        }
        Ok(firewall) if firewall.missing.is_empty() => {
            Finding::ok(CHECK, format!("all {} rules in force: instances cannot reach this host", firewall.wanted))
        }
        Ok(firewall) => {
            let found = format!("{} of {} rules are not in force", firewall.missing.len(), firewall.wanted);
            let back = match &seen.visit {
                Ok(_) => "The container that asked the index has just put them back",
                Err(_) => "A daemon puts them back at its next look",
            };
            let means = format!(
                "Without `{}` instances reach services of this host or cloud metadata. {back}; a restart of the host or a \
                 reload of its firewall takes them out.",
                firewall.missing.first().map_or("", String::as_str)
            );
            Finding::warning(CHECK, found, means).next("skep serve    # or `skep apply`")
        }
        Err(blank) => {
            let means = "Instances can reach what listens on all addresses of this host, and APIs with `egress: none` are \
                         refused, since nothing would hold them to it.";
            let finding = Finding::warning(CHECK, blank.to_string(), means);
            if seen.is_root {
                finding.next("sudo apt-get install iptables")
            } else {
                finding.next("Run the daemon as root: firewall rules are root's to make.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sound;
    use super::super::{Outcome, judge};
    use super::*;
    use crate::doctor::Finding;
    use crate::engine::docker::examine::FirewallFacts;

    fn of(seen: &Examination, check: &str) -> Finding {
        judge(seen).into_iter().find(|finding| finding.check == check).unwrap()
    }

    #[test]
    fn a_network_that_somebody_made_by_hand_is_a_problem() {
        for wrong in [Wrong::Foreign, Wrong::Together, Wrong::Egress] {
            let mut seen = sound();
            seen.networks.as_mut().unwrap().ours[1].state.as_mut().unwrap().wrong = Some(wrong);
            let finding = of(&seen, "networks");
            assert_eq!(finding.outcome, Outcome::Problem);
            assert!(finding.next[0].contains("docker network rm skep-0123456789ab-none"), "{finding:?}");
        }
    }

    #[test]
    fn addresses_count_only_while_a_network_of_ours_is_still_to_be_made() {
        let mut seen = sound();
        seen.routes = vec!["172.16.0.0/12".to_owned(), "192.168.0.0/16".to_owned()];
        assert_eq!(of(&seen, "networks").outcome, Outcome::Ok);
        seen.networks.as_mut().unwrap().ours[1].state = None;
        let finding = of(&seen, "networks");
        assert_eq!((finding.outcome, finding.found.as_str()), (Outcome::Problem, "room for 0 more networks of 31"));
    }

    #[test]
    fn rules_that_are_missing_or_cannot_be_made_are_warned_of() {
        assert_eq!(of(&sound(), "firewall").outcome, Outcome::Ok);
        let mut seen = sound();
        seen.firewall =
            Ok(FirewallFacts { missing: vec!["-A SKEP-01234567 -j DROP".to_owned()], wanted: 6, chains: Vec::new() });
        let finding = of(&seen, "firewall");
        assert_eq!(finding.outcome, Outcome::Warning);
        assert!(finding.found.contains("1 of 6") && finding.means.contains("-j DROP"), "{finding:?}");
        seen.firewall = Err(Blank::Failed("iptables said: you must be root".to_owned()));
        seen.is_root = false;
        assert!(of(&seen, "firewall").next[0].contains("as root"));
        seen.is_root = true;
        assert!(of(&seen, "firewall").next[0].contains("install iptables"));
    }

    #[test]
    fn bridges_elsewhere_are_told_of() {
        let mut seen = sound();
        for network in &mut seen.networks.as_mut().unwrap().ours {
            network.state.as_mut().unwrap().is_visible = false;
        }
        assert_eq!(of(&seen, "networks").outcome, Outcome::Note);
        assert!(of(&seen, "firewall").found.contains("no bridge of ours"));
    }
}
