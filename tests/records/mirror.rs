//! A table of the system before is kept as that system kept it.

use std::time::Duration;

use skep::reconcile::status::{Health, Status};
use skep::records::postgres::{Place, Postgres};
use skep::records::sqlite::Sqlite;
use skep::records::{Mirror, Records};
use skep::usage::{Counted, Grain, Slot, Tally, UsageBatch, UsedBy};
use skep::world::Record;

use crate::server;
use crate::suite::{id, record};

const MINE: &str = "7a1f9b8e-0000-4000-8000-000000000001";
const OTHER: &str = "7a1f9b8e-0000-4000-8000-000000000002";

fn asked(number: u64, requests: u32) -> UsageBatch {
    let mut tally = Tally::default();
    (0..requests).for_each(|_| tally.count(1, 2, Duration::from_millis(3)));
    let what = Counted { slot: Slot::of(Grain::Minute, 0), api: Some(id(MINE)), by: UsedBy::Nobody, status: 200 };
    UsageBatch { daemon: "d".into(), number, entries: vec![(what, tally)].into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_address_and_count_follow_and_nothing_else_of_the_table_is_touched() {
    let server = server::Postgres::start();
    let url = server.database("mirrored");
    let sql = |sql: &str| server.sql("mirrored", sql);
    // As the system before had it; in one team's database the status is a type of its own, in others a text.
    sql("CREATE TYPE public.api_status AS ENUM ('active', 'paused', 'failed');
         CREATE TABLE public.apis (id uuid PRIMARY KEY, name text, status public.api_status NOT NULL, endpoint_url text,
             api_key text, usage_count integer)");
    sql(&format!(
        "INSERT INTO public.apis VALUES ('{MINE}', 'mine', 'active', 'http://old/run/{MINE}', 'secret', 40),
             ('{OTHER}', 'other', 'failed', NULL, 'secret too', NULL)"
    ));
    let place = Place::parse(&url, None, "skep", "0123456789ab", 3).unwrap();
    let records = Postgres::open(&place).await.unwrap();
    let mirror = Mirror { table: "public.apis".to_owned(), url: Some("https://apis.test/".to_owned()) };
    let row = |id: &str| sql(&format!("SELECT status, endpoint_url, usage_count FROM public.apis WHERE id = '{id}'"));
    let put = async |health| {
        let status = Status { health, ..record("x").status };
        records.put(&Record { id: id(MINE), status, ..record("x") }).await.unwrap();
        records.mirror(&mirror).await.unwrap()
    };
    assert_eq!(put(Health::Stopped).await, 1);
    assert_eq!(row(MINE), format!("paused|https://apis.test/run/{MINE}|40"));
    assert_eq!(records.mirror(&mirror).await.unwrap(), 0, "what is true is not written again");
    put(Health::Missing).await;
    assert!(row(MINE).starts_with("failed|"));
    for served in [Health::Healthy, Health::Degraded, Health::Progressing] {
        put(served).await;
        assert!(row(MINE).starts_with("active|"), "{served:?}");
    }

    // What is counted is added, once.
    records.add_usage(&asked(1, 3)).await.unwrap();
    records.add_usage(&asked(1, 3)).await.unwrap();
    records.mirror(&mirror).await.unwrap();
    records.mirror(&mirror).await.unwrap();
    records.add_usage(&asked(2, 5)).await.unwrap();
    records.mirror(&Mirror { url: None, ..mirror.clone() }).await.unwrap();
    assert_eq!(row(MINE), format!("active|https://apis.test/run/{MINE}|48"));
    assert_eq!(row(OTHER), "failed||", "an API that is not ours");
    assert_eq!(sql("SELECT name, api_key FROM public.apis ORDER BY name"), "mine|secret\nother|secret too");

    // Somebody who holds a lock on the table holds up nothing but the mirror.
    let lock = std::thread::spawn({
        let url = (server.port(), "BEGIN; LOCK TABLE public.apis; SELECT pg_sleep(4); COMMIT");
        move || {
            let mut psql = std::process::Command::new(server::program("psql"));
            psql.args(["-X", "-q", "-h", "127.0.0.1", "-U", "postgres", "-d", "mirrored", "-p", &url.0.to_string()]);
            assert!(psql.args(["-c", url.1]).status().unwrap().success());
        }
    });
    let locked =
        "SELECT count(*) FROM pg_locks WHERE relation = 'public.apis'::regclass AND mode = 'AccessExclusiveLock'";
    while sql(locked) == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    records.add_usage(&asked(3, 2)).await.unwrap();
    let mut refused = records.mirror(&mirror);
    assert!(futures_util::poll!(&mut refused).is_pending());
    records.put(&record("beside")).await.unwrap();
    assert!(futures_util::poll!(&mut refused).is_pending(), "a write has waited for the mirror");
    assert!(refused.await.unwrap_err().to_string().contains("lock timeout"));
    lock.join().unwrap();
    records.mirror(&mirror).await.unwrap();
    assert!(row(MINE).ends_with("|50"), "{}", row(MINE));

    // A table that is not there is named; so is a file that cannot hold one.
    let nowhere = Mirror { table: "public.nowhere".to_owned(), url: None };
    assert!(records.mirror(&nowhere).await.unwrap_err().to_string().contains("public.nowhere"));
    let file = Sqlite::in_memory().unwrap().mirror(&mirror).await.unwrap_err().to_string();
    assert!(file.contains("set SKEP_DB_URL"), "{file}");
}
