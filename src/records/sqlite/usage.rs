//! Usage in SQLite: sums of what callers have asked, put together more coarsely as they get old.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};

use super::row;
use super::trouble::Trouble;
use crate::tree::ApiId;
use crate::usage::{Fold, Grain, Group, Slot, Spread, Tally, UsageBatch, UsageBy, UsageQuery, UsageRow, UsedBy};

/// How sums that are there already take in others.
const TAKE_IN: &str = "ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
    bytes_in = bytes_in + excluded.bytes_in, bytes_out = bytes_out + excluded.bytes_out,
    micros = micros + excluded.micros, slowest = max(slowest, excluded.slowest),
    spread = spread_plus(spread, excluded.spread)";

/// The rows whose spans end after a moment; each part reads only what it needs.
const SINCE: &str = "(SELECT * FROM usage WHERE span = 60 AND at > :since - 60
    UNION ALL SELECT * FROM usage WHERE span = 3600 AND at > :since - 3600
    UNION ALL SELECT * FROM usage WHERE span = 86400 AND at > :since - 86400)";

/// Adds a batch, unless it is in.
pub fn add(t: &Transaction<'_>, batch: &UsageBatch) -> Result<(), Trouble> {
    const LAST: &str = "SELECT number FROM usage_batches WHERE daemon = ?1";
    const MARK: &str = "INSERT INTO usage_batches (daemon, number, at) VALUES (?1, ?2, ?3)
        ON CONFLICT DO UPDATE SET number = excluded.number, at = excluded.at";
    const NAME: &str = "INSERT INTO usage_keys (id, name) VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET name = excluded.name WHERE name <> excluded.name";
    let number = whole(batch.number);
    let last: Option<i64> = t.query_row(LAST, [&*batch.daemon], |r| r.get(0)).optional()?;
    if last.is_some_and(|last| last >= number) {
        return Ok(());
    }
    t.execute(MARK, params![&*batch.daemon, number, Timestamp::now().as_second()])?;
    let mut insert = t.prepare_cached(&format!(
        "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) {TAKE_IN}"
    ))?;
    let mut named = BTreeSet::new();
    for (what, tally) in batch.entries.iter() {
        insert.execute(params![
            what.slot.grain.seconds(),
            what.slot.at,
            what.api.as_ref().map_or("", ApiId::as_str),
            what.by.word(),
            what.status,
            whole(tally.requests),
            whole(tally.bytes_in),
            whole(tally.bytes_out),
            whole(tally.micros),
            whole(tally.slowest),
            tally.spread.to_bytes(),
        ])?;
        if let UsedBy::Key(key) = &what.by
            && named.insert(key)
        {
            t.prepare_cached(NAME)?.execute([&key.id, &key.name])?;
        }
    }
    Ok(())
}

/// The sums that a query asks for.
pub fn sums(t: &Transaction<'_>, query: &UsageQuery) -> Result<Vec<UsageRow>, Trouble> {
    let (group, order) = match query.by {
        UsageBy::Api => ("api", "3 DESC, 1"),
        UsageBy::Key => ("caller", "3 DESC, 1"),
        UsageBy::Status => ("status", "1"),
        UsageBy::Hour => ("at - at % 3600", "1"),
        UsageBy::Day => ("at - at % 86400", "1"),
    };
    let name = if query.by == UsageBy::Key { "(SELECT name FROM usage_keys WHERE id = caller)" } else { "NULL" };
    let sql = format!(
        "SELECT {group}, {name}, sum(requests),
            sum(iif(status BETWEEN 400 AND 499, requests, 0)), sum(iif(status BETWEEN 500 AND 599, requests, 0)),
            sum(bytes_in), sum(bytes_out), sum(micros), max(slowest), spread_sum(spread)
        FROM {SINCE} WHERE (:api IS NULL OR api = :api) AND (:key IS NULL OR caller = :key)
        GROUP BY 1 ORDER BY {order}"
    );
    let mut statement = t.prepare_cached(&sql)?;
    let (since, api) = (query.since.as_second(), query.api.as_ref().map(ApiId::as_str));
    let mut rows = statement.query(named_params! { ":since": since, ":api": api, ":key": query.key })?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row, query.by)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>, by: UsageBy) -> Result<UsageRow, Trouble> {
    let group = match by {
        UsageBy::Api => {
            let api: String = row.get(0)?;
            Group::Api(if api.is_empty() { None } else { Some(row::api("usage", &api)?) })
        }
        UsageBy::Key => Group::Key { id: row.get(0)?, name: row.get(1)? },
        UsageBy::Status => Group::Status(row.get(0)?),
        UsageBy::Hour | UsageBy::Day => {
            let bad = |error| Trouble::Corrupt(format!("table `usage`, column `at`: {error}"));
            Group::From(Timestamp::from_second(row.get(0)?).map_err(bad)?)
        }
    };
    let sum = |column: usize| Ok::<u64, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
    let spread = row.get_ref(9)?.as_blob().ok().and_then(Spread::of_bytes);
    let spread = spread.ok_or_else(|| Trouble::Corrupt("table `usage`, column `spread`: no such bytes".to_owned()))?;
    let tally =
        Tally { requests: sum(2)?, bytes_in: sum(5)?, bytes_out: sum(6)?, micros: sum(7)?, slowest: sum(8)?, spread };
    Ok(UsageRow { group, client_errors: sum(3)?, server_errors: sum(4)?, tally })
}

