//! The suite on a real Postgres, and what that one alone must.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skep::records::postgres::{Place, Postgres, examine};
use skep::records::{Keep, KeyHash, KeyScope, NewKey, Records, RecordsError};
use skep::tree::Digest;
use skep::world::Record;

use crate::suite::{at, event, id, leading, pruning, record, saying, suite};
use crate::usage;
use crate::{news, rows, server};

/// The mark of the installation of these tests.
const OWNER: &str = "0123456789ab";

fn place(url: &str) -> Place {
    Place::parse(url, None, "skep", OWNER, 4).unwrap()
}

async fn open(url: &str) -> Postgres {
    Postgres::open(&place(url)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_does_what_records_must() {
    let server = server::Postgres::start();
    suite(&open(&server.database("suite")).await).await;
    leading(&open(&server.database("leading")).await).await;
    pruning(&open(&server.database("pruning")).await).await;
    usage::usage(&open(&server.database("usage")).await).await;
    // With one connection, for everything.
    let one = Place { connections: 1, ..place(&server.database("one")) };
    let records = Postgres::open(&one).await.unwrap();
    suite(&records).await;
    assert_eq!(Postgres::open(&one).await.unwrap().events(None, 0, 10).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_calls_that_nobody_waits_for_are_done_whole_and_in_order() {
    let server = server::Postgres::start();
    rows::unwaited(&open(&server.database("order")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_takes_many_who_make_the_schema_and_write_at_once() {
    let server = server::Postgres::start();
    let url = server.database("many");
    let writers: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let records = open(&url).await;
                for n in 0..50 {
                    records.add_event(&event(None, &n.to_string())).await.unwrap();
                    records.put(&Record { status: saying(n), ..record("a") }).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let events = open(&url).await.events(None, 0, 1000).await.unwrap();
    assert_eq!(events.len(), 300);
    assert!(events.is_sorted_by(|a, b| a.number < b.number));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tells_what_others_have_written_and_only_that() {
    let server = server::Postgres::start();
    let url = server.database("told");
    let (ours, theirs) = (open(&url).await, open(&url).await);
    theirs.put(&record("a")).await.unwrap();
    let before = ours.version().await.unwrap();
    theirs.touch_keys(&[(KeyHash::of(b"x"), at(70))]).await.unwrap();
    theirs.revoke_key("k_unknown", at(1)).await.unwrap();
    theirs.put(&Record { updated: at(70), ..record("a") }).await.unwrap();
    ours.add_key(&NewKey::generate("own", KeyScope::All, at(0)).key).await.unwrap();
    assert_eq!(ours.version().await.unwrap(), before, "no change that a daemon must hear of, or its own");

    theirs.add_key(&NewKey::generate("new", KeyScope::All, at(0)).key).await.unwrap();
    let after = ours.version().await.unwrap();
    assert_ne!(after, before);
    // A person, with a SQL shell, who has set nothing.
    server.sql("told", "UPDATE skep.apis SET health = 'missing' WHERE id = 'a'");
    assert_ne!(ours.version().await.unwrap(), after);

    // The signal comes by itself: without one, a look would be due after ten seconds.
    let deadline = Duration::from_secs(60);
    let heard = async {
        loop {
            let since = std::time::Instant::now();
            let wait = tokio::spawn({
                let ours = ours.clone();
                async move { ours.changed().await }
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.sql("told", "UPDATE skep.apis SET health = 'healthy' WHERE id = 'a'");
            wait.await.unwrap();
            if since.elapsed() < Duration::from_millis(400) {
                break;
            }
        }
    };
    tokio::time::timeout(deadline, heard).await.expect("notifications come");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_names_a_row_that_skep_did_not_write_and_it_holds_up_no_other() {
    let server = server::Postgres::start();
    let records = open(&server.database("edited")).await;
    let shell = |sql: &str| drop(server.sql("edited", sql));
    rows::edited(
        &records,
        "skep.",
        ["'infinity'", "'-infinity'"],
        "'\\x00'",
        Some("SET skep.writer = 'older'; "),
        shell,
    )
    .await;
    // What people look at, in plain columns.
    let row =
        server.sql("edited", "SELECT id, sync, health, serving_revision, last_error FROM skep.apis WHERE id = 'bad'");
    assert_eq!(row, "bad|out-of-sync|progressing|0123456789ab|ran out of memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_not_asked_again_for_what_is_known_and_yet_nothing_is_missed() {
    let server = server::Postgres::start();
    let url = server.database("news");
    let reader = open(&url).await;
    let shell = |sql: &str| drop(server.sql("news", sql));
    let past = |sql: &str| drop(server.sql("news", &format!("SET session_replication_role = replica; {sql}")));
    let fresh = async || Arc::new(open(&url).await) as Arc<dyn Records>;
    news::news(&reader, fresh, "skep.", past, shell).await;
    // A log that is thrown away as far as it is old.
    past(
        "UPDATE skep.change_log SET at = at - interval '2 hours'; UPDATE skep.changes SET at = at - interval '2 hours'",
    );
    reader.each().await.unwrap();
    let keep = Keep { revisions: 9, events_since: Timestamp::UNIX_EPOCH, blobs_since: Timestamp::UNIX_EPOCH };
    let before: u32 = server.sql("news", "SELECT count(*) FROM skep.change_log").parse().unwrap();
    reader.prune(&keep).await.unwrap();
    let left: u32 = server.sql("news", "SELECT count(*) FROM skep.change_log").parse().unwrap();
    assert!(left < before && left > 0, "{left} of {before} are left");
    shell("UPDATE skep.apis SET message = 'pruned' WHERE id = 'c'");
    assert_eq!(reader.all().await.unwrap(), fresh().await.all().await.unwrap());
    // One who has changed something and waits keeps whoever comes after it waiting, so that the later one is not seen first.
    reader.put(&record("a")).await.unwrap();
    let hand = |sql: &'static str| {
        let port = server.port().to_string();
        std::thread::spawn(move || {
            let mut psql = std::process::Command::new(server::program("psql"));
            psql.args(["-X", "-q", "-h", "127.0.0.1", "-U", "postgres", "-d", "news", "-p", &port, "-c", sql]);
            assert!(psql.stdout(std::process::Stdio::null()).status().unwrap().success());
        })
    };
    let slow = hand("BEGIN; UPDATE skep.apis SET message = 'slow' WHERE id = 'a'; SELECT pg_sleep(1.5); COMMIT");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let quick = hand("UPDATE skep.apis SET message = 'quick' WHERE id = 'c'");
    while !(slow.is_finished() && quick.is_finished()) {
        reader.each().await.unwrap();
    }
    slow.join().unwrap();
    quick.join().unwrap();
    assert_eq!(reader.all().await.unwrap(), fresh().await.all().await.unwrap());
    // By a statement that has no rows to show.
    server.sql("news", "TRUNCATE skep.keys");
    assert_eq!(reader.keys().await.unwrap(), []);
    server.sql("news", "TRUNCATE skep.apis");
    assert!(reader.all().await.unwrap().is_empty());
    // One who was begun first and is done last is seen all the same.
    let writers = (0..8).map(|n| {
        let url = url.clone();
        tokio::spawn(async move {
            let records = open(&url).await;
            for m in 0..20 {
                records.put(&record(&format!("w{n}-{m}"))).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        while !writer.is_finished() {
            reader.each().await.unwrap();
        }
        writer.await.unwrap();
    }
    assert_eq!(reader.all().await.unwrap().len(), 160);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_takes_the_tables_of_an_earlier_skep_along_whole_or_not_at_all() {
    let server = server::Postgres::start();
    let url = server.database("earlier");
    let records = Postgres::open(&place(&url)).await.unwrap();
    records.put(&record("a")).await.unwrap();
    records.put_revision(&id("a"), &record("a").served.unwrap()).await.unwrap();
    drop(records);
    // As the first schema was.
    server.sql(
        "earlier",
        "DROP TRIGGER written ON skep.apis; DROP FUNCTION skep.written(); ALTER TABLE skep.apis DROP COLUMN written;
         DROP TABLE skep.usage_totals; DROP TABLE skep.told; DROP TABLE skep.change_log; DROP TRIGGER emptied ON skep.apis;
         DROP TRIGGER emptied ON skep.keys; DROP TRIGGER emptied ON skep.removals; DROP TRIGGER emptied ON skep.holds; UPDATE skep.installation SET schema = 1",
    );
    let first = include_str!("../../src/records/postgres/migrations/0001_begin.sql");
    let (_, counting) = first.split_once("CREATE FUNCTION note_change()").unwrap();
    let (counting, _) = counting.split_once("END\n$$;").unwrap();
    let counting = format!("CREATE OR REPLACE FUNCTION note_change(){counting}END\n$$");
    server.sql("earlier", &format!("SET search_path = skep, pg_temp; {counting}"));
    // Something that is in the way of the last step: then none is taken.
    server.sql("earlier", "CREATE FUNCTION skep.written() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'");
    Postgres::open(&place(&url)).await.map(drop).unwrap_err();
    let state = "SELECT schema || ' ' || (to_regclass('skep.usage_totals') IS NULL) FROM skep.installation";
    assert_eq!(server.sql("earlier", state), "1 true");
    server.sql("earlier", "DROP FUNCTION skep.written()");
    // Several at once.
    let opened = (0..6).map(|_| async { Postgres::open(&place(&url)).await.unwrap() });
    let handles = futures_util::future::join_all(opened).await;
    assert_eq!(handles[0].get(&id("a")).await.unwrap(), Some(record("a")), "what was there is skep's own");
    assert_eq!(handles[5].revisions(&id("a")).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_refuses_a_newer_schema_another_installation_and_what_is_not_ours() {
    let server = server::Postgres::start();
    let url = server.database("refused");
    drop(open(&url).await);
    let other = Place::parse(&url, None, "skep", "ba9876543210", 4).unwrap();
    let error = Postgres::open(&other).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("another installation (0123456789ab") && error.contains("skep_two"), "{error}");
    Postgres::open(&Place { schema: "skep_two".to_owned(), ..other }).await.unwrap();

    server.sql("refused", "UPDATE skep.installation SET schema = 99");
    let error = Postgres::open(&place(&url)).await.map(drop).unwrap_err();
    assert!(matches!(error, RecordsError::TooNew { found: 99, .. }), "{error}");
    assert_eq!(server.sql("refused", "SELECT schema FROM skep.installation"), "99");

    server.sql("refused", "CREATE SCHEMA theirs; CREATE TABLE theirs.bookmarks (url text)");
    let theirs = Place { schema: "theirs".to_owned(), ..place(&url) };
    let error = Postgres::open(&theirs).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("tables that skep did not make"), "{error}");

    for (url, cause) in [
        (server.url("nowhere"), "does not exist; name a database"),
        (server::Postgres::url_at(server::free_port(), "refused"), "Connection refused"),
    ] {
        let error = Postgres::open(&place(&url)).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(cause) && error.contains("127.0.0.1"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_go_and_come_back_and_nothing_is_half_done() {
    let mut server = server::Postgres::start_with(&["fsync=on"]);
    let records = open(&server.database("power")).await;
    let mut written = 0;
    for round in 0..3 {
        // Writers are at work when the server is killed.
        let writer = tokio::spawn({
            let records = records.clone();
            async move {
                let mut done = Vec::new();
                for n in 0.. {
                    let pair = ["left", "right"].map(|side| format!("{side} {round} {n} ").repeat(500).into_bytes());
                    let blobs = pair.map(|bytes| (Digest::of(&bytes), bytes.into()));
                    match records.put_blobs(&blobs).await {
                        Ok(()) => done.push(blobs.map(|(digest, _)| digest)),
                        Err(_) => return (done, blobs.map(|(digest, _)| digest)),
                    }
                }
                unreachable!()
            }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        let (done, last) = writer.await.unwrap();
        assert!(records.lease().await.is_err(), "the server is gone");
        server.resume();
        // The same handle goes on by itself.
        for digests in &done {
            for digest in digests {
                assert!(records.blob(digest).await.unwrap().is_some(), "what was said to be written is there");
            }
        }
        let [left, right] = [records.blob(&last[0]).await.unwrap(), records.blob(&last[1]).await.unwrap()];
        assert_eq!(left.is_some(), right.is_some(), "half of a transaction");
        written += done.len();
    }
    assert!(written > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tables_that_are_lost_are_made_again_by_the_handle_that_misses_them() {
    let server = server::Postgres::start();
    let records = open(&server.database("restored")).await;
    records.put(&record("a")).await.unwrap();
    // As after a restore from a backup that is older than skep.
    server.sql("restored", "DROP SCHEMA skep CASCADE");
    assert!(records.get(&id("a")).await.is_err());
    assert_eq!(records.get(&id("a")).await.unwrap(), None);
    records.put(&record("a")).await.unwrap();
    assert!(records.get(&id("a")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tables_stay_whose_they_are_whoever_brings_them_up_to_date() {
    let server = server::Postgres::start();
    server.database("owned");
    server.sql("owned", "CREATE ROLE skep LOGIN; CREATE SCHEMA skep AUTHORIZATION skep");
    let theirs = server.url("owned").replace("postgres@", "skep@");
    drop(open(&theirs).await);
    server.sql(
        "owned",
        "DROP TABLE skep.told; DROP TABLE skep.change_log; DROP TRIGGER emptied ON skep.apis; DROP TRIGGER emptied ON skep.keys;
        DROP TRIGGER emptied ON skep.removals; DROP TRIGGER emptied ON skep.holds;
        UPDATE skep.installation SET schema = 3",
    );
    drop(open(&server.url("owned")).await);
    let records = open(&theirs).await;
    records.put(&record("a")).await.unwrap();
    let others =
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'skep'::regnamespace AND relowner <> 'skep'::regrole";
    assert_eq!(server.sql("owned", others), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_examined_without_being_changed_whatever_state_it_is_in() {
    let server = server::Postgres::start();
    let url = server.database("examined");
    let look = async |place: Place| examine::examine(&place).await.unwrap();
    let sql = |sql: &str| server.sql("examined", sql);
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('skep')";

    let empty = look(place(&url)).await;
    assert_eq!((empty.schema, empty.owner, empty.trouble, empty.is_writable), (None, None, None, true));
    assert_eq!(sql(tables), "0", "what was tried is undone");

    drop(open(&url).await);
    let made = look(place(&url)).await;
    assert_eq!((made.schema, made.owner.as_deref(), made.trouble), (Some(made.known), Some(OWNER), None));

    // An earlier schema, and something in the way of the next.
    sql("DROP TABLE skep.told; DROP TABLE skep.change_log; DROP TRIGGER emptied ON skep.apis; DROP TRIGGER emptied ON skep.keys;
        DROP TRIGGER emptied ON skep.removals; DROP TRIGGER emptied ON skep.holds;
        UPDATE skep.installation SET schema = 3");
    let earlier = look(place(&url)).await;
    assert_eq!((earlier.schema, earlier.trouble), (Some(3), None));
    sql("CREATE TABLE skep.change_log (theirs text)");
    let before = sql(tables);
    let trouble = look(place(&url)).await.trouble.unwrap();
    assert!(trouble.contains("\"change_log\" already exists"), "{trouble}");
    assert_eq!(sql(tables), before);
    sql("DROP TABLE skep.change_log");
    drop(open(&url).await);

    sql("UPDATE skep.installation SET schema = 99");
    assert_eq!(look(place(&url)).await.schema, Some(99));
    sql("CREATE ROLE nobody LOGIN; REVOKE CREATE ON DATABASE examined FROM PUBLIC");
    let nobody = url.replace("postgres@", "nobody@");
    let trouble = look(Place { schema: "elsewhere".to_owned(), ..place(&nobody) }).await.trouble.unwrap();
    assert!(trouble.contains("permission denied"), "{trouble}");
    sql("ALTER DATABASE examined SET default_transaction_read_only = on");
    assert!(!look(place(&url)).await.is_writable);
}
