//! The ways to a Postgres: pools before it, TLS, roles with few rights, and what owners may see.

use std::time::{Duration, Instant};

use skep::records::postgres::{Place, Postgres};
use skep::records::{KeyScope, NewKey, Records};
use skep::world::Hold;

use crate::pool::Pool;
use crate::server;
use crate::suite::{at, event, id, leading, pruning, record, suite};
use crate::usage;

const OWNER: &str = "0123456789ab";

fn place(url: &str, connections: usize) -> Place {
    Place::parse(url, None, "skep", OWNER, connections).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_work_behind_pools_by_transaction_and_by_session() {
    let server = server::Postgres::start();
    for mode in ["transaction", "session"] {
        let pool = Pool::start(&server, mode);
        for (name, connections) in [("suite", 4), ("one", 1)] {
            let database = format!("{name}_{mode}");
            server.database(&database);
            let url = server::Postgres::url_at(pool.port(), &database);
            let records = Postgres::open(&place(&url, connections)).await.unwrap();
            suite(&records).await;
        }
        for (name, part) in [("leading", 0), ("pruning", 1), ("usage", 2)] {
            let database = format!("{name}_{mode}");
            server.database(&database);
            let url = server::Postgres::url_at(pool.port(), &database);
            let records = Postgres::open(&place(&url, 3)).await.unwrap();
            match part {
                0 => leading(&records).await,
                1 => pruning(&records).await,
                _ => usage::usage(&records).await,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_is_heard_of_soon_also_where_a_pool_keeps_notifications_back() {
    let server = server::Postgres::start();
    let pool = Pool::start(&server, "transaction");
    server.database("pooled");
    let records = Postgres::open(&place(&server::Postgres::url_at(pool.port(), "pooled"), 4)).await.unwrap();
    let before = records.version().await.unwrap();
    server.sql("pooled", "INSERT INTO skep.removals VALUES ('x')");
    let deadline = Instant::now() + Duration::from_secs(60);
    while records.version().await.unwrap() == before {
        assert!(Instant::now() < deadline);
        records.changed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_show_who_it_is_as_far_as_sslmode_says() {
    let server = certified();
    server.database("safe");
    let ca = server.folder().join("ca.crt");
    let url = |host: &str, query: &str| format!("postgres://postgres@{host}:{}/safe?{query}", server.port());
    let with_ca = |mode: &str| format!("sslmode={mode}&sslrootcert={}", ca.display().to_string().replace('/', "%2F"));
    let connect =
        async |url: String| Postgres::open(&place(&url, 1)).await.map(drop).map_err(|error| error.to_string());
    // The certificate is for `localhost` alone.
    for good in [
        url("localhost", &with_ca("verify-full")),
        url("localhost", &with_ca("verify-ca")),
        url("127.0.0.1", &with_ca("verify-ca")),
        url("127.0.0.1", "sslmode=require"),
        url("127.0.0.1", "sslmode=prefer"),
    ] {
        connect(good.clone()).await.unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for (bad, why) in [
        (url("127.0.0.1", &with_ca("verify-full")), "for another name"),
        (url("localhost", "sslmode=verify-full"), "signed by nobody whom this host trusts"),
        (url("localhost", "sslmode=verify-ca"), "records: { ca: prod-ca.crt }"),
        (url("localhost", "sslmode=verify-full&sslrootcert=%2Fnowhere.crt"), "/nowhere.crt cannot be used"),
    ] {
        let error = connect(bad.clone()).await.unwrap_err();
        assert!(error.contains(why), "{bad}: {error}");
    }
    // What is encrypted is, in the server's own eyes.
    let records = Postgres::open(&place(&url("localhost", &with_ca("verify-full")), 2)).await.unwrap();
    records.keys().await.unwrap();
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'skep' AND NOT ssl";
    assert_eq!(server.sql("safe", plain), "0");
    // And a server without TLS is refused where it is asked for.
    let without = server::Postgres::start();
    let error = connect(format!("{}?sslmode=require", without.url("postgres"))).await.unwrap_err();
    assert!(error.contains("sslmode=disable"), "{error}");
}

/// A server with a certificate for `localhost`, signed by an authority of its own in `ca.crt`.
fn certified() -> server::Postgres {
    let mut server = server::Postgres::start();
    let folder = server.folder().to_owned();
    let script = "set -e; cd \"$1\"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
            -keyout ca.key -out ca.crt -addext basicConstraints=critical,CA:true
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:false\\n' >ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt
        chmod 600 server.key; chmod 644 ca.crt";
    let made = server::as_server(std::path::Path::new("sh")).args(["-c", script, "sh"]).arg(&folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    server.stop();
    let setting = |name: &str, file: &str| format!("{name}={}", folder.join(file).display());
    server.set(&["ssl=on".to_owned(), setting("ssl_cert_file", "server.crt"), setting("ssl_key_file", "server.key")]);
    server.resume();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_owns_its_schema_and_nothing_else_suffices() {
    let server = server::Postgres::start();
    server.database("least");
    // As docs/postgres.md has it.
    server.sql(
        "least",
        "REVOKE CREATE ON DATABASE least FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
         CREATE ROLE admin LOGIN NOSUPERUSER CREATEROLE; GRANT CREATE ON DATABASE least TO admin",
    );
    for sql in [
        "CREATE ROLE skep LOGIN NOINHERIT",
        "GRANT skep TO CURRENT_USER",
        "CREATE SCHEMA skep AUTHORIZATION skep",
        "REVOKE skep FROM CURRENT_USER",
    ] {
        server.sql_as("admin", "least", sql).unwrap();
    }
    let url = server.url("least").replace("postgres@", "skep@");
    let records = Postgres::open(&place(&url, 4)).await.unwrap();
    suite(&records).await;
    server.sql("least", "CREATE ROLE nobody LOGIN");
    let url = server.url("least").replace("postgres@", "nobody@");
    let elsewhere = Place { schema: "elsewhere".to_owned(), ..place(&url, 4) };
    let error = Postgres::open(&elsewhere).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("docs/postgres.md"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_see_what_is_theirs_and_nobody_sees_anything_else() {
    let server = server::Postgres::start();
    server.database("shared");
    // The roles of a Supabase project, and who asks, as its API says it.
    server.sql("shared", "CREATE ROLE anon LOGIN; CREATE ROLE authenticated LOGIN");
    let records = Postgres::open(&place(&server.url("shared"), 4)).await.unwrap();
    for name in ["mine", "theirs"] {
        records.put(&record(name)).await.unwrap();
        records.add_event(&event(Some(name), name)).await.unwrap();
        records.put_revision(&id(name), &record(name).served.unwrap()).await.unwrap();
    }
    records.add_event(&event(None, "everybody's")).await.unwrap();
    records.add_key(&NewKey::generate("web", KeyScope::All, at(0)).key).await.unwrap();
    for (number, name) in (1..).zip(["mine", "theirs"]) {
        let what = usage::asked(0, Some(name), skep::usage::UsedBy::Nobody, 200, 3, 1);
        records.add_usage(&usage::batch("d", number, vec![what])).await.unwrap();
        let (by, why) = ("ada".to_owned(), "so".to_owned());
        let hold = Hold { on: None, serve: None, by, why, at: at(1), until: None, stays: true };
        records.put_hold(&id(name), &hold).await.unwrap();
    }
    let (me, them) = ("7a1f9b8e-0000-4000-8000-000000000001", "7a1f9b8e-0000-4000-8000-000000000002");
    server.sql("shared", &format!("INSERT INTO skep.owners VALUES ('mine', '{me}'), ('theirs', '{them}')"));
    let ask = |role: &str, sub: Option<&str>, sql: &str| {
        let claims = sub.map_or(String::new(), |sub| format!("SET request.jwt.claims = '{{\"sub\": \"{sub}\"}}'; "));
        server.sql_as(role, "shared", &format!("{claims}{sql}"))
    };
    for (sql, mine) in [
        ("SELECT id FROM skep.apis", "mine"),
        ("SELECT message FROM skep.events", "mine"),
        ("SELECT api FROM skep.revisions", "mine"),
        ("SELECT api FROM skep.owners", "mine"),
        ("SELECT api, requests FROM skep.usage_totals", "mine|3"),
        ("SELECT api, sum(requests) FROM skep.usage GROUP BY api", "mine|3"),
        ("SELECT api FROM skep.holds", "mine"),
    ] {
        assert_eq!(ask("authenticated", Some(me), sql).unwrap(), mine, "{sql}");
        assert_eq!(ask("authenticated", None, sql).unwrap(), "", "{sql}: whoever has not signed in sees nothing");
        assert_eq!(ask("authenticated", Some("7a1f9b8e-0000-4000-8000-000000000003"), sql).unwrap(), "", "{sql}");
        assert_eq!(ask("authenticated", Some("auth0|no-uuid"), sql).unwrap(), "", "{sql}");
        assert!(ask("anon", Some(me), sql).unwrap_err().contains("permission denied"), "{sql}");
    }
    // Secrets of the installation, keys and blobs are nobody's to read, and nothing is anybody's to write.
    for sql in [
        "SELECT served FROM skep.apis",
        "SELECT served FROM skep.revisions",
        "SELECT hash FROM skep.keys",
        "SELECT bytes FROM skep.blobs",
        "SELECT hold FROM skep.holds",
        "SELECT * FROM skep.lease",
        "UPDATE skep.apis SET name = 'x'",
        "DELETE FROM skep.events",
        "INSERT INTO skep.owners VALUES ('theirs', '7a1f9b8e-0000-4000-8000-000000000001')",
        "SELECT skep.note_change()",
    ] {
        let refused = ask("authenticated", Some(me), sql).unwrap_err();
        assert!(refused.contains("permission denied"), "{sql}: {refused}");
    }
    // Every table has row-level security, also for a role that is granted more by mistake.
    server.sql("shared", "GRANT SELECT ON ALL TABLES IN SCHEMA skep TO authenticated");
    assert_eq!(ask("authenticated", Some(me), "SELECT count(*) FROM skep.keys").unwrap(), "0");
    assert_eq!(ask("authenticated", Some(me), "SELECT id FROM skep.apis").unwrap(), "mine");
    let bare = "SELECT count(*) FROM pg_class WHERE relnamespace = 'skep'::regnamespace AND relkind = 'r' AND NOT relrowsecurity";
    assert_eq!(server.sql("shared", bare), "0");
}
