//! The whole of skep: the real program on a real engine, asked over real sockets, as its users would.
//!
//! Each scenario has a [`World`](world::World) of its own: a folder, a state folder, a port, and with them an owner of
//! its own on the engine. All of it goes with the world, whether the test ends well or not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

mod apps;
mod callers;
mod ear;
mod engine;
mod forge;
mod holds;
mod http;
#[path = "../servers/pool.rs"]
mod pool;
#[path = "../servers/proxy.rs"]
mod proxy;
#[path = "../servers/postgres.rs"]
mod server;
mod ssh;
mod websocket;
mod world;

mod admin;
mod adopt;
mod applying;
mod booting;
mod commands;
mod crowds;
mod daemons;
mod databases;
mod deletes;
mod doctor;
mod explaining;
mod framing;
mod gateway;
mod healing;
mod in_container;
mod keys;
mod locks;
mod manners;
mod outages;
mod own_apis;
mod planning;
mod previews;
mod proxied;
mod pull;
mod pull_access;
mod pull_now;
mod push;
mod replicas;
mod secrets;
mod serving;
mod settings;
mod telemetry;
mod telling;
mod tree;
mod trouble;
mod upgrade;
mod usage;
mod watching;
