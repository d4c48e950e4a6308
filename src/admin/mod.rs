//! The control surface: what people and programs ask of a running daemon.
//!
//! Everything below `/admin/` wants `Authorization: Bearer <admin key>`.

mod adopt;
mod apply;
mod body;
mod call;
pub mod client;
mod deployments;
mod exchange;
mod fault;
mod front;
mod health;
mod holds;
mod hooks;
mod keys;
mod openapi;
mod opening;
mod places;
pub mod push;
mod streams;
pub mod surface;
pub mod trial;
mod usage;
pub mod versions;
pub mod whole;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use surface::Surface;

use crate::reconcile::{News, Rest};
use crate::tree::ApiId;

/// One line of the answer to `POST /admin/apply`, which is JSON, a value a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApplyLine {
    /// What is going on with an API.
    News(News),
    /// The last line: how each API that had something to do has come to rest.
    Done(BTreeMap<ApiId, Rest>),
    /// The last line: why nothing could be done.
    Failed(String),
}
