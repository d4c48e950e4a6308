//! YAML read into nodes that know where they stand, and nodes decoded into types with every finding kept.
//!
//! Serde alone stops at the first error. Here a decode that fails notes the finding, leaves out the entry that caused
//! it, and decodes again; since every setting is optional, what is left always decodes. So one run of a check names
//! all that is wrong with a file.

mod at;
mod decode;
mod error;
mod node;
mod parse;

pub use at::At;
pub use decode::{AsWritten, decode};
pub use node::{Entry, Node, Value};
pub use parse::parse;
