//! Reconciling: compare what should be with what is, name one step, do it, look again.

pub mod action;
mod aims;
pub mod assume;
pub mod backoff;
mod beside;
pub mod between;
pub mod build_log;
pub mod cleanup;
pub mod clock;
pub mod controller;
mod counting;
pub mod desired;
pub mod follow;
pub mod following;
pub mod found;
pub mod goals;
pub mod leadership;
pub mod look;
pub mod model;
mod opening;
mod origin;
pub mod perform;
pub mod plan;
pub mod prober;
pub mod readings;
pub mod routing;
pub mod stand_in;
pub mod status;
pub mod step;
pub mod turn;
mod writing;

pub use controller::{Controller, Rest};
pub use desired::{Basis, Desired, Goal, Target};
pub use readings::Readings;
pub use step::{Action, Next, Step, step};
pub use turn::{News, Outcome, TurnError, World};
