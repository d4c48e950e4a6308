//! Rate limits, by the generic cell rate algorithm: one number per caller, no windows, no timers.
//!
//! Our own forty lines rather than the `governor` crate: limits differ per API and change while they are in use, an
//! answer needs what is left and when it is back, and the memory that strangers can make us use must have a bound.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::records::KeyHash;
use crate::tree::ApiId;
use crate::tree::spec::RateLimit;

/// How many locks share the work.
const SHARDS: usize = 16;

/// From this many callers on, those who have their whole allowance back are forgotten, at most once a second.
const SWEEP_FROM: usize = 1024;

/// The most callers that one shard tells apart, some 100 bytes each. Those beyond share one allowance per API, so
/// that a flood of addresses costs neither memory nor the limit.
const MAX_CALLERS: usize = 8192;

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// Whoever shows this key.
    Key(KeyHash),
    /// Whoever calls from this address, or this /64 of IPv6: that is what one household or host is given.
    Address(IpAddr),
    /// All those who are too many to be told apart.
    Others,
}

impl Caller {
    /// The caller at that address.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What a caller may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Requests per period.
    pub limit: u32,
    /// Requests that may come right now.
    pub remaining: u32,
    /// Seconds since 1970 when the whole burst is there again.
    pub reset: u64,
    /// Until the next request may come; zero where one may come now.
    pub retry_after: Duration,
}

/// Counts the requests of all callers.
#[derive(Debug)]
pub(super) struct RateLimiter {
    began: Instant,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// The theoretical arrival time of the next request: nanoseconds since `began`.
    arrivals: HashMap<(ApiId, Caller), u64>,
    swept: u64,
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self { began: Instant::now(), hasher: RandomState::new(), shards: Default::default() }
    }
}

impl RateLimiter {
    /// Counts one request, where the limit allows it.
    ///
    /// # Errors
    /// The allowance as well, where the request is over the limit; it is not counted then.
    pub(super) fn count(&self, api: &ApiId, caller: Caller, limit: &RateLimit) -> Result<Allowance, Allowance> {
        self.count_at(nanos(self.began.elapsed()), api, caller, limit)
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the low bits of the hash are used")]
    fn count_at(&self, now: u64, api: &ApiId, caller: Caller, limit: &RateLimit) -> Result<Allowance, Allowance> {
        let slot = (api.clone(), caller);
        let shard = &self.shards[self.hasher.hash_one(&slot) as usize % SHARDS];
        // No code under this lock panics halfway through a change.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.sweep(now);
        let full = shard.arrivals.len() >= MAX_CALLERS && !shard.arrivals.contains_key(&slot);
        let slot = if full { (slot.0, Caller::Others) } else { slot };

        let pace = (nanos(limit.per.0) / u64::from(limit.requests.max(1))).max(1);
        let capacity = pace.saturating_mul(u64::from(limit.burst.max(1)));
        let before = shard.arrivals.get(&slot).copied().unwrap_or(0).max(now);
        let after = before.saturating_add(pace);
        let early = after.saturating_sub(now).saturating_sub(capacity);
        let arrival = if early == 0 { after } else { before };
        let used = arrival - now;
        let allowance = Allowance {
            limit: limit.requests,
            remaining: u32::try_from(capacity.saturating_sub(used) / pace).unwrap_or(u32::MAX),
            reset: unix_seconds_in(Duration::from_nanos(used)),
            retry_after: Duration::from_nanos(early),
        };
        if early > 0 {
            return Err(allowance);
        }
        shard.arrivals.insert(slot, after);
        Ok(allowance)
    }
}

impl Shard {
    fn sweep(&mut self, now: u64) {
        if self.arrivals.len() >= SWEEP_FROM && now.saturating_sub(self.swept) >= 1_000_000_000 {
            self.swept = now;
            self.arrivals.retain(|_, arrival| *arrival > now);
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Rounded up, so that whoever waits until then does not come too early.
fn unix_seconds_in(span: Duration) -> u64 {
    let at = (SystemTime::now() + span).duration_since(UNIX_EPOCH).unwrap_or_default();
    at.as_secs() + u64::from(at.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Seconds;

    const SECOND: u64 = 1_000_000_000;

    fn limit(requests: u32, burst: u32) -> RateLimit {
        RateLimit { requests, per: Seconds::new(60), burst }
    }

    fn api() -> ApiId {
        ApiId::new("hello").unwrap()
    }

    fn caller(n: u32) -> Caller {
        Caller::at(IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn a_burst_passes_then_the_even_pace_holds() {
        let limiter = RateLimiter::default();
        let limit = limit(60, 3);
        let count = |now| limiter.count_at(now, &api(), caller(1), &limit);
        assert_eq!([count(0), count(0), count(0)].map(|answer| answer.unwrap().remaining), [2, 1, 0]);
        assert_eq!(count(0).unwrap_err().retry_after, Duration::from_secs(1));
        assert_eq!(count(SECOND / 2).unwrap_err().retry_after, Duration::from_millis(500));
        assert_eq!(count(SECOND).unwrap().remaining, 0);
        assert!(count(SECOND).is_err());
        assert_eq!(count(60 * SECOND).unwrap().remaining, 2);
    }

    #[test]
    fn callers_and_apis_have_allowances_of_their_own() {
        let limiter = RateLimiter::default();
        let limit = limit(1, 1);
        assert!(limiter.count_at(0, &api(), caller(1), &limit).is_ok());
        assert!(limiter.count_at(0, &api(), caller(1), &limit).is_err());
        assert!(limiter.count_at(0, &api(), caller(2), &limit).is_ok());
        assert!(limiter.count_at(0, &ApiId::new("other").unwrap(), caller(1), &limit).is_ok());
    }

    #[test]
    fn a_flood_of_callers_is_bounded_and_then_shares_one_allowance() {
        let limiter = RateLimiter::default();
        let limit = limit(1, 1);
        let passed = (0..200_000).filter(|n| limiter.count_at(0, &api(), caller(*n), &limit).is_ok()).count();
        let known: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().arrivals.len()).sum();
        assert!(known <= SHARDS * (MAX_CALLERS + 1), "{known}");
        assert!(passed <= known, "{passed} passed, {known} known");
        // A minute later all of them have their allowance back and are forgotten.
        for n in 0..1000 {
            let _ = limiter.count_at(120 * SECOND, &api(), caller(n), &limit);
        }
        let known: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().arrivals.len()).sum();
        assert!(known <= 1000, "{known}");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_caller() {
        let at = |text: &str| Caller::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
