//! What the benchmarks share: a site to measure on, a client, and figures.

#![allow(dead_code, reason = "each benchmark is a program of its own and uses its part of this")]

pub mod checkout;
pub mod child;
pub mod deploy;
pub mod figures;
pub mod http;
pub mod many;
pub mod process;
pub mod site;
