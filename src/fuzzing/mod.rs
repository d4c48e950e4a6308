//! Fuzzing says what must be true of any bytes whatever that reach a reader of ours. A broken promise is a panic.
//!
//! `fuzz/` feeds these functions with what libFuzzer thinks of, and the tests below with what it has kept. Compiled
//! for these two alone.

mod contract;
mod findings;
mod id;
mod python;
mod requirements;
mod settings;
mod written;

pub use crate::gateway::fuzzing::{answer, headers, path, requests};
pub use contract::contract;
pub use id::id;
pub use python::python;
pub use requirements::requirements;
pub use settings::{api_yaml, skep_yaml};

/// Shows one input to one of the readers.
pub type Target = fn(&[u8]);

/// All of them, by the name of their folder below `fuzz/corpus/`.
pub const TARGETS: [(&str, Target); 10] = [
    ("id", id),
    ("api_yaml", api_yaml),
    ("skep_yaml", skep_yaml),
    ("requirements", requirements),
    ("python", python),
    ("headers", headers),
    ("path", path),
    ("contract", contract),
    ("answer", answer),
    ("requests", requests),
];

#[cfg(test)]
mod tests;
