//! Usage in Postgres: sums of what callers have asked, put together more coarsely as they get old.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::lease::number as whole;
use super::trouble::Trouble;
use super::worker::Tx;
use super::{nul, row};
use crate::tree::ApiId;
use crate::usage::{Fold, Grain, Group, Slot, Spread, Tally, UsageBatch, UsageBy, UsageQuery, UsageRow, UsedBy};

/// How sums that are there already take in others.
const TAKE_IN: &str = "ON CONFLICT (span, at, api, caller, status) DO UPDATE SET
    requests = u.requests + excluded.requests, bytes_in = u.bytes_in + excluded.bytes_in,
    bytes_out = u.bytes_out + excluded.bytes_out, micros = u.micros + excluded.micros,
    slowest = greatest(u.slowest, excluded.slowest),
    (classes, counts) = (
        SELECT coalesce(array_agg(class ORDER BY class), '{}'), coalesce(array_agg(n ORDER BY class), '{}') FROM (
            SELECT class, sum(n)::bigint AS n FROM (
                SELECT * FROM unnest(u.classes, u.counts) UNION ALL SELECT * FROM unnest(excluded.classes, excluded.counts)
            ) AS both_of (class, n) GROUP BY class
        ) AS added)";

/// The rows whose spans end after a moment, $1; each part reads only what it needs.
const SINCE: &str = "(SELECT * FROM usage WHERE span = 60 AND at > $1 - 60
    UNION ALL SELECT * FROM usage WHERE span = 3600 AND at > $1 - 3600
    UNION ALL SELECT * FROM usage WHERE span = 86400 AND at > $1 - 86400) AS since";

/// How many rows one statement brings.
const AT_ONCE: usize = 2000;

