//! The firewall keeps instances away from the host they run on.
//!
//! A network without a way out, and with traffic between its containers turned off, still lets a container reach the
//! host itself: whatever listens on all addresses answers on the bridge's gateway address too. A chain of our own
//! closes that for all our bridges, and drops what is meant for the link-local addresses where clouds keep credentials.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Docker;
use super::examine::FirewallFacts;
use super::network::Network;
use crate::engine::EngineError;
use crate::tree::Egress;

/// For one run of the firewall's program, its own lock included.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a look at the rules is good for. Somebody who flushes them is noticed at the next look.
const GOOD_FOR: Duration = Duration::from_secs(20);

/// Where the program may be; an ordinary user's search path leaves out `sbin`.
const PROGRAMS: [&str; 3] = ["iptables", "/usr/sbin/iptables", "/sbin/iptables"];

/// When the rules were last seen in force, and whether their absence was warned of.
#[derive(Debug, Default)]
pub(super) struct Seen {
    in_force: Option<Instant>,
    has_warned: bool,
}

impl Docker {
    /// Sees to it that the firewall's rules are in force, and repairs them where they are not. Cheap when they are:
    /// a few milliseconds. Meant for every periodic look, since a reload of the host's own firewall drops them.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] where this host has no `iptables` or does not let us use it.
    pub async fn ensure_firewall(&self) -> Result<(), EngineError> {
        if !self.has_visible_network() {
            // No bridge of ours on this host, so nobody to keep away.
            return Ok(());
        }
        let mut seen = self.shared.firewall.lock().await;
        seen.in_force = None;
        self.rules().ensure().await.map_err(EngineError::Unsupported)?;
        seen.in_force = Some(Instant::now());
        Ok(())
    }

    /// Before an instance starts: holds back one that must have no egress where the host cannot see to that.
    pub(super) async fn guard(&self, network: &Network, egress: Egress) -> Result<(), EngineError> {
        let mut seen = self.shared.firewall.lock().await;
        if seen.in_force.is_some_and(|at| at.elapsed() < GOOD_FOR) {
            return Ok(());
        }
        let outcome = if network.is_visible() {
            self.rules().ensure().await
        } else {
            Err("the engine's networks are not on this host".to_owned())
        };
        match (outcome, egress) {
            (Ok(()), _) => {
                seen.in_force = Some(Instant::now());
                Ok(())
            }
            (Err(cause), Egress::None) => Err(EngineError::Unsupported(format!(
                "`egress: none` needs firewall rules on this host, and they cannot be made: {cause}"
            ))),
            (Err(cause), Egress::Internet) => {
                if !std::mem::replace(&mut seen.has_warned, true) {
                    tracing::warn!(%cause, "apps can reach services of this host, since firewall rules cannot be made");
                }
                Ok(())
            }
        }
    }

    /// Looks at the rules, and repairs nothing.
    ///
    /// # Errors
    /// Why they cannot be seen.
    pub async fn examine_firewall(&self) -> Result<FirewallFacts, String> {
        self.rules().examine().await
    }

    /// Takes our rules out again.
    pub(super) async fn drop_firewall(&self) {
        self.shared.firewall.lock().await.in_force = None;
        self.rules().remove().await;
    }

    fn rules(&self) -> Rules {
        Rules { chain: format!("SKEP-{}", self.short_owner()), interfaces: self.interface_prefix() }
    }
}

/// The rules of one installation.
struct Rules {
    chain: String,
    interfaces: String,
}

