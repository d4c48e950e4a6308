//! The world is what is: instances, records and the route that callers get, seen at one moment.

pub mod hold;
pub mod instance;
pub mod observed;
pub mod predecessor;
pub mod record;

pub use hold::Hold;
pub use instance::{Instance, InstanceName, Readiness, Run};
pub use observed::{Answer, Observed, RouteSeen};
pub use predecessor::{Predecessor, PredecessorState};
pub use record::{Failure, FailureKind, Record, Served};
