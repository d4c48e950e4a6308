//! The way to a Postgres breaks off at every question of a story, before it and before its answer: what is in the records
//! in the end is what is there where nothing breaks, nothing twice and nothing lost.

use std::time::{Duration, Instant};

use skep::records::postgres::{Place, Postgres};
use skep::records::{Keep, Key, KeyHash, KeyScope, Lease, NewKey, Records, RecordsError};
use skep::tree::Digest;
use skep::usage::{Fold, UsageBy, UsedBy};
use skep::world::{Hold, Record};

use crate::proxy::{Cut, Proxy};
use crate::server;
use crate::suite::{at, event, id, record, saying};
use crate::usage::{self, DAY, all, asked, batch, moment};

const OWNER: &str = "0123456789ab";

/// One of each table, whole, in an order of its own; without what another try may count up or says anew: beats, numbers,
/// epochs, times of events.
const STATE: &str =
    "SELECT id, name, sync, health, message, served, failures, created_at, updated_at FROM apis ORDER BY id;
    SELECT api, revision, since, served FROM revisions ORDER BY 1, 2;
    SELECT digest, bytes FROM blobs ORDER BY 1;
    SELECT api, revision, kind, message FROM events ORDER BY number;
    SELECT * FROM keys ORDER BY id;
    SELECT * FROM key_uses ORDER BY 1;
    SELECT * FROM removals ORDER BY 1;
    SELECT * FROM holds ORDER BY 1;
    SELECT holder FROM lease;
    SELECT daemon FROM followers ORDER BY 1;
    SELECT * FROM leaving ORDER BY 1;
    SELECT * FROM let_go ORDER BY 1, 2;
    SELECT * FROM usage ORDER BY 1, 2, 3, 4, 5;
    SELECT * FROM usage_totals ORDER BY 1;
    SELECT * FROM usage_keys ORDER BY 1;
    SELECT daemon, number FROM usage_batches ORDER BY 1";