impl Rules {
    /// The rules of our chain, which all that instances send to the host goes through.
    fn chain(&self) -> [String; 4] {
        let (chain, internet) = (&self.chain, format!("{}i", self.interfaces));
        [
            // Answers to what the host asked, requests and probes among them.
            format!("-A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            // A host that is its own name server stays one.
            format!("-A {chain} -i {internet} -p udp -m udp --dport 53 -j ACCEPT"),
            format!("-A {chain} -i {internet} -p tcp -m tcp --dport 53 -j ACCEPT"),
            format!("-A {chain} -j DROP"),
        ]
    }

    /// The rules that lead there, each with the chain that it stands in.
    fn jumps(&self) -> [(&'static str, String); 2] {
        let interfaces = format!("{}+", self.interfaces);
        [
            ("INPUT", format!("-i {interfaces} -j {}", self.chain)),
            // The engine leaves this chain to its users, and sends all forwarded traffic through it first.
            ("DOCKER-USER", format!("-d 169.254.0.0/16 -i {interfaces} -j DROP")),
        ]
    }

    async fn examine(&self) -> Result<FirewallFacts, String> {
        let there = run(&["-S"], None).await?;
        let has = |rule: &str| there.lines().any(|line| line == rule);
        // An engine without a chain for its users has the rule in the chain below.
        let jump = |(chain, rule): (&str, String)| {
            let is_there = has(&format!("-A {chain} {rule}")) || chain != "INPUT" && has(&format!("-A FORWARD {rule}"));
            (!is_there).then(|| format!("-A {chain} {rule}"))
        };
        let missing =
            self.chain().into_iter().filter(|rule| !has(rule)).chain(self.jumps().into_iter().filter_map(jump));
        let chains =
            there.lines().filter_map(|line| line.strip_prefix("-N ")).filter(|chain| chain.starts_with("SKEP-"));
        Ok(FirewallFacts {
            missing: missing.collect(),
            wanted: self.chain().len() + self.jumps().len(),
            chains: chains.map(str::to_owned).collect(),
        })
    }

    async fn ensure(&self) -> Result<(), String> {
        let rules = run(&["-S"], None).await?;
        let has = |rule: &str| rules.lines().any(|line| line == rule);
        let ours = rules.lines().filter(|line| line.starts_with(&format!("-A {} ", self.chain)));
        if !ours.eq(self.chain().iter().map(String::as_str)) {
            // One transaction: at no moment is the chain there and empty.
            let text = format!("*filter\n:{} - [0:0]\n{}\nCOMMIT\n", self.chain, self.chain().join("\n"));
            run(&["--noflush"], Some(&text)).await?;
        }
        for (chain, rule) in self.jumps() {
            if has(&format!("-A {chain} {rule}")) {
                continue;
            }
            let chain = if chain == "INPUT" || has(&format!("-N {chain}")) { chain } else { "FORWARD" };
            let words = |verb| [verb, chain].into_iter().chain(rule.split(' ')).collect::<Vec<_>>();
            if run(&words("-C"), None).await.is_err() {
                run(&words("-I"), None).await?;
            }
        }
        Ok(())
    }

    /// Removes what is there; what is not there is no trouble.
    async fn remove(&self) {
        for (chain, rule) in self.jumps() {
            for chain in [chain, "FORWARD"] {
                let words: Vec<_> = ["-D", chain].into_iter().chain(rule.split(' ')).collect();
                while run(&words, None).await.is_ok() {}
            }
        }
        for verb in ["-F", "-X"] {
            let _ = run(&[verb, &self.chain], None).await;
        }
    }
}

/// Runs `iptables`, or `iptables-restore` where there is input, and gives what it printed.
async fn run(arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    for program in PROGRAMS {
        let program = if input.is_some() { format!("{program}-restore") } else { program.to_owned() };
        let spawned = Command::new(&program)
            .arg("-w")
            .arg("5")
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{program}: {error}")),
        };
        let talk = async {
            if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
                pipe.write_all(text.as_bytes()).await?;
            }
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(LIMIT, talk).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("{program}: {error}")),
            Err(_) => return Err(format!("{program} took longer than {LIMIT:?}")),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} said: {}", said.lines().next().unwrap_or("nothing")));
    }
    Err("there is no iptables; install it with `apt-get install iptables`".to_owned())
}
