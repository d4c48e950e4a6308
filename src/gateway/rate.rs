//! Rate limits, by the generic cell rate algorithm: one number per caller, no windows, no timers.
//!
//! Our own forty lines rather than the `governor` crate: limits differ per API and change while they are in use, several
//! hold for one request and are counted all or none, an answer needs what is left and when it is back, and the memory that strangers can make us use must have a bound.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrayvec::{ArrayString, ArrayVec};
use hashbrown::{DefaultHashBuilder, HashTable};
use http::{HeaderMap, HeaderName};

use super::headers::{self, X_RATELIMIT_LIMIT, X_RATELIMIT_REMAINING, X_RATELIMIT_RESET};
use crate::records::KeyHash;
use crate::tree::ApiId;
use crate::tree::spec::RateLimit;

/// What there is left, as draft-ietf-httpapi-ratelimit-headers has it: a list of structured items.
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The limits that hold, in the same way.
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How many locks share the work.
const SHARDS: usize = 16;

/// From this many callers on, those who have their whole allowance back are forgotten, at most once a second.
const SWEEP_FROM: usize = 1024;

/// The most strangers that one shard tells apart, some 100 bytes each. Those beyond share one allowance per API, so
/// that a flood of addresses costs neither memory nor the limit. Keys are not strangers: somebody has made them.
const MAX_STRANGERS: usize = 8192;

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// Whoever shows this key, or one that has followed it.
    Key(KeyHash),
    /// Whoever shows a token with this subject.
    Subject(KeyHash),
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

    fn is_stranger(self) -> bool {
        !matches!(self, Self::Key(_))
    }
}

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Count {
    /// What a caller asks of one API.
    Caller(ApiId, Caller),
    /// What a key asks of all APIs.
    Key(Caller),
    /// What everybody asks of one API.
    Total(ApiId),
    /// What an address asks of one API, whoever it says that it is.
    Address(ApiId, Caller),
}

impl Count {
    fn kind(&self) -> Kind {
        match self {
            Self::Caller(..) => Kind::Caller,
            Self::Key(_) => Kind::Key,
            Self::Total(_) => Kind::Api,
            Self::Address(..) => Kind::Address,
        }
    }

    fn is_of_stranger(&self) -> bool {
        match self {
            Self::Caller(_, caller) | Self::Key(caller) | Self::Address(_, caller) => caller.is_stranger(),
            Self::Total(_) => false,
        }
    }

    /// Where it is counted when there are too many strangers to tell them apart.
    fn of_others(self) -> Self {
        match self {
            Self::Caller(api, _) => Self::Caller(api, Caller::Others),
            Self::Key(_) => Self::Key(Caller::Others),
            Self::Address(api, _) => Self::Address(api, Caller::Others),
            Self::Total(api) => Self::Total(api),
        }
    }
}

/// Which limit it is, for callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Caller,
    Key,
    Api,
    Address,
}

impl Kind {
    /// How its item begins in the list of what holds, and in that of what is left.
    fn items(self) -> [&'static str; 2] {
        match self {
            Self::Caller => ["\"caller\";q=", "\"caller\";r="],
            Self::Key => ["\"key\";q=", "\"key\";r="],
            Self::Api => ["\"api\";q=", "\"api\";r="],
            Self::Address => ["\"address\";q=", "\"address\";r="],
        }
    }
}

/// A limit that holds for a request.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// What is counted together.
    pub count: Count,
    /// How many there may be.
    pub limit: RateLimit,
}

/// The most limits that hold for one request: its caller's, its key's, the API's, and its address's.
pub(super) const MOST_RULES: usize = 4;

/// The limits that hold for a request.
pub(super) type Rules = ArrayVec<Rule, MOST_RULES>;

/// What one rule still allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    kind: Kind,
    /// The period.
    per: Duration,
    /// Requests per period.
    pub limit: u32,
    /// Requests that may come right now.
    pub remaining: u32,
    /// Until the whole burst is there again.
    whole_in: Duration,
    /// Until the next request may come; zero where one may come now.
    pub retry_after: Duration,
}

/// What the rules still allow that hold for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allowances {
    /// The tightest of them.
    pub tightest: Allowance,
    /// Seconds since 1970 when the whole burst of the tightest is there again.
    pub reset: u64,
    /// All of them.
    all: ArrayVec<Allowance, MOST_RULES>,
}

