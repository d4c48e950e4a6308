//! Standing in: where a route leads nowhere, a container of the system before may answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use skep::gateway::{RouteState, StandIn, Upstream};
use skep::tree::{ApiId, Auth, Spec};
use tokio::sync::Notify;

use crate::world::{World, app, eventually, route, text, upstream};

fn unavailable() -> RouteState {
    RouteState::Unavailable { reason: "not ready".to_owned() }
}

/// Has the app at that address stand in for `hello`, with settings changed by `change`.
fn stand_in(world: &World, at: &SocketAddr, change: impl FnOnce(&mut Spec)) -> Arc<Upstream> {
    let (id, upstream) = (ApiId::new("hello").unwrap(), upstream(at));
    let route = Arc::new(route(id.clone(), unavailable(), change));
    world.routes.set_stand_ins(HashMap::from([(id, StandIn { route, upstream: Arc::clone(&upstream) })]));
    upstream
}

/// An app that says `old` once it is let go on.
async fn held_app() -> (SocketAddr, Arc<Notify>) {
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let address = app(move |_| {
        let told = Arc::clone(&told);
        async move {
            told.notified().await;
            text("old")
        }
    })
    .await;
    (address, go_on)
}

async fn ask(world: &World) -> (u16, String) {
    let reply = world.client().await.ask(world.head("GET /run/hello", "")).await;
    (reply.status, reply.text().to_owned())
}

#[tokio::test]
async fn a_stand_in_answers_from_before_there_is_a_route_until_one_serves() {
    let world = World::new().await;
    let (old, new) = (app(async |_| text("old")).await, app(async |_| text("new")).await);
    assert_eq!(ask(&world).await.0, 401);
    stand_in(&world, &old, |_| ());
    assert_eq!(ask(&world).await, (200, "old".to_owned()));
    world.route_to("hello", unavailable(), |_| ());
    assert_eq!(ask(&world).await, (200, "old".to_owned()));
    world.route("hello", &[new], |_| ());
    assert_eq!(ask(&world).await, (200, "new".to_owned()));
    // Where ours is lost it answers again, until it is dismissed.
    world.route_to("hello", unavailable(), |_| ());
    assert_eq!(ask(&world).await, (200, "old".to_owned()));
    assert!(world.routes.dismiss_stand_in(&ApiId::new("hello").unwrap()).is_some());
    assert_eq!(ask(&world).await.0, 503);
}

#[tokio::test]
async fn nobody_stands_in_for_what_is_suspended() {
    let world = World::new().await;
    stand_in(&world, &app(async |_| text("old")).await, |_| ());
    world.route_to("hello", RouteState::Suspended, |_| ());
    assert_eq!(ask(&world).await.0, 503);
}

#[tokio::test]
async fn keys_are_asked_for_as_the_route_says_and_without_one_as_the_stand_in_came() {
    let world = World::new().await;
    let old = app(async |_| text("old")).await;
    let without_key = async || world.client().await.ask("GET /run/hello HTTP/1.1\r\nHost: a\r\n\r\n").await.status;
    stand_in(&world, &old, |_| ());
    assert_eq!(without_key().await, 401);
    world.route_to("hello", unavailable(), |spec| spec.route.auth = Auth::None);
    assert_eq!(without_key().await, 200);
    world.routes.set(&ApiId::new("hello").unwrap(), None);
    assert_eq!(without_key().await, 401);
}

#[tokio::test]
async fn what_has_begun_at_a_stand_in_ends_there_and_who_waits_for_it_gets_the_new_route() {
    let world = Arc::new(World::new().await);
    let (old, go_on) = held_app().await;
    let new = app(async |_| text("new")).await;
    let upstream = stand_in(&world, &old, |_| ());
    let one_at_a_time = |spec: &mut Spec| spec.route.max_in_flight = 1;
    world.route_to("hello", unavailable(), one_at_a_time);
    let caller = || {
        let world = Arc::clone(&world);
        tokio::spawn(async move { ask(&world).await })
    };
    let begun = caller();
    eventually(|| upstream.in_flight() == 1).await;
    let waiting = caller();
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.route("hello", &[new], one_at_a_time);
    assert_eq!(waiting.await.unwrap(), (200, "new".to_owned()));
    assert!(!upstream.try_seal(), "what has begun is still on it");
    go_on.notify_one();
    assert_eq!(begun.await.unwrap(), (200, "old".to_owned()));
    eventually(|| upstream.try_seal()).await;
}
