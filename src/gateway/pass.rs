//! A pass is what let a caller in, and what follows from it.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::rate::{Caller, Count, Rule, Rules};
use super::route::Route;
use crate::records::KeyHash;
use crate::tree::{Digest, RateLimit};
use crate::usage::{KeyName, UsedBy};

/// What let a caller in.
#[derive(Debug)]
pub(super) struct Pass {
    /// Who it is, for counting.
    pub caller: Caller,
    /// How many requests it may make of all APIs together.
    pub limit: Option<RateLimit>,
    /// Whose its requests are, in the records of usage.
    pub by: UsedBy,
    /// What the app is told of the caller.
    pub told: Vec<(HeaderName, HeaderValue)>,
}

impl Pass {
    /// That of a key; keys that share an account share its allowances.
    pub fn of_key(account: KeyHash, limit: Option<RateLimit>, name: Arc<KeyName>) -> Self {
        Self { caller: Caller::Key(account), limit, by: UsedBy::Key(name), told: Vec::new() }
    }

    /// That of a token; `None` where the subject cannot stand in a header.
    pub fn of_subject(issuer: &str, subject: &str, mut told: Vec<(HeaderName, HeaderValue)>) -> Option<Self> {
        told.push((X_SKEP_SUBJECT, HeaderValue::from_str(subject).ok()?));
        // With the length of the first, so that no two pairs are one text.
        let account = Digest::of(format!("{}:{issuer}:{subject}", issuer.len()).as_bytes());
        Some(Self { caller: Caller::Subject(account), limit: None, by: UsedBy::Token, told })
    }
}

/// The limits that hold for a request of whoever shows that pass, or none, from that address.
pub(super) fn rules(route: &Route, pass: Option<&Pass>, address: IpAddr) -> Rules {
    let caller = pass.map_or(Caller::at(address), |pass| pass.caller);
    let rules = [
        of(route.rate_limit, &|| Count::Caller(route.id.clone(), caller)),
        of(pass.and_then(|pass| pass.limit), &|| Count::Key(caller)),
        of(route.settings.total_limit, &|| Count::Total(route.id.clone())),
        address_rule(route, address),
    ];
    rules.into_iter().flatten().collect()
}

/// The limit that holds for whatever comes from that address, whoever it is.
pub(super) fn address_rule(route: &Route, address: IpAddr) -> Option<Rule> {
    of(route.settings.address_limit, &|| Count::Address(route.id.clone(), Caller::at(address)))
}

fn of(limit: Option<RateLimit>, count: &dyn Fn() -> Count) -> Option<Rule> {
    limit.map(|limit| Rule { count: count(), limit })
}

/// In which header an app hears whose token a caller has shown.
const X_SKEP_SUBJECT: HeaderName = HeaderName::from_static("x-skep-subject");

/// Says what is true of a caller. What it says of itself in the headers that are ours has been [taken out](headers::is_ours).
pub(super) fn tell(headers: &mut HeaderMap, pass: Option<Pass>) {
    headers.extend(pass.into_iter().flat_map(|pass| pass.told));
}
