//! All that a database may go through while callers ask: they see nothing of it, the status says what waits and why,
//! deploys wait and come after, and each answer is counted once.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::apps::saying;
use crate::callers::Callers;
use crate::databases::{begin, begin_at};
use crate::http::Request;
use crate::proxy::Proxy;
use crate::server::{Postgres, program};
use crate::world::World;

const DATABASE: &str = "postgres_of_a_team";

/// What is counted of good answers.
const SUM: &str = "SELECT coalesce(sum(requests), 0) FROM skep.usage WHERE api = 'hello' AND status = 200";

/// One API that serves, and callers who ask it.
struct Scene {
    world: World,
    callers: Callers,
    /// Good answers before the callers began.
    before: u64,
}

impl Scene {
    fn of(world: World) -> Self {
        world.code("hello", &saying("one"));
        world.serve();
        Self::served(world)
    }

    /// As [`Scene::of`], where a daemon is at work already.
    fn served(world: World) -> Self {
        world.expect_rest("hello", "synced", "healthy");
        let key = world.run(&["keys", "create", "--name", "web"]).expect(0).out.trim().to_owned();
        world.until("the key opens", || world.send(&Request::get("/run/hello/").key(&key)).status == 200);
        let callers = Callers::start(&world, "hello", &key);
        Self { world, callers, before: 1 }
    }

    /// What the daemon says that waits.
    fn waits(&self) -> String {
        let key = std::fs::read_to_string(self.world.state().join("admin.key")).unwrap();
        let health = self.world.send(&Request::get("/health").key(key.trim())).json();
        assert_eq!(health["waits"].is_string(), health["status"] == "degraded", "{health}");
        health["waits"].as_str().unwrap_or_default().to_owned()
    }

    /// Saves other code and waits until all of this is said to wait; `skep status` says so, too.
    fn expect_waiting(&self, saved: &str, words: &[&str]) {
        self.world.code("hello", saved);
        self.world.until(&format!("the daemon says {words:?}"), || {
            let waits = self.waits();
            words.iter().all(|word| waits.contains(word))
        });
        let public = self.world.send(&Request::get("/health")).text();
        assert!(
            public.contains("deploys wait") && !public.contains(words[1]),
            "everybody is told that, and not why: {public}"
        );
        let status = self.world.run(&["status"]);
        let said = format!("{}{}", status.out, status.err);
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {status:?}");
        assert_eq!(self.callers.ask(&self.world).text(), "one", "a deploy that cannot be written down is none");
    }

    /// Waits until what was saved serves, nothing waits any more, and all is counted once, as `sum` says it.
    fn expect_over(self, text: &str, mut sum: impl FnMut() -> u64) {
        let Self { world, callers, before } = &self;
        world.until("what was saved meanwhile serves", || callers.ask(world).text() == text);
        world.until("nothing waits any more", || self.waits().is_empty());
        world.expect_rest("hello", "synced", "healthy");
        let status = world.run(&["status", "--output", "json"]).expect(0).json();
        assert!(status["waits"].is_null(), "{status}");
        let (world, before) = (&self.world, *before);
        let answered = self.callers.end() + before;
        world.until("all are counted once", || {
            let written = sum();
            assert!(written <= answered, "{written} are written of {answered}");
            written == answered
        });
        println!("{answered} answers, each counted once");
    }
}

fn sum(server: &Postgres) -> u64 {
    server.sql(DATABASE, SUM).parse().unwrap()
}

/// Ends what others than us are connected with.
fn end_connections(server: &Postgres) {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'skep'";
    server.sql("postgres", end);
}

