//! A hold leaves one API as it is, whatever the tree says of it, until the tree says something else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::Served;
use crate::tree::Digest;

/// Leaves one API as it is. Kept in the records; a person's word, which skep never overwrites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What the tree said when it was made ([`crate::tree::Api::content`]). When it says something else, and that is
    /// sound, the hold is over. `None` where the folder was broken then.
    pub on: Option<Digest>,
    /// What should serve meanwhile, as after a rollback; `None` is what served last.
    pub serve: Option<Box<Served>>,
    /// Who asked for it.
    pub by: String,
    /// Why; may be empty.
    pub why: String,
    /// Since when.
    pub at: Timestamp,
    /// Until when at the longest.
    pub until: Option<Timestamp>,
    /// Whether it goes on when the folder changes, as when somebody stopped the API: only a word, or the time, ends it.
    #[serde(default)]
    pub stays: bool,
}

impl Hold {
    /// Why it is over; `None` where it holds.
    ///
    /// `content` is what the tree says of the API now, where that is sound.
    #[must_use]
    pub fn is_over(&self, content: Option<&Digest>, now: Timestamp) -> Option<&'static str> {
        if self.until.is_some_and(|until| until <= now) {
            return Some("its time is over");
        }
        let has_moved_on = !self.stays && content.is_some_and(|content| self.on.as_ref() != Some(content));
        has_moved_on.then_some("its folder says something else now")
    }

    /// Who holds it, why, and until when, in one line.
    #[must_use]
    pub fn describe(&self) -> String {
        let what = match &self.serve {
            Some(served) if served.spec.suspend => format!("stopped by {}", self.by),
            Some(served) => format!("rolled back to {} by {}", served.revision, self.by),
            None => format!("held by {}", self.by),
        };
        let until = self.until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        let end = if self.stays { "" } else { "with the next change of its folder, or " };
        format!("{what}{until}{why}; goes on {end}with `skep release`")
    }
}
