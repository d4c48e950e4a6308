//! What every backend must do with usage, told to the trait alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skep::records::Records;
use skep::usage::{
    Counted, Fold, Grain, Group, KeyName, Slot, Tally, UsageBatch, UsageBy, UsageQuery, UsageRow, UsedBy,
};

use crate::suite::id;

/// The beginning of a day, in seconds since 1970.
pub const DAY: i64 = 20_000 * 86_400;

pub fn moment(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub fn key(id: &str, name: &str) -> UsedBy {
    UsedBy::Key(Arc::new(KeyName { id: id.to_owned(), name: name.to_owned() }))
}

/// So many requests of one caller, each with one byte in, two out, and so many milliseconds.
pub fn asked(at: i64, api: Option<&str>, by: UsedBy, status: u16, requests: u64, millis: u64) -> (Counted, Tally) {
    let mut tally = Tally::default();
    (0..requests).for_each(|_| tally.count(1, 2, Duration::from_millis(millis)));
    (Counted { slot: Slot::of(Grain::Minute, at), api: api.map(id), by, status }, tally)
}

pub fn batch(daemon: &str, number: u64, entries: Vec<(Counted, Tally)>) -> UsageBatch {
    UsageBatch { daemon: daemon.into(), number, entries: entries.into() }
}

pub fn all(by: UsageBy) -> UsageQuery {
    UsageQuery { api: None, key: None, since: moment(0), by }
}

async fn counts(records: &dyn Records, query: UsageQuery) -> Vec<(Group, u64)> {
    records.usage(&query).await.unwrap().into_iter().map(|row| (row.group, row.tally.requests)).collect()
}

fn hour(hours: i64) -> Group {
    Group::From(moment(DAY + hours * 3600))
}

/// What every backend must do. Wants records without usage.
pub async fn usage(records: &dyn Records) {
    sums(records).await;
    once(records).await;
    folding(records).await;
}

async fn sums(records: &dyn Records) {
    assert_eq!(records.usage(&all(UsageBy::Api)).await.unwrap(), []);
    let (one, two) = (key("k_1", "web"), key("k_2", "It's \"two\""));
    let first = vec![
        asked(DAY, Some("a"), one.clone(), 200, 98, 2),
        asked(DAY, Some("a"), one.clone(), 404, 1, 2),
        asked(DAY, Some("a"), two.clone(), 503, 1, 2000),
        asked(DAY + 3600, Some("b"), UsedBy::Token, 200, 7, 2),
    ];
    let second = vec![
        asked(DAY + 61, Some("a"), one, 200, 1, 2),
        asked(DAY + 3600, None, UsedBy::Others, 200, 3, 2),
        asked(DAY + 3600, Some("b"), UsedBy::Nobody, 401, 2, 2),
    ];
    records.add_usage(&batch("d1", 1, first)).await.unwrap();
    records.add_usage(&batch("d2", 1, second)).await.unwrap();

    let rows = records.usage(&all(UsageBy::Api)).await.unwrap();
    let groups: Vec<_> = rows.iter().map(|row| row.group.clone()).collect();
    assert_eq!(groups, [Group::Api(Some(id("a"))), Group::Api(Some(id("b"))), Group::Api(None)]);
    let UsageRow { client_errors, server_errors, tally, .. } = &rows[0];
    assert_eq!((tally.requests, *client_errors, *server_errors), (101, 1, 1));
    assert_eq!((tally.bytes_in, tally.bytes_out, tally.micros, tally.slowest), (101, 202, 2_200_000, 2_000_000));
    assert!(tally.within(990) < Duration::from_millis(3) && tally.within(999) > Duration::from_secs(1), "{tally:?}");

    let named = |id: &str, name: Option<&str>| Group::Key { id: id.to_owned(), name: name.map(str::to_owned) };
    let by_key = counts(records, all(UsageBy::Key)).await;
    let expected = [
        (named("k_1", Some("web")), 100),
        (named("token", None), 7),
        (named("others", None), 3),
        (named("none", None), 2),
        (named("k_2", Some("It's \"two\"")), 1),
    ];
    assert_eq!(by_key, expected);
    let by_status = counts(records, all(UsageBy::Status)).await;
    let expected = [(200, 109), (401, 2), (404, 1), (503, 1)].map(|(status, count)| (Group::Status(status), count));
    assert_eq!(by_status, expected);
    assert_eq!(counts(records, all(UsageBy::Hour)).await, [(hour(0), 101), (hour(1), 12)]);
    assert_eq!(counts(records, all(UsageBy::Day)).await, [(hour(0), 113)]);

    // Of one API, of one key, since a moment: the minute that it is in counts whole, and the one before it not.
    let of = |api: Option<&str>, key: Option<&str>, since: i64| UsageQuery {
        api: api.map(id),
        key: key.map(str::to_owned),
        since: moment(DAY + since),
        by: UsageBy::Hour,
    };
    for (query, expected) in [
        (of(Some("b"), None, 0), vec![(hour(1), 9)]),
        (of(None, Some("k_1"), 0), vec![(hour(0), 100)]),
        (of(Some("b"), Some("none"), 0), vec![(hour(1), 2)]),
        (of(Some("b"), Some("k_1"), 0), vec![]),
        (of(None, None, 59), vec![(hour(0), 101), (hour(1), 12)]),
        (of(None, None, 60), vec![(hour(0), 1), (hour(1), 12)]),
        (of(None, None, 3659), vec![(hour(1), 12)]),
        (of(None, None, 3660), vec![]),
    ] {
        assert_eq!(counts(records, query.clone()).await, expected, "{query:?}");
    }
}

async fn once(records: &dyn Records) {
    let entries = || vec![asked(DAY, Some("once"), UsedBy::Nobody, 200, 5, 1)];
    let count = async || {
        let query = UsageQuery { api: Some(id("once")), ..all(UsageBy::Api) };
        counts(records, query).await.first().map_or(0, |row| row.1)
    };
    // The reply to the first was lost, as far as its daemon knows.
    for (daemon, number, expected) in
        [("e1", 1, 5), ("e1", 1, 5), ("e1", 2, 10), ("e2", 1, 15), ("e1", 1, 15), ("e2", 1, 15)]
    {
        records.add_usage(&batch(daemon, number, entries())).await.unwrap();
        assert_eq!(count().await, expected, "after batch {number} of {daemon}");
    }
    // Whoever does not reconcile writes as well.
    records.fence(Some(u64::MAX));
    records.add_usage(&batch("e2", 2, entries())).await.unwrap();
    records.fence(None);
    assert_eq!(count().await, 20);
}

async fn folding(records: &dyn Records) {
    let totals = async || {
        let mut totals = BTreeMap::new();
        for by in [UsageBy::Api, UsageBy::Key, UsageBy::Status] {
            for row in records.usage(&all(by)).await.unwrap() {
                totals.insert(row.group.clone(), row);
            }
        }
        totals
    };
    let fold = async |fold: Fold| while records.fold_usage(&fold).await.unwrap() {};
    let before = totals().await;
    let never = moment(0);
    // The second hour is not over by then.
    fold(Fold { minutes_before: moment(DAY + 7000), hours_before: never, all_before: never }).await;
    assert_eq!(totals().await, before);
    let since = |second| UsageQuery { since: moment(DAY + second), ..all(UsageBy::Hour) };
    let first = counts(records, since(3599)).await[0].clone();
    assert_eq!(first.0, hour(0), "the first hour is a whole now");
    assert_eq!(counts(records, since(3660)).await, [], "and the second is not");

    // What comes late, as after a long outage, is put to what is there.
    records
        .add_usage(&batch("late", 1, vec![asked(DAY + 120, Some("a"), key("k_1", "web"), 200, 4, 2)]))
        .await
        .unwrap();
    let before = totals().await;
    fold(Fold { minutes_before: moment(DAY + 7200), hours_before: moment(DAY + 86_400), all_before: never }).await;
    assert_eq!(totals().await, before);
    assert_eq!(counts(records, all(UsageBy::Hour)).await.len(), 1, "the day is a whole now");

    fold(Fold { minutes_before: never, hours_before: never, all_before: moment(DAY + 1) }).await;
    assert_eq!(totals().await, BTreeMap::new());
}
