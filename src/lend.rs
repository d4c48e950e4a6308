//! Lending bounds how much is done at once, without letting one that is stuck keep the others from their turn.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Does `work` with one of the permits, which goes to the next one after `limit`: what takes longer goes on without.
///
/// Bounds what is quick, which is nearly everything, and promises that whoever waits has waited for `limit` per permit
/// at the longest.
pub async fn lend<T>(permits: &Semaphore, limit: Duration, work: impl Future<Output = T>) -> T {
    // Fails only once the semaphore is closed, which nobody does.
    let permit = permits.acquire().await.ok();
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout(limit, &mut work).await {
        return done;
    }
    drop(permit);
    work.await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn one_that_is_stuck_keeps_nobody_from_their_turn_for_ever() {
        let permits = Arc::new(Semaphore::new(1));
        let stuck = {
            let permits = Arc::clone(&permits);
            tokio::spawn(async move { lend(&permits, Duration::from_millis(20), std::future::pending::<()>()).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(permits.available_permits(), 0);
        assert_eq!(lend(&permits, Duration::from_secs(60), async { 7 }).await, 7);
        stuck.abort();
    }
}
