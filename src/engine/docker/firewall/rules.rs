//! The rules of one installation: two chains, and the jumps that lead there. Pure: from what `iptables -S` lists to the
//! change that is needed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Where clouds hand out credentials to whoever asks from the machine itself, besides the link-local addresses that
/// most of them use. The sources are the clouds' own manuals.
const METADATA: [&str; 5] = [
    // Amazon, Google, Azure, Oracle, Hetzner, DigitalOcean, OpenStack and most others; Amazon's containers at .170.2.
    "169.254.0.0/16",
    // Azure's "wire server".
    "168.63.129.16/32",
    // Alibaba.
    "100.100.100.200/32",
    // Oracle, before its present cloud.
    "192.0.0.192/32",
    // Nobody's metadata, but nobody's business outside a network either: multicast.
    "224.0.0.0/4",
];

/// The engine leaves this chain to its users, and sends all forwarded traffic through it first.
const USERS: &str = "DOCKER-USER";

/// The rules of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    chain: String,
    interfaces: String,
    /// Bridges that are not ours.
    others: Vec<String>,
    /// Where a gateway in a container is on our bridges.
    gateways: BTreeSet<Ipv4Addr>,
}

impl Rules {
    /// Those of the installation whose bridges' names begin with `interfaces`, and that may reach nobody behind `others`.
    pub(super) fn new(owner: &str, interfaces: String, others: Vec<String>) -> Self {
        Self { chain: format!("SKEP-{owner}"), interfaces, others, gateways: BTreeSet::new() }
    }

    /// With a gateway that is on our bridges itself, at these addresses. It may speak to instances, and they may answer it.
    /// No instance can take its address: that takes a capability, and they have none.
    pub(super) fn letting_in(self, gateways: BTreeSet<Ipv4Addr>) -> Self {
        Self { gateways, ..self }
    }

    /// What all that instances send to the host itself goes through.
    fn to_host(&self) -> Vec<String> {
        let internet = format!("-i {}i", self.interfaces);
        [
            // Answers to what the host asked, requests and probes among them. By direction, so that a connection that
            // an instance opened while the rules were gone ends when they are back.
            "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j ACCEPT".to_owned(),
            // A host that is its own name server stays one.
            format!("{internet} -p udp -m udp --dport 53 -j ACCEPT"),
            format!("{internet} -p tcp -m tcp --dport 53 -j ACCEPT"),
            "-j DROP".to_owned(),
        ]
        .map(|rule| format!("-A {} {rule}", self.chain))
        .into()
    }

    /// What all that instances send elsewhere goes through. Needs nothing of what the engine's own rules hold.
    fn to_elsewhere(&self) -> Vec<String> {
        let mut rules: Vec<String> = self
            .gateways
            .iter()
            .flat_map(|address| {
                [
                    format!("-s {address}/32 -o {}+ -j ACCEPT", self.interfaces),
                    format!("-d {address}/32 -m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j ACCEPT"),
                ]
            })
            .collect();
        rules.extend([
            format!("-i {}n -j DROP", self.interfaces),
            // Neighbours, on the same bridge and on the other.
            format!("-o {}+ -j DROP", self.interfaces),
            // Name servers may be anywhere: some clouds have theirs at the very addresses of their metadata.
            "-p udp -m udp --dport 53 -j RETURN".to_owned(),
            "-p tcp -m tcp --dport 53 -j RETURN".to_owned(),
            // Ports that this host publishes for other containers.
            "-m conntrack --ctstate DNAT -j DROP".to_owned(),
        ]);
        rules.extend(self.others.iter().map(|bridge| format!("-o {bridge} -j DROP")));
        rules.extend(METADATA.iter().map(|address| format!("-d {address} -j DROP")));
        rules.iter().map(|rule| format!("-A {} {rule}", self.away())).collect()
    }

    /// How many rules there are, with the two that lead to them.
    pub(super) fn count(&self) -> usize {
        self.to_host().len() + self.to_elsewhere().len() + 2
    }

    fn away(&self) -> String {
        format!("{}-AWAY", self.chain)
    }

    fn jump(&self, chain: &str) -> String {
        format!("-i {}+ -j {chain}", self.interfaces)
    }

