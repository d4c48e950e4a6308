//! Away is what cannot be done with the records now, and why.

use jiff::{Timestamp, Unit};

/// What cannot be done with the records now, and why. Its text is for people: what it means for callers, deploys and usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Since when.
    pub since: Timestamp,
    /// What the database said, or the way to it; empty where whoever reads it is not to know.
    pub cause: String,
    /// Nothing can be read: all else waits, too.
    pub reads: bool,
    /// What reconciling changes cannot be written.
    pub rows: bool,
    /// What was counted cannot be written.
    pub usage: bool,
}

impl Away {
    /// The database takes longer over an answer than whoever asks for the state of things can wait.
    #[must_use]
    pub fn silent(since: Timestamp) -> Self {
        Self { since, cause: "it does not answer in time".to_owned(), reads: true, rows: true, usage: true }
    }

    /// The same for everybody's eyes.
    #[must_use]
    pub fn without_cause(self) -> Self {
        Self { cause: String::new(), ..self }
    }
}

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.reads { "cannot be used" } else { "takes no writes" };
        let since = self.since.round(Unit::Second).unwrap_or(self.since);
        write!(f, "the database {what} since {since}")?;
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        f.write_str("; callers with known keys are served")?;
        if self.reads || self.rows {
            f.write_str("; deploys wait")?;
        }
        if self.reads || self.usage {
            f.write_str("; what is counted waits in memory")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_waits_and_what_does_not() {
        let since = Timestamp::new(1_700_000_000, 123).unwrap();
        let away = Away { since, cause: "its disk is full".to_owned(), reads: false, rows: true, usage: false };
        assert_eq!(
            away.to_string(),
            "the database takes no writes since 2023-11-14T22:13:20Z: its disk is full; callers with known keys are served; \
             deploys wait"
        );
        assert!(!away.without_cause().to_string().contains("disk"));
        assert!(Away::silent(since).to_string().ends_with("deploys wait; what is counted waits in memory"));
    }
}
