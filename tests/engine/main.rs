//! The real engine, end to end: images made, instances started, watched and removed, and kept from what is not theirs.
//!
//! Everything here belongs to an owner of its own, made up for this run, and is taken away when the last test ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

mod hardening;
mod images;
mod instances;
mod locks;
mod networks;
mod secrets;
mod telling;
mod versions;
mod world;
