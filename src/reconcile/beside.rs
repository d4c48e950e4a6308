//! Beside long work, an API's turn goes on with what is short: what serves is healed while its successor is installed.

use super::desired::Desired;
use super::step::Next;
use super::turn::{TurnError, World, long_work};

/// More steps than healing takes: a turn that finds more has its next hint to go on.
const MOST: usize = 20;

impl World {
    /// Steps for one API until the next one is long, or there is none.
    pub(super) async fn go_on_beside(&self, desired: &Desired) -> Result<(), TurnError> {
        for _ in 0..MOST {
            let record = self.records.get(&desired.id).await?;
            let observed = self.observe(desired, record).await?;
            let Next::Act(step) = self.next(desired, &observed) else { return Ok(()) };
            if long_work(&step.action).is_some() {
                return Ok(());
            }
            self.tell(&desired.id, &step);
            self.note_drift(desired, &observed, &step).await?;
            Box::pin(self.perform(desired, &observed, &step)).await?;
        }
        Ok(())
    }
}