impl Allowances {
    fn of(all: ArrayVec<Allowance, MOST_RULES>) -> Option<Box<Self>> {
        // What has to be waited for longest; else what has least left.
        let tightest = *all.iter().min_by_key(|one| (std::cmp::Reverse(one.retry_after), one.remaining))?;
        Some(Box::new(Self { tightest, reset: unix_seconds_in(tightest.whole_in), all }))
    }

    /// Writes the headers that tell a caller of its limits: the old ones of the tightest, the standard ones of all.
    pub(super) fn write_to(&self, headers: &mut HeaderMap) {
        let (mut policy, mut left) = (List::new(), List::new());
        for one in &self.all {
            let comma = if policy.is_empty() { "" } else { ", " };
            let [quota, rest] = one.kind.items();
            write_item(&mut policy, [comma, quota, ";w="], [one.limit.into(), whole_seconds(one.per)]);
            write_item(&mut left, [comma, rest, ";t="], [one.remaining.into(), whole_seconds(one.whole_in)]);
        }
        headers.insert(X_RATELIMIT_LIMIT, self.tightest.limit.into());
        headers.insert(X_RATELIMIT_REMAINING, self.tightest.remaining.into());
        headers.insert(X_RATELIMIT_RESET, self.reset.into());
        headers.insert(RATELIMIT_POLICY, headers::value(&policy));
        headers.insert(RATELIMIT, headers::value(&left));
    }
}

/// A list of as many items as there can be, each of which is at most 47 bytes long.
type List = ArrayString<{ 48 * MOST_RULES }>;

/// Writes an item of a list, with two parameters.
fn write_item(list: &mut List, [comma, first, second]: [&str; 3], [a, b]: [u64; 2]) {
    let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
    let [a_digits, b_digits] = &mut digits;
    for part in [comma, first, a_digits.format(a), second, b_digits.format(b)] {
        // It fits.
        let _ = list.try_push_str(part);
    }
}

/// Counts the requests of all callers.
#[derive(Debug)]
pub(super) struct RateLimiter {
    began: Instant,
    /// Seeded anew by each process. It is no cipher, and need not be: callers see nothing of what comes out, and how many of
    /// them it tells apart is bounded.
    hasher: DefaultHashBuilder,
    shards: [Mutex<Shard>; SHARDS],
}

/// Who is counted, and the theoretical arrival time of its next request: nanoseconds since the limiter began.
type Arrivals = HashTable<(Count, u64)>;

#[derive(Debug, Default)]
struct Shard {
    known: Arrivals,
    strangers: Arrivals,
    swept: u64,
}

/// What one rule makes of a request, before it is counted.
#[derive(Debug, Clone, Copy)]
struct Look {
    hash: u64,
    /// Which of the shards that are locked.
    place: usize,
    /// It is counted with all others who are too many to be told apart.
    is_crowd: bool,
    pace: u64,
    capacity: u64,
    before: u64,
    after: u64,
    early: u64,
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self { began: Instant::now(), hasher: DefaultHashBuilder::default(), shards: Default::default() }
    }
}

impl RateLimiter {
    /// Counts one request by all rules, where each of them allows it; by none where one does not. `None` where no rule
    /// holds.
    ///
    /// # Errors
    /// What is left as well, where the request is over a limit.
    pub(super) fn count(&self, rules: &Rules) -> Result<Option<Box<Allowances>>, Box<Allowances>> {
        self.count_at(nanos(self.began.elapsed()), rules)
    }

