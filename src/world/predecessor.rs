//! A predecessor is a container of the system that skep takes over from. It is not ours: skep looks at it, may send callers
//! to it, and stops it where somebody says so; nothing else.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::instance::ContainerId;
use crate::tree::ApiId;

/// The label that says that a container is one, and its value.
pub const LABEL: (&str, &str) = ("app", "api-builder");

/// The label that says of which API.
pub const API_LABEL: &str = "api_id";

/// One container of the system before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// What it is called, `api-<id>` as a rule.
    pub name: String,
    /// The engine's id of it.
    pub container: ContainerId,
    /// What its label says, whatever that is; `None` where it has none.
    pub label: Option<String>,
    /// Of which API it is, or why skep leaves it alone.
    pub api: Result<ApiId, String>,
    /// What its processes are doing.
    pub state: PredecessorState,
    /// Where this host reaches it, while it runs.
    pub address: Option<SocketAddr>,
}

/// What the processes of a predecessor are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PredecessorState {
    /// They run.
    Running,
    /// Somebody froze them.
    Paused,
    /// They have ended, and the engine is about to start them again.
    Restarting,
    /// There are none.
    Stopped,
}

impl PredecessorState {
    /// As people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

impl Predecessor {
    /// Reads of which API a container is from what its label says.
    ///
    /// # Errors
    /// Why skep leaves it alone.
    pub fn read_label(label: Option<&str>) -> Result<ApiId, String> {
        let label = label.ok_or_else(|| format!("it has no label {API_LABEL}, so nobody knows of which API it is"))?;
        ApiId::new(label).map_err(|error| format!("its label {API_LABEL} is {label:?}: {error}"))
    }

    /// Where callers of its API could be sent: it is known whose it is, and it runs.
    #[must_use]
    pub fn place(&self) -> Option<(&ApiId, SocketAddr)> {
        let id = self.api.as_ref().ok()?;
        (self.state == PredecessorState::Running).then_some((id, self.address?))
    }
}

/// Marks those that say that they are of the same API: which of them callers should get, nobody can tell.
pub fn mark_doubles(predecessors: &mut [Predecessor]) {
    let mut names: BTreeMap<ApiId, Vec<String>> = BTreeMap::new();
    for predecessor in predecessors.iter() {
        if let Ok(id) = &predecessor.api {
            names.entry(id.clone()).or_default().push(predecessor.name.clone());
        }
    }
    for predecessor in predecessors {
        let Ok(id) = &predecessor.api else { continue };
        if let Some(names) = names.get(id).filter(|names| names.len() > 1) {
            predecessor.api = Err(format!("{} say that they are of {id}: remove all but one", names.join(" and ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predecessor(name: &str, label: Option<&str>) -> Predecessor {
        Predecessor {
            name: name.to_owned(),
            container: name.into(),
            label: label.map(str::to_owned),
            api: Predecessor::read_label(label),
            state: PredecessorState::Running,
            address: Some(SocketAddr::from(([127, 0, 0, 1], 9000))),
        }
    }

    #[test]
    fn a_label_that_is_missing_or_no_id_is_named() {
        assert!(predecessor("a", None).api.unwrap_err().contains("no label api_id"));
        assert!(predecessor("a", Some("My_API")).api.unwrap_err().contains("\"My_API\""));
        assert!(predecessor("a", Some("My_API")).place().is_none());
        assert_eq!(predecessor("a", Some("my-api")).place().unwrap().0.as_str(), "my-api");
    }

    #[test]
    fn two_of_one_api_are_left_alone_and_others_are_not() {
        let mut all = [predecessor("a", Some("x")), predecessor("b", Some("y")), predecessor("c", Some("x"))];
        mark_doubles(&mut all);
        assert!(all[0].api.as_ref().unwrap_err().contains("a and c"));
        assert!(all[2].place().is_none());
        assert_eq!(all[1].place().unwrap().0.as_str(), "y");
    }
}
