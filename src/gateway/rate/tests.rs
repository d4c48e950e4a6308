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

fn rule(api: ApiId, caller: Caller, limit: RateLimit) -> Rules {
    Rules::from_iter([Rule { count: Count::Caller(api, caller), limit }])
}

fn strangers(limiter: &RateLimiter) -> usize {
    limiter.shards.iter().map(|shard| shard.lock().unwrap().strangers.len()).sum()
}

#[test]
fn a_burst_passes_then_the_even_pace_holds() {
    let limiter = RateLimiter::default();
    let count = |now| limiter.count_at(now, &rule(api(), caller(1), limit(60, 3)));
    let remaining = |now| count(now).unwrap().unwrap().tightest.remaining;
    let wait = |now| count(now).unwrap_err().tightest.retry_after;
    assert_eq!([remaining(0), remaining(0), remaining(0)], [2, 1, 0]);
    assert_eq!(wait(0), Duration::from_secs(1));
    assert_eq!(wait(SECOND / 2), Duration::from_millis(500));
    assert_eq!(remaining(SECOND), 0);
    assert!(count(SECOND).is_err());
    assert_eq!(remaining(60 * SECOND), 2);
}

#[test]
fn callers_and_apis_have_allowances_of_their_own() {
    let limiter = RateLimiter::default();
    let passes = |api, caller| limiter.count_at(0, &rule(api, caller, limit(1, 1))).is_ok();
    assert!(passes(api(), caller(1)));
    assert!(!passes(api(), caller(1)));
    assert!(passes(api(), caller(2)));
    assert!(passes(ApiId::new("other").unwrap(), caller(1)));
}

#[test]
fn what_one_rule_refuses_no_other_counts() {
    let limiter = RateLimiter::default();
    let count = |n| {
        let mut rules = rule(api(), caller(n), limit(1, 1));
        rules.push(Rule { count: Count::Total(api()), limit: limit(3, 3) });
        limiter.count_at(0, &rules)
    };
    assert_eq!(count(1).unwrap().unwrap().all.iter().map(|one| one.remaining).collect::<Vec<_>>(), [0, 2]);
    for _ in 0..10 {
        let refused = count(1).unwrap_err();
        assert_eq!((refused.tightest.kind, refused.all[1].remaining), (Kind::Caller, 2));
    }
    assert!(count(2).is_ok() && count(3).is_ok());
    let refused = count(4).unwrap_err();
    assert_eq!((refused.tightest.kind, refused.tightest.remaining, refused.all[0].remaining), (Kind::Api, 0, 1));
}

#[test]
fn many_threads_at_once_are_counted_exactly() {
    let limiter = RateLimiter::default();
    let passed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let limiter = &limiter;
                scope.spawn(move || {
                    // In another order in each thread: whoever locks in the order asked would wait for ever.
                    let mut rules = rule(api(), caller(n % 4), limit(400, 400));
                    rules.push(Rule { count: Count::Total(api()), limit: limit(1000, 1000) });
                    rules.push(Rule { count: Count::Address(api(), caller(9)), limit: limit(5000, 5000) });
                    rules.rotate_left(n as usize % 3);
                    (0..500).filter(|_| limiter.count_at(0, &rules).is_ok()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(passed, 1000, "of 8000 requests");
    let mut each: Vec<u32> = (0..4)
        .map(|n| limiter.count_at(0, &rule(api(), caller(n), limit(400, 400))))
        .map(|left| left.map_or(400, |left| 400 - left.unwrap().tightest.remaining - 1))
        .collect();
    each.sort_unstable();
    assert_eq!(each.iter().sum::<u32>(), 1000, "{each:?}: a caller was charged for what another rule refused");
}

#[test]
fn a_flood_of_callers_is_bounded_and_then_shares_one_allowance() {
    let limiter = RateLimiter::default();
    let limit = limit(1, 1);
    let count = |now, n| limiter.count_at(now, &rule(api(), caller(n), limit)).is_ok();
    let key = || rule(api(), Caller::Key(KeyHash::of(b"skep_x")), limit);
    let passed = (0..200_000).filter(|n| count(0, *n)).count();
    let known = strangers(&limiter);
    assert!(known <= SHARDS * (MAX_STRANGERS + 1), "{known}");
    assert!(passed <= known, "{passed} passed, {known} known");
    assert!(limiter.count_at(0, &key()).is_ok() && limiter.count_at(0, &key()).is_err(), "a key is not drowned in it");
    // A minute later all of them have their allowance back and are forgotten.
    for n in 0..1000 {
        count(120 * SECOND, n);
    }
    assert!(strangers(&limiter) <= 1000, "{}", strangers(&limiter));
}

#[test]
fn headers_name_every_rule() {
    let limiter = RateLimiter::default();
    let mut rules = rule(api(), caller(1), limit(60, 3));
    rules.push(Rule { count: Count::Total(api()), limit: limit(120, 120) });
    let mut headers = HeaderMap::new();
    limiter.count_at(0, &rules).unwrap().unwrap().write_to(&mut headers);
    assert_eq!(headers[RATELIMIT_POLICY], "\"caller\";q=60;w=60, \"api\";q=120;w=60");
    assert_eq!(headers[RATELIMIT], "\"caller\";r=2;t=1, \"api\";r=119;t=1");
    assert_eq!(
        (&headers[X_RATELIMIT_LIMIT], &headers[X_RATELIMIT_REMAINING]),
        (&"60".parse().unwrap(), &"2".parse().unwrap())
    );
}

#[test]
fn addresses_of_one_ipv6_network_are_one_caller() {
    let at = |text: &str| Caller::at(text.parse().unwrap());
    assert_eq!(at("2001:db8::1"), at("2001:db8::ffff"));
    assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
}

#[test]
fn callers_are_told_of_all_limits_however_high_they_are() {
    let of = |kind| Allowance {
        kind,
        per: Seconds::new(u64::MAX).0,
        limit: u32::MAX,
        remaining: u32::MAX,
        whole_in: Duration::from_secs(u64::MAX),
        retry_after: Duration::ZERO,
    };
    let all: ArrayVec<Allowance, MOST_RULES> =
        [Kind::Caller, Kind::Key, Kind::Api, Kind::Address].map(of).into_iter().collect();
    let mut headers = HeaderMap::new();
    Allowances { tightest: all[0], reset: 7, all }.write_to(&mut headers);
    let (limit, seconds, kinds) = (u32::MAX, u64::MAX, ["caller", "key", "api", "address"]);
    let list = |a, b| kinds.map(|kind| format!("\"{kind}\";{a}={limit};{b}={seconds}")).join(", ");
    assert_eq!(headers[RATELIMIT], list("r", "t"));
    let policy = headers[RATELIMIT_POLICY].to_str().unwrap();
    assert!(policy.starts_with("\"caller\";q=4294967295;w=1844674407370955161"), "{policy}");
    assert_eq!(policy.matches(", ").count(), 3);
}
