//! Reconciling: compare what should be with what is, name one step, do it, look again.

pub mod prober;
pub mod status;