    /// The change that puts the rules in force, or `None` where they are. All of it happens at once: at no moment is a
    /// chain there and empty.
    pub(super) fn repair(&self, listed: &str) -> Option<String> {
        let mut changes = String::new();
        for (chain, rules) in [(self.chain.clone(), self.to_host()), (self.away(), self.to_elsewhere())] {
            let there = listed.lines().filter(|line| line.starts_with(&format!("-A {chain} ")));
            if !there.eq(rules.iter().map(String::as_str)) {
                changes.push_str(&format!(":{chain} - [0:0]\n{}\n", rules.join("\n")));
            }
        }
        // Somebody who flushed all has also taken away what leads to the engine's chain, and somebody who accepts before
        // it has taken the sense out of it.
        let first = below(listed, "FORWARD").find(|rule| !self.is_harmless(rule));
        let is_led_to_users = first == Some(&format!("-j {USERS}"));
        let (forward, left) = if is_led_to_users { (USERS, "FORWARD") } else { ("FORWARD", USERS) };
        for (place, chain) in [("INPUT", &self.chain), (forward, &self.away())] {
            let jump = self.jump(chain);
            let jumps: Vec<&str> = below(listed, place).filter(|rule| *rule == jump).collect();
            if jumps.len() == 1 && self.is_first(listed, place, &jump) {
                continue;
            }
            changes.extend(jumps.iter().map(|rule| format!("-D {place} {rule}\n")));
            changes.push_str(&format!("-I {place} {jump}\n"));
        }
        let stray = self.jump(&self.away());
        changes.extend(below(listed, left).filter(|rule| *rule == stray).map(|rule| format!("-D {left} {rule}\n")));
        (!changes.is_empty()).then(|| format!("*filter\n{changes}COMMIT\n"))
    }

    /// Whether nothing stands above a jump that could decide before it: a port of the host that was opened for its
    /// network is not open to instances.
    fn is_first(&self, listed: &str, place: &str, jump: &str) -> bool {
        below(listed, place).take_while(|rule| *rule != jump).all(|rule| self.is_harmless(rule))
    }

    /// Whether a rule may stand above ours: one that names our own bridges is somebody's deliberate exception, and those
    /// of other installations, which want to be first as well, do not decide about ours.
    fn is_harmless(&self, rule: &str) -> bool {
        let interface = rule.split_once("-i ").and_then(|(_, rest)| rest.split(' ').next());
        interface.is_some_and(|name| name.starts_with(&self.interfaces) || is_of_an_installation(name))
    }

    /// The change that takes the rules away, or `None` where there are none.
    pub(super) fn removal(&self, listed: &str) -> Option<String> {
        let mut changes = String::new();
        let chains = [self.chain.clone(), self.away()];
        for place in ["INPUT", USERS, "FORWARD"] {
            let is_ours = |rule: &&str| chains.iter().any(|chain| *rule == self.jump(chain));
            changes.extend(below(listed, place).filter(is_ours).map(|rule| format!("-D {place} {rule}\n")));
        }
        let there = chains.iter().filter(|chain| listed.lines().any(|line| line == format!("-N {chain}")));
        changes.extend(there.map(|chain| format!("-F {chain}\n-X {chain}\n")));
        (!changes.is_empty()).then(|| format!("*filter\n{changes}COMMIT\n"))
    }
}

/// The rules of a chain, in their order.
fn below<'a>(listed: &'a str, chain: &str) -> impl Iterator<Item = &'a str> {
    let begin = format!("-A {chain} ");
    listed.lines().filter_map(move |line| line.strip_prefix(&begin))
}

