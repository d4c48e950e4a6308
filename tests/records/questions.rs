//! What the gateway and the reconciler ask of a Postgres finds its rows by an index, however many there are.

use jiff::{SignedDuration, Timestamp};
use skep::records::postgres::{Place, Postgres};
use skep::records::{KeyScope, NewKey, Records};
use skep::tree::Digest;
use skep::usage::{Fold, UsageBy, UsageQuery};
use skep::world::{Hold, Record};

use crate::plans::{Plans, TOLD};
use crate::server;
use crate::suite::{at, event, id, record, saying};
use crate::usage::{asked, batch, key};

#[tokio::test(flavor = "multi_thread")]
async fn postgres_reads_no_large_table_from_end_to_end_for_what_is_asked_all_the_time() {
    // With so few rows reading all of them is best; where that is forbidden, only what no index can find is found that way.
    let server = server::Postgres::start_with(&[&TOLD[..], &["enable_seqscan=off"]].concat());
    let place = Place::parse(&server.database("plans"), None, "skep", "0123456789ab", 4).unwrap();
    let records = Postgres::open(&place).await.unwrap();
    records.put(&record("a")).await.unwrap();
    // Once whole, as at a start.
    records.each().await.unwrap();
    records.keys().await.unwrap();

    let plans = Plans::begin(&server);
    ask(&records).await;
    let (count, scans) = plans.end(&server);
    assert!(count > 60, "the server tells of {count} statements only");
    assert_eq!(scans, [""; 0]);

    // The test can fail.
    for (sql, table) in [
        ("SELECT FROM skep.events WHERE kind = 'built'", "events: "),
        ("SELECT FROM skep.keys WHERE name = 'one' ORDER BY id", "keys: "),
    ] {
        let plans = Plans::begin(&server);
        server.sql("plans", sql);
        assert!(plans.end(&server).1.first().is_some_and(|scan| scan.starts_with(table)), "{sql}");
    }
}

async fn ask(records: &dyn Records) {
    let (a, now) = (id("a"), Timestamp::now());
    records.put(&Record { status: saying(1), updated: at(5), ..record("a") }).await.unwrap();
    records.put(&record("b")).await.unwrap();
    records.get(&a).await.unwrap();
    records.put_revision(&a, &record("a").served.unwrap()).await.unwrap();
    records.revisions(&a).await.unwrap();
    let digest = Digest::of(b"x");
    records.put_blobs(&[(digest, b"x"[..].into())]).await.unwrap();
    records.missing_blobs(&[digest]).await.unwrap();
    records.blob(&digest).await.unwrap();
    let number = records.add_event(&event(Some("a"), "one")).await.unwrap();
    records.events(None, number, 10).await.unwrap();
    records.events(Some(&a), number, 10).await.unwrap();
    records.last_events(None, 10).await.unwrap();
    records.last_events(Some(&a), 10).await.unwrap();

    let one = NewKey::generate("one", KeyScope::All, now).key;
    records.add_key(&one).await.unwrap();
    let two = one.rotate(now).key;
    records.rotate_key(&one.id, &two, now).await.unwrap();
    records.revoke_key(&two.id, now).await.unwrap();
    records.touch_keys(&[(one.hash, now), (two.hash, now)]).await.unwrap();
    records.version().await.unwrap();
    assert_eq!(records.keys().await.unwrap(), []);

    let hold =
        Hold { on: None, serve: None, by: "ada".into(), why: String::new(), at: at(1), until: None, stays: true };
    records.put_hold(&a, &hold).await.unwrap();
    assert_eq!(records.each().await.unwrap()[&a].as_ref().unwrap().hold, Some(hold.clone()));
    records.release(&a).await.unwrap();
    records.release_spent(&a, &hold).await.unwrap();
    records.confirm_removal(std::slice::from_ref(&a)).await.unwrap();
    records.withdraw_removal(std::slice::from_ref(&a)).await.unwrap();
    records.confirmed_removals().await.unwrap();

    let epoch = records.claim(&records.lease().await.unwrap(), "me").await.unwrap().unwrap();
    records.fence(Some(epoch));
    records.renew(epoch).await.unwrap();
    records.check_fence().await.unwrap();
    records.follow("other").await.unwrap();
    records.followers().await.unwrap();
    records.announce("container").await.unwrap();
    records.leaving().await.unwrap();
    records.let_go("container", "other").await.unwrap();
    records.left("container").await.unwrap();
    records.dismiss("other").await.unwrap();

    let minute = now.as_second() / 60 * 60;
    let (web, none) = (key("k_1", "web"), skep::usage::UsedBy::Nobody);
    let entries = vec![asked(minute, Some("a"), web, 200, 3, 2), asked(minute, None, none, 401, 1, 2)];
    records.add_usage(&batch("d", 1, entries)).await.unwrap();
    let since = now - SignedDuration::from_hours(24);
    for by in [UsageBy::Api, UsageBy::Key, UsageBy::Status, UsageBy::Hour, UsageBy::Day] {
        for api in [None, Some(a.clone())] {
            records.usage(&UsageQuery { api, key: None, since, by }).await.unwrap();
        }
    }
    let fold = Fold { minutes_before: now, hours_before: since, all_before: at(0) };
    while records.fold_usage(&fold).await.unwrap() {}
    records.resign(epoch).await.unwrap();
    records.fence(None);
    records.forget(&a).await.unwrap();
}
