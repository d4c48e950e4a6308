//! A scene is a site with one API that things happen to, one that nobody touches, and callers of the latter.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Arena;
use super::load::Callers;
use super::site::{STEADY, Site, Wanted};
use super::table::Row;

/// The API that things happen to.
pub const APP: &str = "app";

/// How long the world may take to come to rest. Far more than the aim: the table says how long it took.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Scene {
    pub site: Site,
    pub wanted: Wanted,
    pub callers: Callers,
    round: usize,
    begun: Instant,
}

impl Scene {
    pub async fn open(arena: &Arena) -> anyhow::Result<Self> {
        Self::open_with(arena, |_| Ok(())).await
    }

    /// As [`Scene::open`], with a site that is changed before its daemon starts.
    pub async fn open_with(
        arena: &Arena,
        change: impl FnOnce(&mut Site) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut site = arena.site().await?;
        site.code(APP, "0")?;
        change(&mut site)?;
        let answers = |id: &str, text: &str| (id.to_owned(), (text.to_owned(), 1));
        let wanted = Wanted::from([answers(STEADY, STEADY), answers(APP, "0")]);
        site.serve().await?;
        site.settled(&wanted, PATIENCE).await.with_context(|| site.story())?;
        let callers = Callers::start(site.address, &format!("/run/{STEADY}/"), STEADY);
        Ok(Self { site, wanted, callers, round: 0, begun: Instant::now() })
    }

    /// New code. Gives what it answers.
    pub fn change(&mut self) -> anyhow::Result<String> {
        self.round += 1;
        let text = self.round.to_string();
        self.site.code(APP, &text)?;
        self.wanted.insert(APP.to_owned(), (text.clone(), 1));
        Ok(text)
    }

    /// From here on requests are counted for the next row.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
    }

    /// Waits for rest, and writes down how long that took since `from`. The callers of the other API must not notice.
    pub async fn settle(&self, arena: &Arena, row: &mut Row, from: Instant) -> anyhow::Result<()> {
        self.settle_with(arena, row, from).await?;
        let failed = self.callers.failed_since(self.begun);
        if let Some(first) = failed.first() {
            row.wrong.push(format!("{} requests to another API failed: {}", failed.len(), first.what));
        }
        row.failed += failed.len();
        Ok(())
    }

    /// As [`Scene::settle`], where callers cannot but notice.
    pub async fn settle_excused(&self, arena: &Arena, row: &mut Row, from: Instant) -> anyhow::Result<()> {
        self.settle_with(arena, row, from).await?;
        row.excused += self.callers.failed_since(self.begun).len();
        Ok(())
    }

    async fn settle_with(&self, arena: &Arena, row: &mut Row, from: Instant) -> anyhow::Result<()> {
        match self.site.settled(&self.wanted, PATIENCE).await {
            Ok((at, _)) => row.good(at.saturating_duration_since(from)),
            Err(error) => {
                let file = arena.tell(&row.fault, &format!("{error:#}\n{}", self.site.story()))?;
                row.bad(format!("{error:#} ({})", file.display()));
            }
        }
        row.requests += self.callers.count_since(self.begun);
        arena.say(&format!("{}: {}", row.fault, row.wrong.last().map_or("good", String::as_str)));
        Ok(())
    }

    /// How many events the records hold.
    pub fn last_event(&self) -> anyhow::Result<i64> {
        let records = self.site.records()?;
        Ok(records.query_row("SELECT coalesce(max(number), 0) FROM events", [], |row| row.get(0))?)
    }

    /// The first event after that one: its time since `from`, and what it says.
    pub fn event_after(&self, number: i64, from: std::time::SystemTime) -> anyhow::Result<Option<(f64, String)>> {
        let records = self.site.records()?;
        let mut query = records
            .prepare("SELECT at, kind || ': ' || message FROM events WHERE number > ? ORDER BY number LIMIT 1")?;
        let mut rows = query.query([number])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (at, said): (String, String) = (row.get(0)?, row.get(1)?);
        let from = jiff::Timestamp::try_from(from)?;
        Ok(Some((at.parse::<jiff::Timestamp>()?.duration_since(from).as_secs_f64(), said)))
    }

    pub async fn close(self) -> anyhow::Result<()> {
        drop(self.callers);
        self.site.close().await
    }
}
