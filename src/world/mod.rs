//! The world is what is: instances, records and the route that callers get, seen at one moment.

pub mod edit;
pub mod hold;
pub mod instance;
pub mod observed;
pub mod predecessor;
pub mod record;

pub use edit::Edit;
pub use hold::Hold;
pub use instance::{Instance, InstanceName, Readiness, Run};
pub use observed::{Answer, Observed, RouteSeen};
pub use predecessor::{Predecessor, PredecessorState};
pub use record::{Failure, FailureKind, Origin, Record, Served};
