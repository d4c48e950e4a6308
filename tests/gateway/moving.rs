//! Moving: routes change, instances drain and go, and no request is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skep::gateway::{RouteState, Routes, Upstream};
use skep::tree::{ApiId, Revision};

use crate::world::{World, app, route, text, upstream};

fn serving(upstream: &Arc<Upstream>) -> RouteState {
    RouteState::Serving { revision: Revision::from_label("r"), upstreams: vec![Arc::clone(upstream)] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_a_route_moves_and_old_instances_end() {
    let world = Arc::new(World::new().await);
    // Each instance answers until it is removed; from then on a request that reaches it is a lost one.
    let instance = async || {
        let removed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&removed);
        let address = app(move |_| {
            let seen = Arc::clone(&seen);
            async move {
                tokio::task::yield_now().await;
                text(if seen.load(Ordering::SeqCst) { "lost" } else { "ok" })
            }
        })
        .await;
        (upstream(&address), removed)
    };
    let (mut current, mut removed) = instance().await;
    world.route_to("hello", serving(&current), |_| ());
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut client = world.client().await;
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let reply = client.ask(world.head("GET /run/hello", "")).await;
                    assert_eq!((reply.status, reply.text()), (200, "ok"));
                    count += 1;
                }
                count
            })
        })
        .collect();
    let began = Instant::now();
    let mut moves = 0;
    while began.elapsed() < Duration::from_secs(2) {
        let (next, next_removed) = instance().await;
        world.route_to("hello", serving(&next), |_| ());
        while !current.try_seal() {
            tokio::task::yield_now().await;
        }
        removed.store(true, Ordering::SeqCst);
        (current, removed) = (next, next_removed);
        moves += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap();
    }
    assert!(moves > 10 && answered > 100, "{moves} moves, {answered} answers");
}

#[test]
fn nothing_begins_on_an_upstream_after_its_seal() {
    let id = ApiId::new("hello").unwrap();
    let routes = Arc::new(Routes::default());
    let address = "127.0.0.1:1".parse().unwrap();
    let mut current = upstream(&address);
    routes.set(&id, Some(route(id.clone(), serving(&current), |_| ())));
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (routes, stop, begun) = (Arc::clone(&routes), Arc::clone(&stop), Arc::clone(&begun));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let route = routes.get("hello").unwrap();
                    let RouteState::Serving { upstreams, .. } = &route.state else { unreachable!() };
                    // The window in which a plain count would be read as zero.
                    std::thread::yield_now();
                    if let Some(in_flight) = Upstream::begin(&upstreams[0]) {
                        begun.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        assert!(!in_flight.upstream().is_sealed(), "sealed while a request was on it");
                    }
                }
            })
        })
        .collect();
    for _ in 0..3000 {
        let next = upstream(&address);
        routes.set(&id, Some(route(id.clone(), serving(&next), |_| ())));
        while !current.try_seal() {
            std::thread::yield_now();
        }
        assert_eq!(current.in_flight(), 0);
        assert!(Upstream::begin(&current).is_none());
        current = next;
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(begun.load(Ordering::Relaxed) > 0);
}

#[test]
fn an_upstream_is_found_again_for_as_long_as_anything_could_be_on_it() {
    let id = ApiId::new("hello").unwrap();
    let routes = Routes::default();
    let old = upstream(&"127.0.0.1:1".parse().unwrap());
    let container = Arc::clone(&old.container);
    assert!(routes.upstream(&id, &container).is_none());
    routes.set(&id, Some(route(id.clone(), serving(&old), |_| ())));
    let in_flight = Upstream::begin(&old).unwrap();
    routes.set(&id, Some(route(id.clone(), RouteState::Suspended, |_| ())));
    drop(old);
    assert_eq!(routes.upstream(&id, &container).unwrap().in_flight(), 1);
    drop(in_flight);
    assert!(routes.upstream(&id, &container).is_none());
}

#[test]
fn a_closed_upstream_takes_nothing_and_still_counts_what_is_on_it() {
    let upstream = upstream(&"127.0.0.1:1".parse().unwrap());
    let in_flight = Upstream::begin(&upstream).unwrap();
    upstream.close();
    assert!(Upstream::begin(&upstream).is_none());
    assert_eq!(upstream.in_flight(), 1);
    assert!(!upstream.try_seal());
    drop(in_flight);
    assert!(upstream.try_seal());
}

#[test]
fn the_table_lists_all_routes_and_a_change_of_one_leaves_the_others() {
    let routes = Routes::default();
    let ids: Vec<_> = (0..500).map(|n| ApiId::new(&format!("api-{n}")).unwrap()).collect();
    for id in &ids {
        routes.set(id, Some(route(id.clone(), RouteState::Suspended, |_| ())));
    }
    routes.set(&ids[7], None);
    let table = routes.table();
    assert_eq!(table.len(), 499);
    assert!(!table.contains_key(&ids[7]) && routes.seen(&ids[7]).is_none());
    assert!(ids.iter().filter(|id| **id != ids[7]).all(|id| routes.get(id.as_str()).is_some()));
}

#[tokio::test]
async fn requests_go_to_all_replicas() {
    let world = World::new().await;
    let counts = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let mut addresses = Vec::new();
    for count in &counts {
        let count = Arc::clone(count);
        addresses.push(
            app(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                std::future::ready(text("ok"))
            })
            .await,
        );
    }
    world.route("hello", &addresses, |_| ());
    let mut client = world.client().await;
    for _ in 0..150 {
        assert_eq!(client.ask(world.head("GET /run/hello", "")).await.status, 200);
    }
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) > 10), "{counts:?}");
}
