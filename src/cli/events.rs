//! `skep events`: what happened.

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};

use super::Output;
use super::context::Context;
use crate::records::{Event, Records, RecordsError};
use crate::report::style::{BOLD, FAINT, NAME, paint, plain};
use crate::tree::{ApiId, Revision};
use crate::usage::since;

/// How many events are shown where nobody says how many, or since when.
const FEW: usize = 50;

/// How many events are read at once.
const AT_ONCE: usize = 1000;

/// How much later an earlier event may have its number: one that could not be written is tried again for ten minutes, and clocks of
/// several hosts are apart.
const APART: SignedDuration = SignedDuration::from_mins(15);

/// Arguments of `skep events`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skep events\n  skep events thumbnails -n 20\n  skep events --since 2h\n  skep events --output json"
)]
pub struct Args {
    /// Only of this API.
    id: Option<ApiId>,

    /// How many of the last events; 50 where neither this nor `--since` says something else.
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<usize>,

    /// From when on: a span, as in 24h, or a moment, as in 2027-01-31.
    #[arg(long, value_name = "SPAN|DAY", value_parser = |text: &str| since(text, Timestamp::now()))]
    since: Option<Timestamp>,

    /// How to print them; JSON is one event a line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep events`.
///
/// # Errors
/// Where the records cannot be read.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let records = Context::open_in_spite(root)?.records().await?;
    let Some(since) = args.since else {
        for event in records.last_events(args.id.as_ref(), args.count.unwrap_or(FEW)).await? {
            print(event, args.output)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let mut last = VecDeque::new();
    let mut after = before(&*records, args.id.as_ref(), since).await?;
    loop {
        let events = records.events(args.id.as_ref(), after, AT_ONCE).await?;
        let Some(end) = events.last() else { break };
        after = end.number;
        for event in events.into_iter().filter(|event| event.event.at >= since) {
            match args.count {
                None => print(event, args.output)?,
                Some(count) => {
                    last.push_back(event);
                    last.drain(..last.len().saturating_sub(count));
                }
            }
        }
    }
    for event in last {
        print(event, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(event: Event, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => anstream::println!("{}", serde_json::to_string(&event)?),
        Output::Text => {
            let event = event.event;
            let api = event.api.map_or_else(|| "-".to_owned(), |api| api.to_string());
            let revision = event.revision.as_ref().map_or("", Revision::as_str);
            let (at, api) = (paint(format!("{:.0}", event.at), FAINT), paint(format!("{api:<16}"), NAME));
            let kind = paint(format!("{:<10}", plain(&event.kind)), BOLD);
            anstream::println!("{at}  {api}  {kind}  {revision:<12}  {}", plain(&event.message));
        }
    }
    Ok(())
}

/// A number that all events are above which are not older than that. Numbers go up with time, so a few questions find it among
/// any number of events.
async fn before(records: &dyn Records, api: Option<&ApiId>, since: Timestamp) -> Result<u64, RecordsError> {
    let since = since.checked_sub(APART).unwrap_or(Timestamp::MIN);
    let (mut low, mut high) = (0, records.last_events(api, 1).await?.last().map_or(0, |event| event.number));
    while low < high {
        let middle = low.midpoint(high);
        match records.events(api, middle, 1).await?.first() {
            Some(event) if event.event.at < since => low = event.number,
            _ => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::NewEvent;
    use crate::records::sqlite::Sqlite;

    #[tokio::test]
    async fn what_is_not_older_is_found_among_many() {
        let records = Sqlite::in_memory().unwrap();
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        for second in 0..3000 {
            let api = ApiId::new(if second % 3 == 0 { "a" } else { "b" }).ok();
            let event = NewEvent { at: at(second), api, revision: None, kind: "k".into(), message: String::new() };
            records.add_event(&event).await.unwrap();
        }
        let a = ApiId::new("a").unwrap();
        // The number of the event of a second is one more; a quarter of an hour before it counts too.
        for (since, api, before_it) in [
            (0, None, 0),
            (900, None, 0),
            (901, None, 1),
            (2000, None, 1100),
            (2001, Some(&a), 1099),
            (9000, None, 3000),
        ] {
            assert_eq!(before(&records, api, at(since)).await.unwrap(), before_it, "{since}");
        }
        // Of events that were written late, none is passed over.
        let late = NewEvent { at: at(2990), api: None, revision: None, kind: "k".into(), message: String::new() };
        for event in [&NewEvent { at: at(2500), ..late.clone() }, &late] {
            records.add_event(event).await.unwrap();
        }
        assert!(before(&records, None, at(2400)).await.unwrap() <= 2400);
        assert_eq!(before(&records, ApiId::new("none").ok().as_ref(), at(9)).await.unwrap(), 0);
    }
}
