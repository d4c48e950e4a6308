//! Writing is what a turn leaves in the records: rows and events.

use super::found::FOUND;
use super::turn::{TurnError, World, lock};
use crate::records::NewEvent;
use crate::tree::{ApiId, Revision};
use crate::world::Record;

impl World {
    /// Forgets what went wrong with an API, so that it is tried again at once. `false` where there is no such row.
    ///
    /// # Errors
    /// Where the records cannot be used.
    pub async fn retry(&self, id: &ApiId) -> Result<bool, TurnError> {
        let Some(record) = self.records.get(id).await? else { return Ok(false) };
        if !record.failures.is_empty() {
            self.put(Record { failures: Vec::new(), ..record }).await?;
        }
        Ok(true)
    }

    pub(super) async fn put(&self, mut record: Record) -> Result<(), TurnError> {
        record.updated = self.clock.now();
        record.edits.clear();
        // Until it is known to be written it may be so, or not: also where nobody waits for the answer.
        lock(&self.known).remove(&record.id);
        self.records.put(&record).await?;
        lock(&self.known).insert(record.id);
        Ok(())
    }

    /// Writes down something about the installation as a whole that somebody's hand has changed.
    pub async fn found(&self, message: &str) {
        tracing::info!("{FOUND}: {message}");
        let (at, kind, message) = (self.clock.now(), FOUND.to_owned(), message.to_owned());
        let event = NewEvent { at, api: None, revision: None, kind, message };
        if let Err(error) = self.records.add_event(&event).await {
            tracing::warn!("{error}");
        }
    }

    pub(super) async fn write_down(
        &self,
        id: &ApiId,
        revision: Option<&Revision>,
        kind: &str,
        message: &str,
    ) -> Result<(), TurnError> {
        let event = NewEvent {
            at: self.clock.now(),
            api: Some(id.clone()),
            revision: revision.cloned(),
            kind: kind.to_owned(),
            message: message.to_owned(),
        };
        tracing::info!(api = %id, revision = %revision.map_or("-", Revision::as_str), "{kind}: {message}");
        if !self.role.leads() {
            return Ok(());
        }
        if event.kind == FOUND {
            self.count_found();
        }
        self.records.add_event(&event).await?;
        Ok(())
    }
}