#[test]
fn a_database_that_is_slow_falls_silent_and_breaks_off_under_load() {
    let server = Postgres::start();
    server.database(DATABASE);
    let proxy = Proxy::start(server.port());
    let scene = Scene::of(begin_at(Postgres::url_at(proxy.port(), DATABASE), ""));
    // Slow alone: all goes on, and takes its time.
    proxy.delay(Duration::from_millis(300));
    scene.world.code("hello", &saying("slow"));
    scene.world.until("it is deployed all the same", || scene.callers.ask(&scene.world).text() == "slow");
    scene.world.code("hello", &saying("one"));
    scene.world.until("and back", || scene.callers.ask(&scene.world).text() == "one");
    scene.world.expect_rest("hello", "synced", "healthy");
    // Breaking off again and again, also in the middle of answers.
    proxy.delay(Duration::from_millis(30));
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(210));
        proxy.break_off();
    }
    proxy.silence(true);
    scene.world.code("hello", &saying("two"));
    scene.world.until("the daemon says so", || scene.waits().contains("it does not answer in time; callers"));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(scene.callers.ask(&scene.world).text(), "one");
    proxy.silence(false);
    proxy.delay(Duration::ZERO);
    scene.expect_over("two", || sum(&server));
}

#[test]
fn a_database_that_is_read_only_for_a_while() {
    let server = Postgres::start();
    let scene = Scene::of(begin(&server, ""));
    server.sql("postgres", &format!("ALTER DATABASE {DATABASE} SET default_transaction_read_only = on"));
    end_connections(&server);
    let words = ["takes no writes since", "is read-only", "deploys wait", "what is counted waits in memory"];
    scene.expect_waiting(&saying("two"), &words);
    server.sql("postgres", &format!("ALTER DATABASE {DATABASE} RESET default_transaction_read_only"));
    scene.expect_over("two", || sum(&server));
}

#[test]
fn a_database_that_has_no_connection_left_for_us() {
    let server = Postgres::start_with(&["max_connections=20", "superuser_reserved_connections=3"]);
    server.sql("postgres", "CREATE ROLE skep LOGIN; CREATE ROLE others LOGIN");
    let address = server.database(DATABASE).replace("postgres@", "skep@");
    server.sql("postgres", &format!("ALTER DATABASE {DATABASE} OWNER TO skep"));
    let scene = Scene::of(begin_at(address, ""));
    let others = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'others'";
    let mut hogs = Hogs::default();
    scene.world.until("others have all connections", || {
        hogs.come(&server);
        end_connections(&server);
        server.sql("postgres", others) == "17"
    });
    scene.expect_waiting(
        &saying("two"),
        &["cannot be used since", "max_connections", "deploys wait", "waits in memory"],
    );
    drop(hogs);
    scene.expect_over("two", || sum(&server));
}

/// Others, who take connections and do nothing with them.
#[derive(Default)]
struct Hogs(Vec<Child>);

