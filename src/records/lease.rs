//! A lease says which of several daemons of one installation reconciles; its epoch fences off the others.

/// Who reconciles, as the records have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Goes up by one whenever another daemon takes over. Writes that carry an older one are refused.
    pub epoch: u64,
    /// Which daemon; `None` where the last one gave it back.
    pub holder: Option<String>,
    /// Goes up with every sign of life. Whoever sees it stand still for long enough, by a clock of its own, may take
    /// over: the clocks of two hosts are never compared.
    pub beat: u64,
}

/// What is kept when old records are thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// How many revisions of each API that have served, the latest first.
    pub revisions: usize,
    /// Events later than this.
    pub events_since: jiff::Timestamp,
    /// Files that nothing refers to, where they were asked for later than this: they may be about to serve.
    pub blobs_since: jiff::Timestamp,
}

/// How much was thrown away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Revisions.
    pub revisions: usize,
    /// Events.
    pub events: usize,
    /// Files.
    pub blobs: usize,
}