/// Adds a batch, unless it is in.
pub async fn add(t: &Tx<'_>, batch: &UsageBatch) -> Result<(), Trouble> {
    // The row is locked until the end: of two tries at one batch the second waits, and finds it in.
    const MARK: &str = "INSERT INTO usage_batches AS b (daemon, number, at) VALUES ($1, $2, $3)
        ON CONFLICT (daemon) DO UPDATE SET number = excluded.number, at = excluded.at WHERE b.number < excluded.number";
    const NAMES: &str = "INSERT INTO usage_keys AS k (id, name) SELECT * FROM unnest($1::text[], $2::text[]) ORDER BY 1
        ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE k.name <> excluded.name";
    const TOTALS: &str = "INSERT INTO usage_totals AS u (api, requests)
        SELECT * FROM unnest($1::text[], $2::bigint[]) ORDER BY 1
        ON CONFLICT (api) DO UPDATE SET requests = u.requests + excluded.requests";
    let (daemon, now) = (&*batch.daemon, Timestamp::now().as_second());
    let mark = [(&daemon as _, Type::TEXT), (&whole(batch.number) as _, Type::INT8), (&now as _, Type::INT8)];
    if t.execute(MARK, &mark).await? == 0 {
        return Ok(());
    }
    for part in batch.entries.chunks(AT_ONCE) {
        add_part(t, part).await?;
    }
    let mut totals: BTreeMap<&str, i64> = BTreeMap::new();
    for (what, tally) in batch.entries.iter() {
        if let Some(api) = &what.api {
            *totals.entry(api.as_str()).or_default() += whole(tally.requests);
        }
    }
    let (apis, totals): (Vec<&str>, Vec<i64>) = totals.into_iter().unzip();
    t.execute(TOTALS, &[(&apis, Type::TEXT_ARRAY), (&totals, Type::INT8_ARRAY)]).await?;
    let names: BTreeMap<&str, &str> = (batch.entries.iter())
        .filter_map(|(what, _)| match &what.by {
            UsedBy::Key(key) => Some((key.id.as_str(), key.name.as_str())),
            _ => None,
        })
        .collect();
    let ids: Vec<&str> = names.keys().copied().collect();
    let names: Vec<_> = names.values().map(|name| nul::encode(name)).collect();
    t.execute(NAMES, &[(&ids, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    Ok(())
}

async fn add_part(t: &Tx<'_>, part: &[(crate::usage::Counted, Tally)]) -> Result<(), Trouble> {
    let column = |value: fn(&Tally) -> u64| part.iter().map(|(_, tally)| whole(value(tally))).collect::<Vec<i64>>();
    let spans: Vec<i32> = part.iter().map(|(what, _)| i32::try_from(what.slot.grain.seconds()).unwrap_or(60)).collect();
    let ats: Vec<i64> = part.iter().map(|(what, _)| what.slot.at).collect();
    let apis: Vec<&str> = part.iter().map(|(what, _)| what.api.as_ref().map_or("", ApiId::as_str)).collect();
    let callers: Vec<&str> = part.iter().map(|(what, _)| what.by.word()).collect();
    let statuses: Vec<i16> = part.iter().map(|(what, _)| i16::try_from(what.status).unwrap_or(i16::MAX)).collect();
    // An array of arrays of unlike length is no array to Postgres; as texts they are.
    let list = |of: fn((u8, u32)) -> String| -> Vec<String> {
        let text = |tally: &Tally| format!("{{{}}}", tally.spread.classes().map(of).collect::<Vec<_>>().join(","));
        part.iter().map(|(_, tally)| text(tally)).collect()
    };
    let (classes, counts) = (list(|(class, _)| class.to_string()), list(|(_, count)| count.to_string()));
    // In order, so that two daemons do not wait for each other in a circle.
    let sql = format!(
        "INSERT INTO usage AS u
        SELECT span, at, api, caller, status, requests, bytes_in, bytes_out, micros, slowest,
            classes::smallint[], counts::bigint[]
        FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::text[], $5::smallint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::text[])
            AS n (span, at, api, caller, status, requests, bytes_in, bytes_out, micros, slowest, classes, counts)
        ORDER BY 1, 2, 3, 4, 5 {TAKE_IN}"
    );
    let values = [
        (&spans as _, Type::INT4_ARRAY),
        (&ats as _, Type::INT8_ARRAY),
        (&apis as _, Type::TEXT_ARRAY),
        (&callers as _, Type::TEXT_ARRAY),
        (&statuses as _, Type::INT2_ARRAY),
        (&column(|t| t.requests) as _, Type::INT8_ARRAY),
        (&column(|t| t.bytes_in) as _, Type::INT8_ARRAY),
        (&column(|t| t.bytes_out) as _, Type::INT8_ARRAY),
        (&column(|t| t.micros) as _, Type::INT8_ARRAY),
        (&column(|t| t.slowest) as _, Type::INT8_ARRAY),
        (&classes as _, Type::TEXT_ARRAY),
        (&counts as _, Type::TEXT_ARRAY),
    ];
    t.execute(&sql, &values).await?;
    Ok(())
}

/// The sums that a query asks for.
pub async fn sums(t: &Tx<'_>, query: &UsageQuery) -> Result<Vec<UsageRow>, Trouble> {
    // Texts in the order of their bytes, whatever language the database speaks.
    let (group, order) = match query.by {
        UsageBy::Api => ("api COLLATE \"C\"", "2 DESC, 1"),
        UsageBy::Key => ("caller COLLATE \"C\"", "2 DESC, 1"),
        UsageBy::Status => ("status::bigint", "1"),
        UsageBy::Hour => ("at - at % 3600", "1"),
        UsageBy::Day => ("at - at % 86400", "1"),
    };
    let wanted = "($2::text IS NULL OR api = $2) AND ($3::text IS NULL OR caller = $3)";
    let sums = format!(
        "SELECT {group}, sum(requests)::bigint,
            coalesce(sum(requests) FILTER (WHERE status BETWEEN 400 AND 499), 0)::bigint,
            coalesce(sum(requests) FILTER (WHERE status BETWEEN 500 AND 599), 0)::bigint,
            sum(bytes_in)::bigint, sum(bytes_out)::bigint, sum(micros)::bigint, max(slowest)
        FROM {SINCE} WHERE {wanted} GROUP BY 1 ORDER BY {order}"
    );
    let spreads = format!(
        "SELECT {group}, class, sum(n)::bigint FROM {SINCE}, unnest(classes, counts) AS c (class, n)
        WHERE {wanted} GROUP BY 1, 2"
    );
    let api = query.api.as_ref().map(ApiId::as_str);
    let values = [(&query.since.as_second() as _, Type::INT8), (&api as _, Type::TEXT), (&query.key as _, Type::TEXT)];
    let by_text = matches!(query.by, UsageBy::Api | UsageBy::Key);
    let mut spread_of: BTreeMap<Name, Spread> = BTreeMap::new();
    for row in t.query(&spreads, &values).await? {
        let (class, count): (i16, i64) = (row.try_get(1)?, row.try_get(2)?);
        let bad = || Trouble::Corrupt("table `usage`, column `classes`: no such class".to_owned());
        let class = u8::try_from(class).map_err(|_| bad())?;
        let spread = spread_of.entry(Name::of(&row, by_text)?).or_default();
        spread.add_class(class, u32::try_from(count.unsigned_abs()).unwrap_or(u32::MAX));
    }
    let mut found = Vec::new();
    for row in t.query(&sums, &values).await? {
        let name = Name::of(&row, by_text)?;
        let spread = spread_of.remove(&name).unwrap_or_default();
        found.push(read(&row, name, query.by, spread)?);
    }
    if query.by == UsageBy::Key {
        name_keys(t, &mut found).await?;
    }
    Ok(found)
}

/// What a row of an answer is about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Text(String),
    Number(i64),
}

impl Name {
    fn of(row: &Row, by_text: bool) -> Result<Self, Trouble> {
        Ok(if by_text { Self::Text(row.try_get(0)?) } else { Self::Number(row.try_get(0)?) })
    }
}

fn read(row: &Row, name: Name, by: UsageBy, spread: Spread) -> Result<UsageRow, Trouble> {
    let group = match (name, by) {
        (Name::Text(api), UsageBy::Api) => {
            Group::Api(if api.is_empty() { None } else { Some(row::api("usage", &api)?) })
        }
        (Name::Text(id), _) => Group::Key { id, name: None },
        (Name::Number(status), UsageBy::Status) => Group::Status(u16::try_from(status).unwrap_or_default()),
        (Name::Number(at), _) => {
            let bad = |error| Trouble::Corrupt(format!("table `usage`, column `at`: {error}"));
            Group::From(Timestamp::from_second(at).map_err(bad)?)
        }
    };
    let sum = |column: usize| Ok::<u64, Trouble>(row.try_get::<_, i64>(column)?.unsigned_abs());
    let tally =
        Tally { requests: sum(1)?, bytes_in: sum(4)?, bytes_out: sum(5)?, micros: sum(6)?, slowest: sum(7)?, spread };
    Ok(UsageRow { group, client_errors: sum(2)?, server_errors: sum(3)?, tally })
}

async fn name_keys(t: &Tx<'_>, found: &mut [UsageRow]) -> Result<(), Trouble> {
    let ids: BTreeSet<String> = (found.iter())
        .filter_map(|row| if let Group::Key { id, .. } = &row.group { Some(id.clone()) } else { None })
        .collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let rows = t.query("SELECT id, name FROM usage_keys WHERE id = ANY($1)", &[(&ids, Type::TEXT_ARRAY)]).await?;
    let mut names = BTreeMap::new();
    for row in &rows {
        names.insert(row.try_get::<_, String>(0)?, nul::decode(row.try_get(1)?));
    }
    for row in found {
        if let Group::Key { id, name } = &mut row.group {
            *name = names.get(id).cloned();
        }
    }
    Ok(())
}

/// Forgets what is too old, and puts the oldest minutes together that are due, or the oldest hours; whether there were
/// any.
pub async fn fold(t: &Tx<'_>, fold: &Fold) -> Result<bool, Trouble> {
    const OLDEST: &str = "SELECT min(at) FROM usage WHERE span = $1 AND at < $2";
    let before = fold.all_before.as_second();
    for grain in [Grain::Minute, Grain::Hour, Grain::Day] {
        let values = [(&span(grain) as _, Type::INT4), (&before as _, Type::INT8)];
        t.execute("DELETE FROM usage WHERE span = $1 AND at < $2", &values).await?;
    }
    t.execute("DELETE FROM usage_batches WHERE at < $1", &[(&before, Type::INT8)]).await?;
    for (from, to, before) in
        [(Grain::Minute, Grain::Hour, fold.minutes_before), (Grain::Hour, Grain::Day, fold.hours_before)]
    {
        // Whole spans alone: one that is still being filled would only be put together again.
        let before = Slot::of(to, before.as_second()).at;
        let rows = t.query(OLDEST, &[(&span(from), Type::INT4), (&before, Type::INT8)]).await?;
        if let Some(oldest) = rows.first().map_or(Ok(None), |row| row.try_get::<_, Option<i64>>(0))? {
            coarsen(t, from, Slot::of(to, oldest)).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

async fn coarsen(t: &Tx<'_>, from: Grain, into: Slot) -> Result<(), Trouble> {
    // What is deleted is what is summed, also where another daemon folds or adds at the same time.
    let put = format!(
        "WITH gone AS (DELETE FROM usage WHERE span = $1 AND at >= $2 AND at < $3 RETURNING *)
        INSERT INTO usage AS u
        SELECT $4, $2, g.api, g.caller, g.status, g.requests, g.bytes_in, g.bytes_out, g.micros, g.slowest,
            coalesce(s.classes, '{{}}'), coalesce(s.counts, '{{}}')
        FROM (
            SELECT api, caller, status, sum(requests)::bigint AS requests, sum(bytes_in)::bigint AS bytes_in,
                sum(bytes_out)::bigint AS bytes_out, sum(micros)::bigint AS micros, max(slowest) AS slowest
            FROM gone GROUP BY api, caller, status
        ) AS g LEFT JOIN (
            SELECT api, caller, status, array_agg(class ORDER BY class) AS classes, array_agg(n ORDER BY class) AS counts
            FROM (
                SELECT api, caller, status, class, sum(n)::bigint AS n
                FROM gone, unnest(classes, counts) AS c (class, n) GROUP BY api, caller, status, class
            ) AS each_class GROUP BY api, caller, status
        ) AS s USING (api, caller, status)
        ORDER BY 3, 4, 5 {TAKE_IN}"
    );
    let until = into.at.saturating_add(into.grain.seconds());
    let values = [
        (&span(from) as _, Type::INT4),
        (&into.at as _, Type::INT8),
        (&until as _, Type::INT8),
        (&span(into.grain) as _, Type::INT4),
    ];
    t.execute(&put, &values).await?;
    Ok(())
}

fn span(grain: Grain) -> i32 {
    i32::try_from(grain.seconds()).unwrap_or(60)
}