/// Whether an interface, or the beginning of one's name, is that of some installation of skep.
fn is_of_an_installation(name: &str) -> bool {
    let digits = name.trim_end_matches(['+', 'i', 'n']).strip_prefix("sk");
    digits.is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: &str = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n";

    fn rules() -> Rules {
        Rules::new("0123abcd", "sk0123abcd".to_owned(), vec!["docker0".to_owned()])
    }

    /// What is listed once a change has been made to `listed`.
    fn after(listed: &str, change: &str) -> String {
        let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
        for change in change.lines() {
            if let Some(rest) = change.strip_prefix(':') {
                let chain = rest.split(' ').next().unwrap();
                lines.retain(|line| *line != format!("-N {chain}") && !line.starts_with(&format!("-A {chain} ")));
                lines.insert(2, format!("-N {chain}"));
            } else if let Some(rest) = change.strip_prefix("-D ") {
                let at = lines.iter().position(|line| *line == format!("-A {rest}")).expect("it is there");
                lines.remove(at);
            } else if let Some(rest) = change.strip_prefix("-I ") {
                let chain = rest.split(' ').next().unwrap();
                let first = lines.iter().position(|line| line.starts_with(&format!("-A {chain} ")));
                lines.insert(first.unwrap_or(lines.len()), format!("-A {rest}"));
            } else if change.starts_with("-A ") {
                lines.push(change.to_owned());
            }
        }
        lines.join("\n") + "\n"
    }

    #[test]
    fn one_change_is_enough_from_wherever_it_begins() {
        let whole = after(ENGINE, &rules().repair(ENGINE).unwrap());
        assert_eq!(rules().repair(&whole), None);
        let without = |word: &str| -> String {
            whole.lines().filter(|line| !line.contains(word)).map(|line| format!("{line}\n")).collect()
        };
        let spoiled = [
            without("-j DROP"),
            without("SKEP-0123abcd-AWAY"),
            without("-A INPUT"),
            // Our jump is lost behind one that somebody put on top, and doubled.
            whole.replace("-A INPUT ", "-A INPUT -p tcp --dport 5432 -j ACCEPT\n-A INPUT "),
            whole.replace("-A INPUT ", "-A INPUT -i sk0123abcd+ -j SKEP-0123abcd\n-A INPUT "),
            "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n".to_owned(),
        ];
        for listed in spoiled {
            let mended = after(&listed, &rules().repair(&listed).expect("something is wrong"));
            assert_eq!(rules().repair(&mended), None, "from:\n{listed}\nto:\n{mended}");
        }
    }

    #[test]
    fn where_nothing_leads_to_the_engines_chain_first_ours_is_led_to_directly() {
        let (direct, usual) = ("-I FORWARD -i sk0123abcd+ -j SKEP-0123abcd-AWAY", "-I DOCKER-USER -i sk0123abcd+ -j ");
        let flushed = "-P FORWARD ACCEPT\n-N DOCKER-USER\n";
        let bypassed = ENGINE.replace("-A FORWARD", "-A FORWARD -s 10.0.0.0/8 -j ACCEPT\n-A FORWARD");
        assert!(rules().repair(flushed).unwrap().contains(direct));
        assert!(rules().repair(&bypassed).unwrap().contains(direct));
        assert!(rules().repair(ENGINE).unwrap().contains(usual));
        // When all is as it was, the jump goes back to its place.
        let whole =
            after(&bypassed, &rules().repair(&bypassed).unwrap()).replace("-A FORWARD -s 10.0.0.0/8 -j ACCEPT\n", "");
        let back = after(&whole, &rules().repair(&whole).unwrap());
        assert!(!back.contains("-A FORWARD -i ") && back.contains("-A DOCKER-USER -i "), "{back}");
        assert_eq!(rules().repair(&back), None);
    }

    #[test]
    fn an_exception_that_names_our_bridges_stays_above_and_installations_do_not_fight() {
        let whole = after(ENGINE, &rules().repair(ENGINE).unwrap());
        let excepted = whole.replace("-A INPUT ", "-A INPUT -i sk0123abcdi -p tcp --dport 5432 -j ACCEPT\n-A INPUT ");
        assert_eq!(rules().repair(&excepted), None);
        let other = Rules::new("89abcdef", "sk89abcdef".to_owned(), vec!["docker0".to_owned()]);
        let both = after(&whole, &other.repair(&whole).unwrap());
        assert_eq!((rules().repair(&both), other.repair(&both)), (None, None));
    }

    #[test]
    fn a_gateway_on_the_bridges_is_let_in_before_anything_is_dropped() {
        let address = "172.18.0.2".parse().unwrap();
        let rules = rules().letting_in([address].into());
        let whole = after(ENGINE, &rules.repair(ENGINE).unwrap());
        assert_eq!(rules.repair(&whole), None);
        let away: Vec<&str> = below(&whole, "SKEP-0123abcd-AWAY").take(3).collect();
        assert_eq!(away[0], "-s 172.18.0.2/32 -o sk0123abcd+ -j ACCEPT");
        assert!(away[1].starts_with("-d 172.18.0.2/32 ") && away[1].ends_with("--ctdir REPLY -j ACCEPT"), "{away:?}");
        assert_eq!(away[2], "-i sk0123abcdn -j DROP");
    }

    #[test]
    fn what_is_taken_away_is_all_and_only_ours() {
        let whole = after(ENGINE, &rules().repair(ENGINE).unwrap());
        let removal = rules().removal(&whole).unwrap();
        assert_eq!(removal.lines().filter(|line| line.starts_with("-D ")).count(), 2);
        assert_eq!(removal.lines().filter(|line| line.starts_with("-X ")).count(), 2);
        assert_eq!(rules().removal(ENGINE), None);
    }
}
