//! Balancing finds a request its upstream: one that can be reached and has little to do, and a place there.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::line::patience;
use super::refusal::Refusal;
use super::route::{Route, RouteState, Routes};
use super::upstream::{Entry, InFlight, Upstream};

/// How often a route is read again when all its upstreams were sealed in between. A seal comes after the route has
/// moved, so the second look finds the new one; the rest is for routes that move again and again.
const LOOKS: usize = 8;

/// Picks an upstream of `first`, or of the route that has come in its place, other than those in `not`, and counts the
/// request in; waits for a place where all have as much to do as [`crate::tree::RouteSettings::max_in_flight`] lets them.
///
/// # Errors
/// 503; `None` where only those in `not` are left.
pub(super) async fn admit(
    routes: &Routes,
    first: &Arc<Route>,
    not: &[Arc<Upstream>],
) -> Result<InFlight, Option<Refusal>> {
    let mut route = Arc::clone(first);
    let mut until = None;
    let mut looks = 0;
    while looks < LOOKS {
        let limit = u64::from(route.settings.max_in_flight);
        let stand_in;
        let upstreams = match &route.state {
            RouteState::Suspended => return Err(Some(Refusal::Suspended(route.settings.maintenance.clone()))),
            RouteState::Unavailable { reason } => {
                let found = routes.stand_in(route.id.as_str());
                stand_in = [found.ok_or_else(|| Some(Refusal::Unavailable(reason.clone())))?];
                &stand_in[..]
            }
            RouteState::Serving { upstreams, .. } => upstreams,
        };
        let upstream = choose(upstreams, not).ok_or(None)?;
        // Those who stand in line come first.
        let entry = if upstream.line.waiting() == 0 { Upstream::enter(upstream, limit) } else { Entry::Full };
        match entry {
            Entry::In(in_flight) => return Ok(in_flight),
            Entry::Sealed => looks += 1,
            Entry::Full => {
                let shortest = least_loaded(upstreams, not).ok_or(None)?;
                let until = *until.get_or_insert_with(|| Instant::now() + patience());
                if let Some(in_flight) = wait(routes, &route, shortest, until).await? {
                    return Ok(in_flight);
                }
                looks += 1;
            }
        }
        // Where it was removed: to one who could just call it, that is a moment like any other when nothing is there.
        route = routes.for_caller(first.id.as_str()).ok_or_else(|| Some(gone()))?;
    }
    Err(Some(gone()))
}

fn gone() -> Refusal {
    Refusal::Unavailable("the API is being replaced or removed".to_owned())
}

/// Waits for a place at an upstream; `None` where the route has to be read again.
async fn wait(
    routes: &Routes,
    route: &Arc<Route>,
    upstream: &Arc<Upstream>,
    until: Instant,
) -> Result<Option<InFlight>, Option<Refusal>> {
    let limit = u64::from(route.settings.max_in_flight);
    // As many as are being answered: so who stands last waits about as long as an answer takes.
    let place = upstream.line.join(limit).ok_or(Some(Refusal::Overloaded))?;
    let mut may_enter = place.is_first;
    loop {
        let mut turn = pin!(place.turn());
        turn.as_mut().enable();
        if may_enter {
            match Upstream::enter(upstream, limit) {
                Entry::In(in_flight) => {
                    drop(place);
                    // More than one may have left before anybody was told.
                    if in_flight.upstream().busy() < limit {
                        upstream.line.freed();
                    }
                    return Ok(Some(in_flight));
                }
                Entry::Sealed => return Ok(None),
                Entry::Full => {}
            }
        }
        // After the wish to be told: whoever moves the route tells those who wait afterwards.
        let is_current = routes.for_caller(route.id.as_str()).is_some_and(|now| Arc::ptr_eq(&now, route));
        if !is_current || upstream.is_sealed() {
            return Ok(None);
        }
        timeout_at(until, turn).await.map_err(|_| Some(Refusal::Overloaded))?;
        may_enter = true;
    }
}

/// The less loaded of two drawn at random: nearly as even as asking all of them, without every request rushing to the
/// one that was idle a moment ago (Mitzenmacher, "The Power of Two Choices", 2001). Of those that are left aside, none,
/// unless there is no other.
fn choose<'a>(upstreams: &'a [Arc<Upstream>], not: &[Arc<Upstream>]) -> Option<&'a Arc<Upstream>> {
    if let ([only], []) = (upstreams, not) {
        return Some(only);
    }
    let left = || upstreams.iter().filter(|upstream| !not.iter().any(|not| Arc::ptr_eq(not, upstream)));
    let (first, second) = draw(left)?;
    if !first.standing.is_aside() && !second.standing.is_aside() {
        return Some(if second.load() < first.load() { second } else { first });
    }
    if let Some(on_trial) = left().find(|upstream| upstream.standing.begin_trial()) {
        return Some(on_trial);
    }
    match draw(|| left().filter(|upstream| !upstream.standing.is_aside())) {
        Some((first, second)) => Some(if second.load() < first.load() { second } else { first }),
        None => Some(first),
    }
}

/// Two at random; the same one twice where there is no other.
fn draw<'a, I: Iterator<Item = &'a Arc<Upstream>>>(
    from: impl Fn() -> I,
) -> Option<(&'a Arc<Upstream>, &'a Arc<Upstream>)> {
    let count = from().count();
    if count <= 1 {
        return from().next().map(|only| (only, only));
    }
    let first = rand::random_range(0..count);
    let second = (first + rand::random_range(1..count)) % count;
    // Both are there, unless one was put aside just now.
    let one = from().nth(first).or_else(|| from().next())?;
    Some((one, from().nth(second).unwrap_or(one)))
}

/// The one with the least to do, those in line included.
fn least_loaded<'a>(upstreams: &'a [Arc<Upstream>], not: &[Arc<Upstream>]) -> Option<&'a Arc<Upstream>> {
    let left = upstreams.iter().filter(|upstream| !not.iter().any(|not| Arc::ptr_eq(not, upstream)));
    left.min_by_key(|upstream| upstream.load())
}
