//! The gateway on real sockets, between clients and apps that behave, and some that do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]
#![allow(clippy::large_stack_arrays, reason = "bodies that are made of one byte, many times")]

#[path = "gateway/client.rs"]
mod client;
#[path = "gateway/world.rs"]
mod world;

#[path = "gateway/admission.rs"]
mod admission;
#[path = "gateway/answers.rs"]
mod answers;
#[path = "gateway/balance.rs"]
mod balance;
#[path = "gateway/bodies.rs"]
mod bodies;
#[path = "gateway/compression.rs"]
mod compression;
#[path = "gateway/failures.rs"]
mod failures;
#[path = "gateway/floods.rs"]
mod floods;
#[path = "gateway/halves.rs"]
mod halves;
#[path = "gateway/manners.rs"]
mod manners;
#[path = "gateway/moving.rs"]
mod moving;
#[path = "gateway/requests.rs"]
mod requests;
#[path = "gateway/rests.rs"]
mod rests;
#[path = "gateway/stand_ins.rs"]
mod stand_ins;
#[path = "gateway/times.rs"]
mod times;
#[path = "gateway/tokens.rs"]
mod tokens;
#[path = "gateway/tunnels.rs"]
mod tunnels;
#[path = "gateway/usage.rs"]
mod usage;
#[path = "gateway/versions.rs"]
mod versions;
