//! Records in a Postgres: the whole loop on it, and callers who see nothing of its troubles.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::apps::saying;
use crate::callers::Callers;
use crate::http::Request;
use crate::pool::Pool;
use crate::server::Postgres;
use crate::world::World;

/// A world whose records are in a database of that server's.
pub fn begin(server: &Postgres, settings: &str) -> World {
    begin_at(server.database("postgres_of_a_team"), settings)
}

/// A world whose records are at that address.
pub fn begin_at(address: String, settings: &str) -> World {
    let mut world = World::new();
    world.database = Some(address);
    let defaults = World::apart("defaults:\n  deploy: { drain: 5s }\n");
    world.write("skep.yaml", &format!("{defaults}{settings}"));
    world
}

#[test]
fn a_team_keeps_its_records_in_postgres_and_hands_there_are_noticed() {
    let server = Postgres::start();
    let world = begin(&server, "");
    let sql = |sql: &str| server.sql("postgres_of_a_team", sql);
    world.code("hello", &saying("one"));
    let git = |folder: &Path, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(folder).args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]).args(arguments);
        let done = git.output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let (root, clone) = (world.root(), world.aside().join("clone"));
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "apis"]);
    git(&root, &["commit", "-q", "-m", "Say one"]);
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    assert!(!world.state().join("records.db").exists(), "nothing is kept beside it");
    let key = world.run(&["keys", "create", "--name", "web"]).expect(0).out.trim().to_owned();
    let ask = || world.send(&Request::get("/run/hello/").key(&key));
    world.until("the key opens", || ask().status == 200);
    assert_eq!(sql("SELECT id, sync, health FROM skep.apis"), "hello|synced|healthy");
    assert!(!sql("SELECT * FROM skep.keys").contains(&key), "only the hash is kept");

    // Another revision, and back.
    git(&root, &["clone", "-q", ".", clone.to_str().unwrap()]);
    std::fs::write(clone.join("apis/hello/main.py"), saying("two")).unwrap();
    git(&clone, &["commit", "-q", "-a", "-m", "Say two"]);
    git(&root, &["pull", "-q", clone.to_str().unwrap(), "main"]);
    world.until("the new code answers", || ask().text() == "two");
    world.run(&["rollback", "hello", "--why", "two is too many"]).expect(0);
    world.until("the old code answers", || ask().text() == "one");
    world.run(&["release", "hello"]).expect(0);
    world.until("the new code answers again", || ask().text() == "two");
    assert_eq!(sql("SELECT count(*) FROM skep.revisions WHERE api = 'hello'"), "2");

    let history = world.run(&["history", "hello", "--output", "json"]).expect(0).json();
    assert_eq!(history["revisions"].as_array().unwrap().len(), 2);
    assert_eq!(history["revisions"][0]["serves_now"], true);
    let commit = |place: usize| history["revisions"][place]["origin"]["commit"].clone();
    assert_eq!((&commit(0)["subject"], &commit(0)["author"]), (&"Say two".into(), &"Ada".into()), "{history}");
    assert_eq!(commit(1)["subject"], "Say one", "also after it was gone back to");
    let text = world.run(&["history", "hello"]).expect(0).out;
    assert!(text.contains("gone back to: two is too many by "), "{text}");
    let first = history["revisions"][1]["events"].to_string();
    assert!(first.contains("\"built\"") && first.contains("\"serving\""), "{first}");
    assert!(world.run(&["events", "--since", "1h"]).expect(0).out.contains("rolled back"), "what happened lately");
    assert_eq!(world.run(&["events", "--since", "2200-01-01T00:00:00Z"]).expect(0).out, "");

    // Somebody edits a row, and another deletes it.
    world.expect_rest("hello", "synced", "healthy");
    sql("UPDATE skep.apis SET health = 'missing', name = 'mine'");
    world.until("the row is put right", || sql("SELECT health FROM skep.apis") == "healthy");
    let events = || world.run(&["events", "-n", "200"]).expect(0).out;
    let named = "edited its row in the records: health: \"healthy\" → \"missing\", name: ";
    world.until("the event names the fields", || events().contains(named));
    sql("DELETE FROM skep.apis");
    world.until("the row is there again", || sql("SELECT health FROM skep.apis WHERE id = 'hello'") == "healthy");
    assert!(events().contains("its row in the records is gone"), "{}", events());

    // A key that is revoked by hand opens nothing.
    sql("UPDATE skep.keys SET revoked_at = now()");
    world.until("the key opens nothing", || ask().status == 401);
    world.until("what was asked is counted", || sql("SELECT count(*) > 0 FROM skep.usage WHERE api = 'hello'") == "t");

    // Another daemon takes over from one that was killed; nothing is started anew.
    let before = world.containers("hello");
    world.crash();

    // With nobody at work, the plan names what hands have done, field by field.
    sql("UPDATE skep.apis SET served = jsonb_set(served, '{spec,replicas}', '5'), message = 'all mine'");
    sql("INSERT INTO skep.apis (id, name, sync, health, message, failures, created_at, updated_at)
         VALUES ('ghost', 'Ghost', 'synced', 'healthy', '', '[]', now(), now())");
    let plan = world.run(&["plan"]).expect(0).out;
    for said in [
        "row in the records: message: \"\" → \"all mine\"",
        "row in the records: served.spec.replicas: 1 → 5",
        "the row was added by hand",
        "1 to heal, 1 to remove",
    ] {
        assert!(plan.contains(said), "{said:?} is not in {plan}");
    }
    sql("DELETE FROM skep.apis WHERE id = 'hello'");
    let plan = world.run(&["plan"]).expect(0).out;
    assert!(plan.contains("its row in the records is gone") && plan.contains("1 to heal"), "{plan}");
    // What is the team's own is never written over.
    let again = world.run(&["keys", "create", "--name", "again"]).expect(0).out.trim().to_owned();
    let ask_anew = || world.send(&Request::get("/run/hello/").key(&again));
    let theirs =
        "SELECT (SELECT count(*) FROM skep.owners) || ' ' || (SELECT string_agg(DISTINCT name, ',') FROM skep.keys)";
    sql("INSERT INTO skep.owners VALUES ('hello', '7a1f9b8e-0000-4000-8000-000000000001')");
    sql("UPDATE skep.keys SET name = 'of the website'");
    world.serve();
    world.until("the row that nobody asked for is gone", || sql("SELECT id FROM skep.apis") == "hello");
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(world.containers("hello"), before);
    world.code("hello", &saying("three"));
    world.until("the new code answers", || ask_anew().text() == "three");
    world.until("the new row says so", || sql("SELECT sync || ' ' || health FROM skep.apis") == "synced healthy");
    assert_eq!(sql(theirs), "1 of the website");
    let doctor = world.run(&["doctor"]);
    assert!(doctor.out.contains("PostgreSQL 15"), "{doctor:?}");
}

