//! The firewall keeps instances away from the host they run on, from each other, and from where clouds keep credentials.
//!
//! A network without a way out, and with traffic between its containers turned off, still lets a container reach the
//! host itself: whatever listens on all addresses answers on the bridge's gateway address too. And what the engine's own
//! rules hold is gone when somebody flushes them. So our bridges have [`rules`] of their own, which need nothing of the
//! engine's, and the ports of our [`bridge`]s pass nothing on to each other.

mod bridge;
mod ear;
mod program;
mod rules;

use std::time::{Duration, Instant};

pub use ear::Ear;
use rules::Rules;

use super::Docker;
use super::examine::FirewallFacts;
use super::network::Network;
use crate::engine::EngineError;
use crate::tree::Egress;

/// How long a look at the rules is good for. Somebody who flushes them is noticed at the next look.
const GOOD_FOR: Duration = Duration::from_secs(20);

/// When the rules were last seen in force, and whether their absence was warned of.
#[derive(Debug, Default)]
pub(super) struct Seen {
    in_force: Option<Instant>,
    /// What they were then.
    rules: Option<Rules>,
    has_warned: bool,
}

impl Seen {
    /// The rules are other ones by now.
    pub(super) fn forget(&mut self) {
        self.in_force = None;
    }
}

impl Docker {
    /// Sees to it that the firewall's rules are in force, and repairs them where they are not. Cheap when they are:
    /// a few milliseconds. Meant for every periodic look, since a reload of the host's own firewall drops them. Tells
    /// whether somebody had taken away what this process had seen in force.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] where this host has no `iptables` or does not let us use it.
    pub async fn ensure_firewall(&self) -> Result<bool, EngineError> {
        if !self.has_visible_network() {
            // No bridge of ours on this host, so nobody to keep away.
            return Ok(false);
        }
        for network in self.names_of_networks() {
            bridge::isolate_ports(&network.interface).await;
        }
        let mut seen = self.shared.firewall.lock().await;
        seen.in_force = None;
        let rules = self.rules().await;
        let has_changed = self.put_in_force().await.map_err(EngineError::Unsupported)?;
        seen.in_force = Some(Instant::now());
        // Others are put in force as bridges of others come and go.
        let are_known = seen.rules.as_ref() == Some(&rules);
        seen.rules = Some(rules);
        Ok(are_known && has_changed)
    }

    /// What hears of changes of the host's packet filter, where they can be heard.
    pub async fn firewall_ear(&self) -> Option<Ear> {
        Ear::open().await
    }

    /// What a look costs next to nothing: sets the ports of our bridges apart, and tells whether other rules should be in force than
    /// were put there last.
    pub async fn firewall_has_aged(&self) -> bool {
        if !self.has_visible_network() {
            return false;
        }
        for network in self.names_of_networks() {
            bridge::isolate_ports(&network.interface).await;
        }
        self.shared.firewall.lock().await.rules.as_ref() != Some(&self.rules().await)
    }

    /// Before an instance starts: holds back one that must have no egress where the host cannot see to that.
    pub(super) async fn guard(&self, network: &Network, egress: Egress) -> Result<(), EngineError> {
        let mut seen = self.shared.firewall.lock().await;
        if seen.in_force.is_some_and(|at| at.elapsed() < GOOD_FOR) {
            return Ok(());
        }
        let outcome = if network.is_visible() {
            self.put_in_force().await
        } else {
            Err("the engine's networks are not on this host".to_owned())
        };
        match (outcome, egress) {
            (Ok(_), _) => {
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
        let (listed, rules) = (program::list().await?, self.rules().await);
        let change = rules.repair(&listed).unwrap_or_default();
        let missing = change.lines().filter(|line| line.starts_with("-A") || line.starts_with("-I"));
        let chains = listed.lines().filter_map(|line| line.strip_prefix("-N "));
        // The second chain of an installation is told of with its first.
        let chains = chains.filter(|chain| chain.starts_with("SKEP-") && !chain.ends_with("-AWAY"));
        Ok(FirewallFacts {
            missing: missing.map(str::to_owned).collect(),
            wanted: rules.count(),
            chains: chains.map(str::to_owned).collect(),
        })
    }

    /// After a container has started: sets its port on the bridge apart from the others.
    pub(super) async fn set_apart(network: &Network) {
        bridge::isolate_ports(&network.interface).await;
    }

    /// Takes our rules out again.
    pub(super) async fn drop_firewall(&self) {
        self.shared.firewall.lock().await.in_force = None;
        let rules = self.rules().await;
        let removed = match program::list().await.map(|listed| rules.removal(&listed)) {
            Ok(Some(change)) => program::change(&change).await,
            Ok(None) => Ok(()),
            Err(cause) => Err(cause),
        };
        if let Err(cause) = removed {
            // A host without the program has no rules either.
            tracing::debug!(%cause, "no firewall rules are removed");
        }
    }

    /// Whether anything had to be changed.
    pub(super) async fn put_in_force(&self) -> Result<bool, String> {
        let Some(change) = self.rules().await.repair(&program::list().await?) else { return Ok(false) };
        tracing::debug!("the firewall's rules are put in force");
        program::change(&change).await?;
        Ok(true)
    }

    async fn rules(&self) -> Rules {
        let interfaces = self.interface_prefix();
        let others = bridge::others(&interfaces).await;
        Rules::new(self.short_owner(), interfaces, others).letting_in(self.own_addresses().await)
    }
}
