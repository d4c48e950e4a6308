//! Wishes are what whoever pushes asks for besides, with `git push -o`.

use anyhow::bail;
use clap::ValueEnum;

use crate::report::style::plain;

/// What whoever pushes has asked for besides, with `git push -o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wish {
    /// Only the plan.
    DryRun,
    /// No progress, and no word on how it ended.
    Nowait,
    /// APIs may go, however many they are.
    AllowDeletes,
    /// What somebody changed by hand may go.
    Overwrite,
}

/// All that is asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Wishes(Vec<Wish>);

impl Wishes {
    pub(super) fn of_environment() -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let count = variable("GIT_PUSH_OPTION_COUNT").and_then(|count| count.parse::<u16>().ok()).unwrap_or(0);
        Self::read((0..count).filter_map(|n| variable(&format!("GIT_PUSH_OPTION_{n}"))).collect())
    }

    pub(super) fn read(options: Vec<String>) -> anyhow::Result<Self> {
        let wish = |option: String| {
            let known = || "there are dry-run, nowait, allow-deletes and overwrite, and no such option";
            Wish::from_str(&option, false).map_err(|_| anyhow::anyhow!("-o {}: {}", plain(&option), known()))
        };
        let wishes = options.into_iter().map(wish).collect::<anyhow::Result<Vec<_>>>()?;
        if wishes.contains(&Wish::Nowait) && wishes.contains(&Wish::AllowDeletes) {
            bail!("-o nowait and -o allow-deletes: only one of them; what goes is waited for");
        }
        Ok(Self(wishes))
    }

    pub(super) fn has(&self, wish: Wish) -> bool {
        self.0.contains(&wish)
    }
}
