//! Usage is what callers have asked of each API: counted by the gateway, summed up in memory, written down twice a second.
//!
//! A request becomes part of a sum the moment it ends, so memory is bounded by how many sums there are and not by how
//! many requests. What the sums are is in `tally`; `counter` is where the gateway counts, and `writer` what hands the
//! sums to the records so that none is lost or added twice.

mod counter;
mod spread;
mod tally;
mod writer;

pub use counter::{Counter, Finished};
pub use spread::Spread;
pub use tally::{
    Counted, Fold, Grain, Group, KeyName, Slot, Tally, UsageBatch, UsageBy, UsageQuery, UsageRow, UsedBy, since,
};
pub use writer::Writer;