impl Hogs {
    fn come(&mut self, server: &Postgres) {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-h", "127.0.0.1", "-U", "others", "-p", &server.port().to_string(), "-d", "postgres"]);
        // Waits for what it is told, for as long as it lives.
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.0.extend((0..3).map(|_| psql.spawn().expect("psql")));
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

#[test]
fn a_database_whose_disk_is_full_for_a_while() {
    let server = Postgres::start_with_small_disk();
    server.sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", server.small_disk().display()));
    server.sql("postgres", &format!("CREATE DATABASE {DATABASE} TABLESPACE small"));
    let scene = Scene::of(begin_at(server.url(DATABASE), ""));
    server.sql(DATABASE, "CREATE TABLE filler (bytes text); ALTER TABLE filler ALTER bytes SET STORAGE EXTERNAL");
    // In smaller and smaller pieces, since the last that does not fit leaves the room that it wanted.
    for kib in [512, 64, 8] {
        let more = format!("INSERT INTO filler SELECT repeat('x', {kib} * 1024 - 200)");
        while server.sql_as("postgres", DATABASE, &more).is_ok() {}
    }
    // Of a size that needs room, whatever is free within what is there.
    let noise: String = (0..6000_u32).map(|n| format!("# {:08x}\n", n.wrapping_mul(2_654_435_761))).collect();
    let words = ["takes no writes since", "No space left on device", "disk is full; free some", "deploys wait"];
    scene.expect_waiting(&format!("{}\n{noise}", saying("two")), &words);
    server.sql(DATABASE, "DROP TABLE filler");
    scene.expect_over("two", || sum(&server));
}

#[test]
fn a_database_whose_standby_takes_over_under_load() {
    let mut primary = Postgres::start();
    primary.database(DATABASE);
    let standby = primary.standby();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let address = format!("postgres://postgres@{hosts}/{DATABASE}?target_session_attrs=read-write");
    let scene = Scene::of(begin_at(address, ""));
    primary.kill();
    // What is left takes no writes, and is not what the address asks for.
    scene.expect_waiting(&saying("two"), &["cannot be used since", "Z: ", "deploys wait", "waits in memory"]);
    standby.sql("postgres", "SELECT pg_promote()");
    scene.expect_over("two", || sum(&standby));
}

#[test]
fn a_database_whose_address_leads_to_the_standby_from_now_on() {
    let mut primary = Postgres::start();
    primary.database(DATABASE);
    let standby = primary.standby();
    let proxy = Proxy::start(primary.port());
    let scene = Scene::of(begin_at(Postgres::url_at(proxy.port(), DATABASE), ""));
    primary.kill();
    // The address is moved before the standby is told to take over.
    proxy.lead_to(standby.port());
    scene.expect_waiting(&saying("two"), &["takes no writes since", "read-only", "deploys wait", "waits in memory"]);
    standby.sql("postgres", "SELECT pg_promote()");
    scene.expect_over("two", || sum(&standby));
}

#[test]
fn a_database_that_is_restored_from_an_old_backup_under_load() {
    let server = Postgres::start();
    let world = begin(&server, "");
    world.code("hello", &saying("zero"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let early = world.run(&["keys", "create", "--name", "early"]).expect(0).out.trim().to_owned();
    world.until("the key opens", || world.send(&Request::get("/run/hello/").key(&early)).status == 200);
    world.until("that is counted", || sum(&server) == 1);
    let (dump, counted) = (server.dump(DATABASE, "skep"), 1);
    // Another daemon leads since, another revision serves, and there is another key.
    world.crash();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let late = world.run(&["keys", "create", "--name", "late"]).expect(0).out.trim().to_owned();
    world.until("the other key opens", || world.send(&Request::get("/run/hello/").key(&late)).status == 200);
    let callers = Callers::start(&world, "hello", &early);
    let scene = Scene { world, callers, before: 2 };
    scene.world.until("others are counted", || sum(&server) > 100);
    let containers = scene.world.containers("hello");
    // Nobody is in the middle of a batch when it goes: what was in by then goes with it, and nothing else.
    let gone: u64 = server.restore(DATABASE, "skep", &dump, SUM).parse().unwrap();
    assert_eq!(scene.callers.ask(&scene.world).text(), "one", "what serves goes on serving");
    scene.world.until("the row catches up", || {
        let row =
            "SELECT a.serving_revision = (SELECT revision FROM skep.revisions ORDER BY since DESC LIMIT 1), count(r)
FROM skep.apis a JOIN skep.revisions r ON r.api = a.id WHERE id = 'hello' GROUP BY 1";
        server.sql(DATABASE, row) == "t|2"
    });
    let lost = "SELECT count(*) FROM skep.apis a, jsonb_each(a.served->'files') f
LEFT JOIN skep.blobs b ON b.digest = f.value->>'digest' WHERE b.digest IS NULL";
    assert_eq!(server.sql(DATABASE, lost), "0", "the files of what serves are kept again");
    // Until it is noticed that the key is gone, its answers are answers like others.
    let mut late_answers = 0;
    scene.world.until("the key of later opens nothing", || {
        let status = scene.world.send(&Request::get("/run/hello/").key(&late)).status;
        late_answers += u64::from(status == 200);
        status == 401
    });
    scene.world.expect_rest("hello", "synced", "healthy");
    assert_eq!(scene.world.containers("hello"), containers, "nothing was started anew");
    let health = scene.world.send(&Request::get("/health")).json();
    assert_eq!(health["role"], "leader", "{health}");
    scene.world.code("hello", &saying("two"));
    scene.expect_over("two", || sum(&server) + gone - counted - late_answers);
}
