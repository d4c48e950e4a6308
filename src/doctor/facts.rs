//! Facts are what was seen of the host itself, beside what the engine says; and how it is said that something was not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::certificates::Certificate;
use crate::engine::docker::examine::{Holdings, Removed};
use crate::installation::Holder;
use crate::records::postgres;
use crate::records::sqlite::examine::Condition;

/// What a look brought, or why it brought nothing.
pub type Found<T> = Result<T, Blank>;

/// Why a look brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blank {
    /// It failed; the text says why.
    Failed(String),
    /// It had not ended when its time was over.
    Late(Duration),
    /// It was not tried, since something that it needs is not there; the text says what.
    Skipped(&'static str),
}

impl std::fmt::Display for Blank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::Late(limit) => write!(f, "no answer within {limit:?}"),
            Self::Skipped(why) => write!(f, "not looked at, since {why}"),
        }
    }
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The folder that was asked about.
    pub path: PathBuf,
    /// Of the file system, so that two folders on one are told as one.
    pub device: u64,
    /// Bytes that are left for those who are not root.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
    /// Inodes that are left; a file or folder takes one.
    pub free_inodes: u64,
    /// Inodes in all; 0 where the file system makes them as they are needed.
    pub inodes: u64,
    /// Nothing can be written.
    pub is_read_only: bool,
}

/// The certificates that the settings send into builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bundle {
    /// `auto`, and the host has a bundle.
    Host {
        /// Where.
        path: PathBuf,
        /// How many certificates are in it.
        count: usize,
    },
    /// `auto`, and the host has none.
    NoHost,
    /// `none`.
    Image,
    /// A file of the house.
    File {
        /// Where.
        path: PathBuf,
        /// What is in it.
        certificates: Vec<Result<Certificate, String>>,
    },
    /// A file that cannot be read.
    Unreadable {
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
}

/// The state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is none yet.
    None(PathBuf),
    /// There is one, without records.
    WithoutRecords(PathBuf),
    /// There are records.
    Records(PathBuf, Condition),
    /// They are in a Postgres. And the mark of this installation.
    Database(Box<postgres::examine::Condition>, Option<String>),
    /// They are in a Postgres, which cannot be used.
    Away(String),
}

/// Who is at work on this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Daemon {
    /// Nobody.
    None,
    /// This process; `answers` says whether its gateway does, where it has one.
    AtWork {
        /// Who.
        holder: Holder,
        /// `None` where there is nothing to ask.
        answers: Option<Result<(), String>>,
    },
}

/// The address that the gateway listens on, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// It could be listened on.
    Free(SocketAddr),
    /// Our own daemon does.
    Ours(SocketAddr),
    /// Somebody else does.
    Taken(SocketAddr),
    /// The system does not let us.
    Refused(SocketAddr, String),
}

/// What installations have on the engine, and which one is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosted {
    /// Our owner mark; `None` where there is no installation yet.
    pub owner: Option<String>,
    /// All that there is.
    pub holdings: Holdings,
    /// The ids that the tree or the records know; `None` where either cannot be read.
    pub apis: Option<Vec<String>>,
    /// The image tags that those need; `None` where either cannot be read.
    pub tags: Option<Vec<String>>,
    /// Our two networks, by name.
    pub networks: Vec<String>,
    /// What `--fix` removed just before.
    pub removed: Option<Removed>,
}
