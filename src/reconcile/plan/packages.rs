//! Which packages move where a plan installs requirements that no lock pins: what serves has some versions, and a resolver
//! says which ones it would take now.

use serde::Serialize;

use super::changes::{Change, moves};
use super::{ApiPlan, Rebuild};
use crate::tree::Versions;

/// Whether the packages that move are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Resolution {
    /// They are among the changes.
    Resolved,
    /// They are not.
    Unknown {
        /// Why, in a sentence.
        why: String,
    },
}

impl ApiPlan {
    /// Whether packages may move that the plan does not name: what serves gives way to what is installed anew, or was for
    /// another API, and not both have a lock.
    #[must_use]
    pub fn may_move_packages(&self) -> bool {
        let is_asked = |change: &Change| matches!(change, Change::Requirement { .. } | Change::Lock { .. });
        let is_named = |change: &Change| matches!(change, Change::Package { .. });
        let is_installed = self.rebuild == Rebuild::Dependencies || self.changes.iter().any(is_asked);
        self.is_replaced() && is_installed && !self.changes.iter().any(is_named)
    }

    /// Takes in the versions that serve and those that will.
    pub fn move_packages(&mut self, old: &Versions, new: &Versions) {
        // After what was asked for, and before files, which are long.
        let place =
            self.changes.iter().position(|change| matches!(change, Change::Secrets { .. } | Change::File { .. }));
        let place = place.unwrap_or(self.changes.len());
        self.changes.splice(place..place, moves(old, new));
        self.packages = Some(Resolution::Resolved);
    }

    /// Takes in why there are no versions to compare.
    pub fn leave_packages(&mut self, why: impl Into<String>) {
        self.packages = Some(Resolution::Unknown { why: why.into() });
    }
}
