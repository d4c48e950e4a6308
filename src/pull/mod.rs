//! Pulling follows remote repositories: what they have anew is fetched, checked, and put into the tree.
//!
//! Whatever happens to a remote, what was placed last stays, and goes on being served: nothing here takes a folder away
//! that no commit took away.

pub mod asked;
mod hands;
pub mod offers;
pub mod pick;
mod previewing;
pub mod pulls;
pub mod source;
pub mod status;
pub mod told;
mod turn;
mod vouch;
pub mod webhook;

pub use asked::Asked;
pub use pulls::Pulls;
pub use source::Source;
pub use status::SourceStatus;
