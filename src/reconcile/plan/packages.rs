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

    /// Takes in the versions that serve and those that will, or why there are none.
    pub fn move_packages(&mut self, old: Result<Versions, String>, new: Result<Versions, String>) {
        let moves = match (old, new) {
            (Ok(old), Ok(new)) => moves(&old, &new),
            // What will be is what people ask about.
            (_, Err(why)) | (Err(why), _) => return self.packages = Some(Resolution::Unknown { why }),
        };
        // After what was asked for, and before files, which are long.
        let place =
            self.changes.iter().position(|change| matches!(change, Change::Secrets { .. } | Change::File { .. }));
        let place = place.unwrap_or(self.changes.len());
        self.changes.splice(place..place, moves);
        self.packages = Some(Resolution::Resolved);
    }
}
