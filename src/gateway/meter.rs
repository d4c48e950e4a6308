//! A meter breaks off an answer that is next to nothing but framing: what an app can send for ever without sending anything.
//!
//! Interim answers without end, a chunk whose length is noughts without end, chunks of a byte each: all of it is HTTP,
//! costs an app nothing, and keeps a core of the gateway busy for as long as it comes. So what is read is held against
//! what came of it.

use std::io;
use std::time::Instant;

/// Bytes that may be read for each byte of a body. A chunk has some five more than its content, and an event that is
/// worth a chunk has more than two.
const READ_FOR_ONE: u64 = 4;

/// Bytes that may be read besides: the head of an answer, and what is read ahead of the caller, twice over.
const BESIDES: u64 = 4 * super::pool::READ_AHEAD as u64;

/// Bytes that may be read besides in each second that an answer lasts, for those that trickle for hours.
const BESIDES_A_SECOND: u64 = 16 * 1024;

/// What was read of one answer, and what came of it.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Instant,
    read: u64,
    used: u64,
}

impl Meter {
    /// For an answer to a request that is sent now.
    pub(super) fn begin(begun: Instant) -> Self {
        Self { begun, read: 0, used: 0 }
    }

    /// A part of a body has come of what was read.
    pub(super) fn used(&mut self, bytes: usize) {
        self.used += bytes as u64;
    }

    /// So much has been read.
    ///
    /// # Errors
    /// Where too little has come of it.
    pub(super) fn read(&mut self, bytes: usize) -> io::Result<()> {
        self.read += bytes as u64;
        let allowed = READ_FOR_ONE * self.used + BESIDES;
        if self.read > allowed && self.read > allowed + BESIDES_A_SECOND * self.begun.elapsed().as_secs() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is next to nothing but framing"));
        }
        Ok(())
    }

    /// Whether anything has been read.
    pub(super) fn has_read(&self) -> bool {
        self.read > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_be_long_and_may_not_be_all_framing() {
        let mut meter = Meter::begin(Instant::now());
        for _ in 0..1000 {
            meter.read(70_000).unwrap();
            meter.used(65_536);
        }
        let mut meter = Meter::begin(Instant::now());
        // One byte in chunks of six.
        let cut = (0..1_000_000).position(|_| {
            meter.used(1);
            meter.read(6).is_err()
        });
        assert!(cut.is_some_and(|at| at > 100_000), "{cut:?}");
    }
}