    fn count_at(&self, now: u64, rules: &Rules) -> Result<Option<Box<Allowances>>, Box<Allowances>> {
        let hashes: ArrayVec<u64, MOST_RULES> = rules.iter().map(|rule| self.hasher.hash_one(&rule.count)).collect();
        // All at once, so that what is looked at is what is changed; in one order, so that nobody waits in a circle.
        let mut homes: ArrayVec<usize, MOST_RULES> = hashes.iter().map(|hash| home(*hash)).collect();
        homes.sort_unstable();
        let mut shards: ArrayVec<(usize, MutexGuard<'_, Shard>), MOST_RULES> = ArrayVec::new();
        for home in homes {
            if shards.last().is_none_or(|(last, _)| *last != home) {
                shards.push((home, self.shard(home, now)));
            }
        }
        let looks: ArrayVec<Look, MOST_RULES> = rules
            .iter()
            .zip(hashes)
            .map(|(rule, hash)| {
                let place = shards.iter().position(|(there, _)| *there == home(hash)).unwrap_or_default();
                let look = shards[place].1.look(now, &self.hasher, hash, rule);
                Look { place, ..look }
            })
            .collect();
        let passes = looks.iter().all(|look| look.early == 0);
        let left =
            Allowances::of(rules.iter().zip(&looks).map(|(rule, look)| look.allowance(now, rule, passes)).collect());
        if !passes {
            return left.map_or(Ok(None), Err);
        }
        for (rule, look) in rules.iter().zip(looks) {
            shards[look.place].1.put(&self.hasher, &rule.count, look);
        }
        Ok(left)
    }

    fn shard(&self, shard: usize, now: u64) -> MutexGuard<'_, Shard> {
        // No code under this lock panics halfway through a change.
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        shard.sweep(now);
        shard
    }
}

/// The shard of what has that hash.
#[expect(clippy::cast_possible_truncation, reason = "only the low bits of the hash are used")]
fn home(hash: u64) -> usize {
    hash as usize % SHARDS
}

impl Look {
    fn allowance(&self, now: u64, rule: &Rule, passes: bool) -> Allowance {
        let used = if passes { self.after } else { self.before } - now;
        Allowance {
            kind: rule.count.kind(),
            per: rule.limit.per.0,
            limit: rule.limit.requests,
            remaining: u32::try_from(self.capacity.saturating_sub(used) / self.pace).unwrap_or(u32::MAX),
            whole_in: Duration::from_nanos(used),
            retry_after: Duration::from_nanos(self.early),
        }
    }
}

impl Shard {
    fn look(&self, now: u64, hasher: &DefaultHashBuilder, mut hash: u64, rule: &Rule) -> Look {
        let is_stranger = rule.count.is_of_stranger();
        let arrivals = if is_stranger { &self.strangers } else { &self.known };
        let mut there = find(arrivals, hash, &rule.count);
        let is_crowd = there.is_none() && is_stranger && arrivals.len() >= MAX_STRANGERS;
        if is_crowd {
            let others = rule.count.clone().of_others();
            hash = hasher.hash_one(&others);
            there = find(arrivals, hash, &others);
        }
        let pace = (nanos(rule.limit.per.0) / u64::from(rule.limit.requests.max(1))).max(1);
        let capacity = pace.saturating_mul(u64::from(rule.limit.burst.max(1)));
        let before = there.unwrap_or(0).max(now);
        let after = before.saturating_add(pace);
        let early = after.saturating_sub(now).saturating_sub(capacity);
        Look { hash, place: 0, is_crowd, pace, capacity, before, after, early }
    }

    fn put(&mut self, hasher: &DefaultHashBuilder, count: &Count, look: Look) {
        let arrivals = if count.is_of_stranger() { &mut self.strangers } else { &mut self.known };
        if look.is_crowd {
            put(arrivals, hasher, &count.clone().of_others(), look);
        } else {
            put(arrivals, hasher, count, look);
        }
    }

    fn sweep(&mut self, now: u64) {
        let is_many = self.known.len() + self.strangers.len() >= SWEEP_FROM;
        if is_many && now.saturating_sub(self.swept) >= 1_000_000_000 {
            self.swept = now;
            self.known.retain(|(_, arrival)| *arrival > now);
            self.strangers.retain(|(_, arrival)| *arrival > now);
        }
    }
}

fn put(arrivals: &mut Arrivals, hasher: &DefaultHashBuilder, count: &Count, look: Look) {
    match arrivals.find_mut(look.hash, |(there, _)| there == count) {
        Some((_, arrival)) => *arrival = look.after,
        None => {
            arrivals.insert_unique(look.hash, (count.clone(), look.after), |(there, _)| hasher.hash_one(there));
        }
    }
}

fn find(arrivals: &Arrivals, hash: u64, count: &Count) -> Option<u64> {
    arrivals.find(hash, |(there, _)| there == count).map(|(_, arrival)| *arrival)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Rounded up, so that whoever waits that long does not come too early.
pub(super) fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// Rounded up as well.
fn unix_seconds_in(span: Duration) -> u64 {
    whole_seconds((SystemTime::now() + span).duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests;
