//! skep turns a git tree of small Python HTTP APIs into running, routed services, and keeps them so.
//!
//! The flow, in the order of the modules:
//!
//! 1. [`settings`] reads `skep.yaml` and the environment, [`installation`] the folder of this host; [`tree`] reads `apis/<id>/`: what should be.
//! 2. [`world`] holds what is: instances, records, the route that callers get.
//! 3. [`reconcile`] compares the two and names the next step; it also performs it and looks again.
//! 4. [`engine`] runs containers; [`records`] remembers; [`gateway`] serves callers, and [`usage`] is what they ask of it.
//! 5. [`git`] knows who changed what, [`pull`] brings in what others commit elsewhere, [`previews`] what they would change; [`admin`] and [`report`] tell people what is going on.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// A request through the gateway takes and gives back memory some forty times, which glibc's allocator makes twice as
/// much of; musl's, of a static binary, far more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod contract;
pub mod doctor;
pub mod git;
pub mod installation;
pub mod lend;
pub mod metrics;
pub mod secrets;
pub mod settings;
pub mod telemetry;
pub mod tree;
pub mod web;

pub mod world;

pub mod reconcile;

pub mod engine;
pub mod records;

pub mod usage;

pub mod gateway;

pub mod callers;

pub mod import;

pub mod previews;
pub mod pull;

pub mod admin;
pub mod report;

pub mod tell;

pub mod cli;

#[cfg(any(fuzzing, test))]
#[doc(hidden)]
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::naive_bytecount,
    reason = "to panic is what these functions are for"
)]
pub mod fuzzing;