#[test]
fn callers_see_nothing_of_a_database_that_dies_and_nothing_is_counted_twice_or_not_at_all() {
    let mut server = Postgres::start_with(&["fsync=on"]);
    let world = begin(&server, "");
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let key = world.run(&["keys", "create", "--name", "web"]).expect(0).out.trim().to_owned();
    world.until("the key opens", || world.send(&Request::get("/run/hello/").key(&key)).status == 200);
    let callers = Callers::start(&world, "hello", &key);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        server.kill();
        // A deploy waits for the database, and says so by what still serves.
        world.code("hello", &saying("two"));
        std::thread::sleep(Duration::from_secs(2));
        server.resume();
        world.code("hello", &saying("one"));
    }
    world.code("hello", &saying("three"));
    world.until("what was saved meanwhile serves", || callers.ask(&world).text() == "three");
    // One more by the wait for the key.
    let asked = callers.end() + 1;
    let sum = "SELECT coalesce(sum(requests), 0) FROM skep.usage WHERE api = 'hello' AND status = 200";
    world.until("all are counted once", || {
        let written: u64 = server.sql("postgres_of_a_team", sum).parse().unwrap();
        assert!(written <= asked, "{written} are written of {asked}");
        written == asked
    });
}

#[test]
fn a_daemon_that_starts_without_its_database_serves_what_it_remembers_and_changes_nothing() {
    let mut server = Postgres::start();
    let world = begin(&server, "records: { offline: serve }\n");
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let key = world.run(&["keys", "create", "--name", "web"]).expect(0).out.trim().to_owned();
    let ask = || world.send(&Request::get("/run/hello/").key(&key));
    world.until("the key opens", || ask().status == 200);
    let remembered = world.state().join("remembered.json");
    world.until("it is remembered", || {
        std::fs::read_to_string(&remembered).is_ok_and(|text| text.contains("\"web\"") && text.contains("healthy"))
    });
    let before = world.containers("hello");
    world.crash();
    server.stop();

    world.serve();
    world.until("the key opens without the database", || ask().status == 200);
    world.code("hello", &saying("two"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ask().text(), "one");
    assert_eq!(world.containers("hello"), before, "nothing is changed");

    server.resume();
    world.until("the new code answers once the database is back", || ask().text() == "two");

    // A newer skep has taken the tables along: whoever runs goes on, and whoever starts serves what it remembers.
    let schema = server.sql("postgres_of_a_team", "SELECT schema FROM skep.installation");
    world.expect_rest("hello", "synced", "healthy");
    server.sql("postgres_of_a_team", "UPDATE skep.installation SET schema = 99");
    world.code("hello", &saying("three"));
    world.until("a deploy goes on", || ask().text() == "three");
    let revision = "SELECT serving_revision FROM skep.apis WHERE id = 'hello'";
    let serving = server.sql("postgres_of_a_team", revision);
    world.until("it is remembered", || std::fs::read_to_string(&remembered).unwrap().contains(&serving));
    world.crash();
    world.code("hello", &saying("four"));
    world.serve();
    world.until("the key opens", || ask().status == 200);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ask().text(), "three", "nothing is changed");
    assert_eq!(server.sql("postgres_of_a_team", "SELECT schema FROM skep.installation"), "99");
    let said = world.log();
    assert!(said.contains("use a newer skep; serving as last known"), "{said}");
    server.sql("postgres_of_a_team", &format!("UPDATE skep.installation SET schema = {schema}"));
    world.until("it goes on where the tables are its own again", || ask().text() == "four");
    world.expect_rest("hello", "synced", "healthy");

    // Where nothing is said, a start without the database is an error that says which.
    world.interrupt();
    server.stop();
    world.write("skep.yaml", &World::apart("defaults:\n  deploy: { drain: 5s }\n"));
    let ran = world.run(&["serve"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("cannot open the records at 127.0.0.1:") && ran.err.contains("postgres_of_a_team"),
        "{ran:?}"
    );
}

/// What the system before calls one of its APIs.
const OLD: &str = "7a1f9b8e-0000-4000-8000-000000000001";

#[test]
fn a_daemon_does_with_one_connection_of_a_pool_and_few_rights_and_keeps_an_old_dashboard_true() {
    let server = Postgres::start();
    let database = "supabase";
    server.database(database);
    let sql = |sql: &str| server.sql(database, sql);
    sql("CREATE TABLE public.apis (id uuid PRIMARY KEY, name text, status text NOT NULL, endpoint_url text, api_key text,
        usage_count integer NOT NULL)");
    sql(&format!("INSERT INTO public.apis VALUES ('{OLD}', 'mine', 'failed', 'http://old/', 'secret', 40)"));
    // The rights that docs/postgres.md and docs/import.md name.
    sql("REVOKE CREATE ON DATABASE supabase FROM PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        CREATE ROLE skep LOGIN NOINHERIT; CREATE SCHEMA skep AUTHORIZATION skep;
        GRANT SELECT, UPDATE (status, endpoint_url, usage_count) ON public.apis TO skep");
    let pool = Pool::start_as(&server, "transaction", "skep");
    let address = Postgres::url_at(pool.port(), database);
    let settings = "records: { connections: 1, mirror: public.apis, mirror_url: \"https://apis.test\" }\n";
    let world = begin_at(address, settings);
    world.code(OLD, &saying("one"));
    world.serve();
    world.expect_rest(OLD, "synced", "healthy");
    let old = || sql("SELECT status, endpoint_url, usage_count FROM public.apis");
    world.until("the table says what is", || old() == format!("active|https://apis.test/run/{OLD}|40"));

    let key = world.run(&["keys", "create", "--name", "web"]).expect(0).out.trim().to_owned();
    let mine = std::cell::Cell::new(0);
    let ask = || {
        let reply = world.send(&Request::get(format!("/run/{OLD}/")).key(&key));
        mine.set(mine.get() + u64::from(reply.status == 200));
        reply
    };
    world.until("the key opens", || ask().status == 200);
    let callers = Callers::start(&world, OLD, &key);
    world.code(OLD, &saying("two"));
    world.until("the new code answers", || ask().text() == "two");
    world.expect_rest(OLD, "synced", "healthy");
    let asked = callers.end();
    assert!(asked > 0);
    // Refused ones are counted too.
    let counted = "SELECT requests FROM skep.usage_totals";
    world.until("each request is added once", || {
        old() == format!("active|https://apis.test/run/{OLD}|{}", 40 + sql(counted).parse::<u64>().unwrap())
    });
    let good = "SELECT sum(requests) FROM skep.usage WHERE status = 200";
    world.until("all of them are counted, once", || {
        let written: u64 = sql(good).parse().unwrap();
        assert!(written <= asked + mine.get(), "{written} are written of {}", asked + mine.get());
        written == asked + mine.get()
    });

    world.settings(OLD, "suspend: true\n");
    world.until("the table says that it is paused", || old().starts_with("paused|"));
    sql("UPDATE skep.keys SET revoked_at = now()");
    world.until("a key that is revoked by hand opens nothing", || ask().status == 401);
    assert_eq!(sql("SELECT name, api_key FROM public.apis"), "mine|secret");
}