/// Forgets what is too old, and puts the oldest minutes together that are due, or the oldest hours; whether there were
/// any.
pub fn fold(t: &Transaction<'_>, fold: &Fold) -> Result<bool, Trouble> {
    let before = fold.all_before.as_second();
    for grain in [Grain::Minute, Grain::Hour, Grain::Day] {
        t.execute("DELETE FROM usage WHERE span = ?1 AND at < ?2", [grain.seconds(), before])?;
    }
    t.execute("DELETE FROM usage_batches WHERE at < ?1", [before])?;
    for (from, to, before) in
        [(Grain::Minute, Grain::Hour, fold.minutes_before), (Grain::Hour, Grain::Day, fold.hours_before)]
    {
        // Whole spans alone: one that is still being filled would only be put together again.
        let before = Slot::of(to, before.as_second()).at;
        let oldest = "SELECT min(at) FROM usage WHERE span = ?1 AND at < ?2";
        let oldest: Option<i64> = t.query_row(oldest, [from.seconds(), before], |r| r.get(0))?;
        if let Some(oldest) = oldest {
            coarsen(t, from, Slot::of(to, oldest))?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn coarsen(t: &Transaction<'_>, from: Grain, into: Slot) -> Result<(), Trouble> {
    let put = format!(
        "INSERT INTO usage SELECT ?4, ?2, api, caller, status,
            sum(requests), sum(bytes_in), sum(bytes_out), sum(micros), max(slowest), spread_sum(spread)
        FROM usage WHERE span = ?1 AND at >= ?2 AND at < ?3 GROUP BY api, caller, status {TAKE_IN}"
    );
    let (span, until) = (from.seconds(), into.at.saturating_add(into.grain.seconds()));
    t.execute(&put, [span, into.at, until, into.grain.seconds()])?;
    t.execute("DELETE FROM usage WHERE span = ?1 AND at >= ?2 AND at < ?3", [span, into.at, until])?;
    Ok(())
}

/// Teaches a connection to add spreads: `spread_plus` of two, `spread_sum` of those of many rows.
pub fn define_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("spread_plus", 2, flags, |context| {
        let mut sum = spread(context, 0)?;
        sum.add(&spread(context, 1)?);
        Ok(sum.to_bytes())
    })?;
    connection.create_aggregate_function("spread_sum", 1, flags, SpreadSum)
}

struct SpreadSum;

impl Aggregate<Spread, Vec<u8>> for SpreadSum {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Spread> {
        Ok(Spread::default())
    }

    fn step(&self, context: &mut Context<'_>, sum: &mut Spread) -> rusqlite::Result<()> {
        sum.add(&spread(context, 0)?);
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, sum: Option<Spread>) -> rusqlite::Result<Vec<u8>> {
        Ok(sum.unwrap_or_default().to_bytes())
    }
}

fn spread(context: &Context<'_>, place: usize) -> rusqlite::Result<Spread> {
    let read = match context.get_raw(place) {
        ValueRef::Blob(bytes) => Spread::of_bytes(bytes),
        _ => None,
    };
    read.ok_or_else(|| rusqlite::Error::UserFunctionError("`spread` holds what skep did not write".into()))
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
