//! Hostile code: what an API can reach from inside its container, and what its neighbours notice of what it does.
//!
//! Needs root, as skep's own firewall does: hosts of its own are played in a network namespace of this host, and nothing
//! that is tried here leaves it but what is meant to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

#[allow(dead_code, reason = "shared with the scenarios of `e2e`, of which this uses a part")]
#[path = "../e2e/engine.rs"]
mod engine;
#[allow(dead_code, reason = "shared with the scenarios of `e2e`, of which this uses a part")]
#[path = "../e2e/http.rs"]
mod http;
#[allow(dead_code, reason = "shared with the scenarios of `e2e`, of which this uses a part")]
#[path = "../e2e/world.rs"]
mod world;

mod bombs;
mod cloud;
mod flood;
mod installs;
mod matrix;
mod neighbours;
mod reach;
mod scene;
mod targets;
mod yielding;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests go one after the other: each measures a host that it has to itself, and its firewall.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