/// Does it again until it is done, as whoever reconciles and counts does.
async fn until_done<T>(mut call: impl AsyncFnMut() -> Result<T, RecordsError>) -> T {
    for _ in 0..200 {
        match call().await {
            Ok(done) => return done,
            Err(RecordsError::Failed { .. } | RecordsError::Unsure { .. } | RecordsError::Open { .. }) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never succeeds");
}

fn place(url: &str, schema: &str, connections: usize) -> Place {
    Place::parse(url, None, schema, OWNER, connections).unwrap()
}

/// The keys of the story: the same in each telling.
fn keys() -> [Key; 4] {
    ["web", "old", "new", "declared"].map(|name| NewKey::generate(name, KeyScope::All, at(0)).key)
}

/// Takes the lease as a daemon that stands by does.
async fn lead(records: &Postgres) -> u64 {
    until_done(async || {
        let lease: Lease = records.lease().await?;
        assert!(lease.holder.as_deref().is_none_or(|holder| holder == "one"));
        Ok(records.claim(&lease, "one").await?.expect("nobody else is quicker"))
    })
    .await
}

/// One of each call that a daemon makes.
async fn story(place: &Place, [web, old, new, declared]: &[Key; 4]) {
    let records = until_done(async || Postgres::open(place).await).await;
    let records = &records;
    let epoch = lead(records).await;
    records.fence(Some(epoch));
    until_done(async || records.check_fence().await).await;
    until_done(async || records.put(&record("a")).await).await;
    until_done(async || records.put(&Record { status: saying(2), updated: at(5), ..record("a") }).await).await;
    until_done(async || records.put(&record("gone")).await).await;
    until_done(async || records.forget(&id("gone")).await).await;
    let blobs = [&b"one"[..], b"two"].map(|bytes| (Digest::of(bytes), bytes.into()));
    until_done(async || records.put_blobs(&blobs).await).await;
    let served = record("a").served.unwrap();
    until_done(async || records.put_revision(&id("a"), &served).await).await;
    // Another try comes later, and says so.
    let mut second = 10;
    for message in ["first", "second"] {
        until_done(async || {
            second += 1;
            let event = skep::records::NewEvent { at: at(second), ..event(Some("a"), message) };
            records.add_event(&event).await
        })
        .await;
    }
    until_done(async || records.add_key(web).await).await;
    until_done(async || records.add_key(old).await).await;
    assert!(until_done(async || records.rotate_key(&old.id, new, at(50)).await).await, "it is there to be rotated");
    until_done(async || records.revoke_key(&web.id, at(70)).await).await;
    until_done(async || records.add_missing_keys(&[declared.clone(), web.clone()]).await).await;
    until_done(async || records.touch_keys(&[(web.hash, at(60)), (KeyHash::of(b"x"), at(61))]).await).await;
    let hold = Hold { on: None, serve: None, by: "ada".into(), why: "no".into(), at: at(4), until: None, stays: true };
    until_done(async || records.put_hold(&id("a"), &hold).await).await;
    until_done(async || records.put_hold(&id("b"), &hold).await).await;
    until_done(async || records.release(&id("b")).await).await;
    until_done(async || records.confirm_removal(&[id("a"), id("b")]).await).await;
    until_done(async || records.withdraw_removal(&[id("b")]).await).await;
    for number in 1..=3 {
        let entries = vec![
            asked(DAY, Some("a"), usage::key("k_1", "web"), 200, 7 * number, 2),
            asked(DAY + 60, Some("b"), UsedBy::Nobody, 401, number, 3),
        ];
        let batch = batch("d1", number, entries);
        until_done(async || records.add_usage(&batch).await).await;
    }
    let fold = Fold { minutes_before: moment(DAY + 7200), hours_before: moment(0), all_before: moment(0) };
    while until_done(async || records.fold_usage(&fold).await).await {}
    assert!(until_done(async || records.renew(epoch).await).await, "nobody else leads");
    until_done(async || records.follow("two").await).await;
    until_done(async || records.follow("three").await).await;
    until_done(async || records.dismiss("three").await).await;
    for container in ["c1", "c2"] {
        until_done(async || records.announce(container).await).await;
        until_done(async || records.let_go(container, "two").await).await;
    }
    until_done(async || records.left("c2").await).await;
    let keep = Keep { revisions: 5, events_since: at(0), blobs_since: at(0) };
    until_done(async || records.prune(&keep).await).await;
    until_done(async || records.version().await).await;
    until_done(async || records.each().await).await;
    let rows = until_done(async || records.usage(&all(UsageBy::Api)).await).await;
    let requests: Vec<u64> = rows.iter().map(|row| row.tally.requests).collect();
    assert_eq!(requests, [42, 6], "each request once");
}

fn state(server: &server::Postgres, schema: &str) -> String {
    server.sql("cut", &format!("SET search_path = {schema}; {STATE}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_breaks_off_at_any_question_leaves_nothing_twice_and_loses_nothing() {
    let server = server::Postgres::start();
    server.database("cut");
    let (proxy, keys) = (Proxy::start(server.port()), keys());
    let url = server::Postgres::url_at(proxy.port(), "cut");
    proxy.count_until(None);
    story(&place(&url, "reference", 1), &keys).await;
    let (questions, expected) = (proxy.asked(), state(&server, "reference"));
    assert!(questions > 100 && expected.contains("second"), "{questions}: {expected}");
    let each = async |cut: Cut| {
        let proxy = Proxy::start(server.port());
        let url = server::Postgres::url_at(proxy.port(), "cut");
        for number in 1..=questions {
            let schema = format!("{}_{number}", if cut == Cut::Before { "before" } else { "after" });
            proxy.count_until(Some((number, cut)));
            story(&place(&url, &schema, 1), &keys).await;
            assert_eq!(state(&server, &schema), expected, "cut {cut:?} question {number} of {questions}");
            server.sql("cut", &format!("SET client_min_messages = error; DROP SCHEMA {schema} CASCADE"));
        }
    };
    tokio::join!(each(Cut::Before), each(Cut::After));
    println!("{questions} questions, each cut before it and before its answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_slow_and_falls_silent_for_a_while_changes_nothing_of_what_is_written() {
    let server = server::Postgres::start();
    server.database("cut");
    let (proxy, keys) = (Proxy::start(server.port()), keys());
    let url = server::Postgres::url_at(proxy.port(), "cut");
    story(&place(&url, "reference", 4), &keys).await;
    let troubles = async {
        proxy.delay(Duration::from_millis(100));
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            proxy.silence(true);
            tokio::time::sleep(Duration::from_secs(4)).await;
            proxy.silence(false);
        }
        proxy.delay(Duration::ZERO);
    };
    let slow = place(&url, "slow", 4);
    tokio::join!(story(&slow, &keys), troubles);
    assert_eq!(state(&server, "slow"), state(&server, "reference"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_read_only_for_a_while_is_written_to_again_over_the_same_handle() {
    let server = server::Postgres::start();
    let records = Postgres::open(&place(&server.database("cut"), "skep", 4)).await.unwrap();
    let set = |is_read_only: bool| {
        server.sql("postgres", &format!("ALTER DATABASE cut SET default_transaction_read_only = {is_read_only}"));
    };
    records.put(&record("a")).await.unwrap();
    set(true);
    let others =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cut' AND pid <> pg_backend_pid()";
    server.sql("postgres", others);
    // All connections of the pool are made anew, and hear that nothing may be written.
    let reads = (0..8).map(|_| records.each());
    assert!(futures_util::future::join_all(reads).await.into_iter().all(|read| read.is_ok()), "it can be read");
    let error = records.put(&record("b")).await.unwrap_err().to_string();
    assert!(error.contains("read-only") && error.contains("target_session_attrs=read-write"), "{error}");
    let away = records.away().unwrap();
    assert!(away.rows && !away.reads, "{away}");
    assert!(away.to_string().contains("takes no writes") && away.to_string().contains("deploys wait"), "{away}");
    let reads = (0..8).map(|_| records.each());
    futures_util::future::join_all(reads).await;
    set(false);
    // A connection that was made meanwhile stays as it was made: the first write finds another.
    records.put(&record("b")).await.unwrap();
    // The listener has asked too, and does so again in a moment.
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(away) = records.away() {
        assert!(Instant::now() < deadline, "{away}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_from_a_backup_is_noticed_and_gives_no_epoch_again() {
    let server = server::Postgres::start();
    let records = Postgres::open(&place(&server.database("cut"), "skep", 4)).await.unwrap();
    let claim = async |name: &str| {
        let lease = records.lease().await.unwrap();
        records.claim(&lease, name).await.unwrap().unwrap()
    };
    claim("one").await;
    let dump = server.dump("cut", "skep");
    // What only this handle has written, which is no change that it hears of.
    let version = records.version().await.unwrap();
    records.add_key(&NewKey::generate("own", KeyScope::All, at(0)).key).await.unwrap();
    let (second, third) = (claim("two").await, claim("three").await);
    assert_eq!(records.version().await.unwrap(), version);
    server.restore("cut", "skep", &dump, "");
    assert_ne!(
        records.version().await.unwrap(),
        version,
        "the key is gone, and whoever serves by it must hear of that"
    );
    assert_eq!(records.keys().await.unwrap(), []);
    assert_eq!(records.lease().await.unwrap().holder.as_deref(), Some("one"));
    assert!(!records.renew(third).await.unwrap(), "the lease is of an earlier time");
    let fourth = claim("three").await;
    assert!(fourth > third && third > second);
    // One that was asleep with what the restore has taken back.
    assert!(!records.renew(second).await.unwrap());
    records.fence(Some(second));
    assert!(matches!(records.put(&record("a")).await, Err(RecordsError::Fenced)));
}
