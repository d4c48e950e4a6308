//! Reconciling: compare what should be with what is, name one step, do it, look again.

pub mod backoff;
pub mod desired;
pub mod goals;
pub mod model;
pub mod plan;
pub mod status;
pub mod step;

pub use desired::{Basis, Desired, Goal, Target};
pub use step::{Action, Next, Step, step};
