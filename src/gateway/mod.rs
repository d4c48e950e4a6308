//! The gateway is what callers see: it checks keys and limits, and forwards requests to instances.
//!
//! It reads only its own snapshot (routes and keys) and goes on serving with the engine, the database and git all down.

pub mod route;

pub use route::{Route, RouteState, Routes, Upstream};
