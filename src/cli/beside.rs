//! Beside a daemon works a command that uses the records of the same installation: the same as the daemon, or none.

use anyhow::bail;

use super::context::{Context, REMEMBERED};
use crate::tree::Digest;

/// What the holder of the lock says where the records are a file in the state folder.
const FILE: &str = "file";

/// How the settings of the packaged service come into a shell.
const LOAD: &str =
    "in a shell, the settings of the packaged service are loaded by: set -a; . /etc/default/skep; set +a";

impl Context {
    /// Which records these settings lead to, without saying where those are; `None` where their address cannot be used.
    pub(super) fn records_mark(&self) -> Option<String> {
        Some(match self.place().ok()? {
            None => FILE.to_owned(),
            Some(place) => {
                let name = format!("{} {}", place.address.place(), place.schema);
                format!("database {}", Digest::of(name.as_bytes()))
            }
        })
    }

    /// Refuses to use other records than those of this installation: what is written there, as a key, nobody would know of.
    ///
    /// # Errors
    /// As said.
    pub(super) fn check_records(&self) -> anyhow::Result<()> {
        let state = &self.settings.state;
        let has_url = self.settings.records.url.is_some();
        if !has_url && state.join(REMEMBERED).try_exists()? {
            bail!(
                "the records of this installation are in a database, as {REMEMBERED} in {} says, and no URL of one is set here; \
                 set SKEP_DB_URL (or SUPABASE_DB_URL) as for the daemon; {LOAD}. Where the records are in a file by now, \
                 remove {REMEMBERED}",
                state.display()
            );
        }
        let Some(holder) = self.installation.holder() else { return Ok(()) };
        let Some((theirs, ours)) = holder.records.zip(self.records_mark()) else { return Ok(()) };
        match (theirs == FILE, has_url) {
            (false, false) => bail!(
                "`skep {}` (process {}) keeps the records of this installation in a database, and no URL of one is set here; \
                 set SKEP_DB_URL (or SUPABASE_DB_URL) as for it; {LOAD}",
                holder.command,
                holder.pid
            ),
            (true, true) => bail!(
                "`skep {}` (process {}) keeps the records of this installation in {}, and a URL of a database is set here; \
                 unset SKEP_DB_URL and SUPABASE_DB_URL, or start it anew with them",
                holder.command,
                holder.pid,
                self.installation.records().display()
            ),
            // One database may have several addresses, as that of a pool before it.
            (false, true) if theirs != ours => {
                anstream::eprintln!(
                    "warning: `skep {}` (process {}) has its records at another address, or in another schema, than the URL \
                     that is set here; where that is another database, it knows nothing of what is written now; {LOAD}",
                    holder.command,
                    holder.pid
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
