//! `skep import supabase` against a real Postgres with tables like the old system's: the program is run, and what it
//! leaves is read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

#[path = "../servers/postgres.rs"]
mod postgres;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use skep::records::sqlite::Sqlite;
use skep::records::{Key, KeyHash, Records};

use postgres::Postgres;

const A: &str = "0b2f6f0e-54b1-4d0c-9a86-0c7b1b1f2d3e";
const B: &str = "1b2f6f0e-54b1-4d0c-9a86-0c7b1b1f2d3e";
const C: &str = "2b2f6f0e-54b1-4d0c-9a86-0c7b1b1f2d3e";
const BROKEN: &str = "3b2f6f0e-54b1-4d0c-9a86-0c7b1b1f2d3e";
const NO_CODE: &str = "4b2f6f0e-54b1-4d0c-9a86-0c7b1b1f2d3e";
const NO_APP: &str = "5b2f6f0e-54b1-4d0c-9a86-0c7b1b1f2d3e";
const USER: &str = "aaaaaaaa-54b1-4d0c-9a86-0c7b1b1f2d3e";
const RICH: &str = "bbbbbbbb-54b1-4d0c-9a86-0c7b1b1f2d3e";

/// Has 38 characters.
fn key(name: &str) -> String {
    format!("sk_live_{name}{}", "0".repeat(30 - name.len()))
}

/// The old system, as its database holds it, with a role that may only read.
fn old_system(postgres: &Postgres) -> String {
    postgres.database("old");
    let app = "from fastapi import FastAPI\napp = FastAPI()\n";
    let (ka, kb, kc, kd, ke) = (key("a"), key("b"), key("c"), key("d"), key("e"));
    postgres.sql(
        "old",
        &format!(
            "CREATE TYPE state AS ENUM ('active', 'paused', 'failed');
            CREATE TABLE users (id uuid PRIMARY KEY, plan text, custom_rate_limit int);
            CREATE TABLE apis (id uuid PRIMARY KEY, user_id uuid, name text, prompt text, description text,
                endpoint_url text, api_key text UNIQUE, status state, usage_count int, code_snapshot text,
                requirements text, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
            CREATE TABLE consumer_api_keys (id serial, api_id uuid, key text, is_active bool, expires_at timestamptz);
            CREATE TABLE api_usage_logs (id serial, api_id uuid);
            INSERT INTO users VALUES ('{USER}', 'pro', NULL), ('{RICH}', 'enterprise', 42);
            INSERT INTO apis (id, user_id, name, description, api_key, status, code_snapshot, requirements) VALUES
                ('{A}', '{USER}', 'Weather: \"now\" # {{x}}', E'two\\nlines', '{ka}', 'active',
                    E'from fastapi import FastAPI\\r\\napp = FastAPI()  # \u{e4}\\r\\n',
                    E'requests>=2\\n-r other.txt\\n--index-url https://me:hunter2@x.example.com\\nPillow==10.0'),
                ('{B}', '{USER}', '../../etc', NULL, '{kb}', 'paused', '{app}', NULL),
                ('{C}', '{RICH}', NULL, NULL, '{kc}', 'failed', '{app}', ''),
                ('{BROKEN}', '{USER}', 'Broken', NULL, '{kd}', 'active', E'app = 1\\ndef f(:\\n    pass\\n', ''),
                ('{NO_CODE}', '{USER}', 'Empty', NULL, 'k', 'active', NULL, ''),
                ('{NO_APP}', NULL, 'No app', NULL, NULL, 'active', 'x = 1', '');
            INSERT INTO consumer_api_keys (api_id, key, is_active, expires_at) VALUES
                ('{A}', '{ke}', true, '2100-01-01'), ('{A}', 'off', false, NULL), ('{BROKEN}', 'lost', true, NULL),
                ('{A}', NULL, true, NULL);
            CREATE ROLE reader LOGIN;
            GRANT SELECT ON apis, users, consumer_api_keys TO reader"
        ),
    );
    format!("postgres://reader:a-secret@127.0.0.1:{}/old", postgres.port())
}

fn skep(root: &Path, arguments: &[&str], from: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["--root", root.to_str().unwrap()])
        .args(arguments)
        .env_remove("SKEP_ROOT")
        .env_remove("SKEP_STATE_DIR")
        .env_remove("SKEP_DB_URL")
        .env_remove("SUPABASE_DB_URL")
        .env("SKEP_IMPORT_FROM", from)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn import(root: &Path, from: &str, arguments: &[&str]) -> Value {
    let arguments = [&["import", "supabase", "--output", "json"], arguments].concat();
    let output = skep(root, &arguments, from);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn of<'a>(import: &'a Value, id: &str) -> &'a Value {
    import["apis"].as_array().unwrap().iter().find(|api| api["id"] == id).unwrap()
}

fn keys(root: &Path) -> Vec<Key> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { Sqlite::open(&root.join(".skep/records.db")).unwrap().every_key().await.unwrap() })
}

fn known<'a>(keys: &'a [Key], key: &str) -> &'a Key {
    keys.iter().find(|known| known.hash == KeyHash::of(key.as_bytes())).unwrap()
}

/// All files below a folder but the state's, by path.
fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with(".skep") {
            } else if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(root).unwrap().display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn dump(postgres: &Postgres) -> String {
    ["apis", "users", "consumer_api_keys", "api_usage_logs"]
        .map(|table| postgres.sql("old", &format!("SELECT xmin, ctid, md5(t::text) FROM {table} t ORDER BY 2")))
        .join("\n")
}

#[test]
fn all_that_can_be_taken_is_and_a_second_run_has_nothing_to_do() {
    let postgres = Postgres::start();
    let (from, folder) = (old_system(&postgres), tempfile::tempdir().unwrap());
    let (root, before) = (folder.path(), dump(&postgres));
    fs::write(root.join("skep.yaml"), "# ours\ndefaults: { replicas: 1 }\n").unwrap();

    // The plan, which writes nothing, and wants a yes.
    let plan = import(root, &from, &["--dry-run"]);
    assert_eq!(files(root).len(), 1);
    assert_eq!((of(&plan, A)["verdict"].as_str(), keys(root).len()), (Some("create"), 0));
    let unasked = skep(root, &["import", "supabase"], &from);
    assert_eq!((unasked.status.code(), files(root).len()), (Some(1), 1));
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("--yes"));
    let text = String::from_utf8_lossy(&unasked.stdout).into_owned();
    for line in [
        &format!("+ {B}  create  ../../etc\n    it was paused: it is suspended\n"),
        "    requirements, line 3: --index-url https://…@x.example.com is left out: ",
        &format!("! {NO_CODE}  skip  Empty\n    it has no code\n"),
        &format!("for {C}: 42/1h, shared by all keys of user {RICH}\n"),
        "+ plan \"pro\": 1000/1h (assumed: the old system's figures do not stand in its tables) is added to skep.yaml\n",
        "Import: APIs: 3 to create, 3 skipped. Keys: 4 to add, 3 skipped.\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(text.matches("main.py:2:7").count(), 1, "{text}");

    let done = import(root, &from, &["--yes"]);
    assert_eq!(done["written"], serde_json::json!({ "folders": 3, "keys": 4, "plans": true, "changed": [] }));
    let code = fs::read(root.join("apis").join(A).join("main.py")).unwrap();
    assert_eq!(code, "from fastapi import FastAPI\r\napp = FastAPI()  # \u{e4}\r\n".as_bytes());
    let left_out = of(&done, A)["left_out"].as_array().unwrap();
    assert_eq!(left_out.iter().map(|line| line["line"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3]);
    let (broken, no_code, no_app) = (of(&done, BROKEN), of(&done, NO_CODE), of(&done, NO_APP));
    assert_eq!(
        (&broken["findings"][0]["span"]["line"], &broken["findings"][0]["span"]["column"]),
        (&2.into(), &7.into())
    );
    assert_eq!(broken["verdict"], "skipped");
    assert!(broken["reason"].as_str().unwrap().contains("main.py:2:7"), "{broken}");
    assert_eq!((&no_code["verdict"], &no_code["reason"]), (&"skipped".into(), &"it has no code".into()));
    assert_eq!(no_app["findings"][0]["code"], "app-object-missing");
    let reasons: Vec<_> = done["keys"].as_array().unwrap().iter().filter(|key| key["verdict"] == "skipped").collect();
    assert_eq!(reasons.len(), 3, "{reasons:#?}");
    let manifest = |id: &str| fs::read_to_string(root.join("apis").join(id).join("api.yaml")).unwrap();
    assert!(manifest(A).contains("description: \"two lines\"\n"));
    assert!(manifest(B).contains("suspend: true\n") && !manifest(C).contains("suspend"));

    // What is left is a tree that the integration passes, whose keys open what they did.
    let check = skep(root, &["check"], &from);
    assert_eq!(String::from_utf8_lossy(&check.stdout), "3 APIs, no findings\n");
    let kept = keys(root);
    let (a, b, c, consumer) =
        (known(&kept, &key("a")), known(&kept, &key("b")), known(&kept, &key("c")), known(&kept, &key("e")));
    let now = jiff::Timestamp::now();
    assert!(a.opens(A, now) && !a.opens(B, now) && b.opens(B, now) && consumer.opens(A, now));
    assert_eq!((a.terms.plan.as_deref(), a.follows), (Some("pro"), None));
    assert_eq!((b.follows, consumer.follows), (Some(a.hash), Some(a.hash)));
    assert_eq!((c.terms.limit.unwrap().to_string(), c.terms.plan.clone(), c.follows), ("42/1h".to_owned(), None, None));
    assert_eq!(consumer.terms.expires.unwrap().to_string(), "2100-01-01T00:00:00Z");
    let settings = fs::read_to_string(root.join("skep.yaml")).unwrap();
    assert!(settings.starts_with("# ours\ndefaults: { replicas: 1 }\n"), "{settings}");
    assert!(settings.contains("\"pro\": { requests: 1000, per: 1h }  # assumed"), "{settings}");

    // Nothing of a caller's key, nor of a password, lies anywhere.
    let said = String::from_utf8_lossy(&skep(root, &["import", "supabase", "--dry-run"], &from).stdout).into_owned();
    let database = fs::read(root.join(".skep/records.db")).unwrap();
    for secret in ["a", "b", "c", "d", "e"].map(key).iter().map(String::as_str).chain(["hunter2", "a-secret"]) {
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!holds(said.as_bytes()) && !holds(done.to_string().as_bytes()) && !holds(&database), "{secret}");
        assert!(!files(root).iter().any(|(_, bytes)| holds(bytes)), "{secret}");
    }

    // Again, nothing; also where a key was revoked.
    let revoke = skep(root, &["keys", "revoke", &a.id], &from);
    assert!(revoke.status.success());
    let (tree, again) = (files(root), import(root, &from, &["--yes"]));
    assert_eq!((&again["written"], files(root) == tree), (&Value::Null, true));
    assert!(!known(&keys(root), &key("a")).opens(A, jiff::Timestamp::now()));
    assert_eq!(dump(&postgres), before, "the old tables are as they were");
}

#[test]
fn what_somebody_edited_stays_and_what_nobody_edited_follows_its_row() {
    let postgres = Postgres::start();
    let (from, folder) = (old_system(&postgres), tempfile::tempdir().unwrap());
    let root = folder.path();
    import(root, &from, &["--yes"]);
    let (edited, other) = (root.join("apis").join(B).join("main.py"), root.join("apis").join(C).join("main.py"));
    let mine = "from fastapi import FastAPI\napp = FastAPI(title='mine')\n";
    fs::write(&edited, mine).unwrap();
    fs::write(root.join("apis").join(B).join("more.py"), "x = 1\n").unwrap();
    let theirs = "from fastapi import FastAPI\napp = FastAPI(title=''theirs'')\n";
    postgres.sql("old", &format!("UPDATE apis SET code_snapshot = '{theirs}' WHERE id IN ('{B}', '{C}')"));

    let second = import(root, &from, &["--yes"]);
    assert_eq!((&of(&second, B)["verdict"], &of(&second, C)["verdict"]), (&"edited".into(), &"update".into()));
    assert_eq!(fs::read_to_string(&edited).unwrap(), mine);
    assert!(fs::read_to_string(&other).unwrap().contains("'theirs'"));

    let third = import(root, &from, &["--yes", "--overwrite", "--only", B]);
    assert_eq!(third["apis"].as_array().unwrap().len(), 1);
    assert!(third["apis"][0]["notes"].to_string().contains("it loses more.py"));
    assert!(fs::read_to_string(&edited).unwrap().contains("'theirs'"));
    assert!(!root.join("apis/.skep-import").exists());
    let kept = import(root, &from, &["--yes", "--keep-broken", "--only", BROKEN]);
    assert_eq!(kept["written"]["folders"], 1);
    assert_eq!(skep(root, &["check"], &from).status.code(), Some(1));
}

#[test]
fn tables_that_lack_things_or_hide_rows_are_said_to() {
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let from = format!("postgres://reader:a-secret@127.0.0.1:{}/old", postgres.port());
    postgres.database("old");
    postgres.sql("old", "CREATE ROLE reader LOGIN");
    let refused = |why: &str| {
        let output = skep(folder.path(), &["import", "supabase", "--yes"], &from);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why) && !said.contains("a-secret"), "{said}");
    };
    refused("there is no table public.apis");
    // Ids as text, some of them none; a list where lines are expected.
    postgres.sql(
        "old",
        "CREATE TABLE apis (id text, code_snapshot text, requirements text[]);
        INSERT INTO apis VALUES ('../../../tmp/evil', 'app = 1', NULL), ('UPPER', 'app = 1', NULL),
            ('fine', 'app = 1', '{rich,flask>=3}'), (NULL, 'app = 1', NULL), ('huge', repeat('x = 1' || chr(10), 9000000), NULL);
        GRANT SELECT ON apis TO reader",
    );
    let done = import(folder.path(), &from, &["--yes"]);
    assert_eq!(done["written"]["folders"], 1);
    assert_eq!(done["apis"].as_array().unwrap().iter().filter(|api| api["verdict"] == "skipped").count(), 3);
    assert!(done["notes"].to_string().contains("public.users is not there"));
    let requirements = fs::read_to_string(folder.path().join("apis/fine/requirements.txt")).unwrap();
    assert!(requirements.ends_with("\nrich\nflask>=3\n"), "{requirements}");
    postgres.sql("old", "ALTER TABLE apis ENABLE ROW LEVEL SECURITY");
    refused("row level security");
}

#[test]
fn the_records_may_lie_in_the_database_that_is_imported_from() {
    let postgres = Postgres::start();
    old_system(&postgres);
    let (folder, before) = (tempfile::tempdir().unwrap(), dump(&postgres));
    let run = || {
        let arguments = ["import", "supabase", "--yes", "--output", "json"];
        let output = Command::new(env!("CARGO_BIN_EXE_skep"))
            .args(["--root", folder.path().to_str().unwrap()])
            .args(arguments)
            .env_remove("SKEP_STATE_DIR")
            .env_remove("SKEP_IMPORT_FROM")
            .env_remove("SKEP_DB_URL")
            .env("SUPABASE_DB_URL", postgres.url("old"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(run()["written"]["keys"], 4);
    let hash = KeyHash::of(key("a").as_bytes());
    assert_eq!(postgres.sql("old", &format!("SELECT count(*) FROM skep.keys WHERE hash = '{hash}'")), "1");
    assert!(!folder.path().join(".skep/records.db").exists());
    // A key that was revoked since stays revoked, and what is there is not written again.
    postgres.sql("old", "UPDATE skep.keys SET revoked_at = now()");
    assert_eq!(run()["written"], Value::Null, "there is nothing to do");
    assert_eq!(postgres.sql("old", "SELECT count(*) FROM skep.keys WHERE revoked_at IS NULL"), "0");
    assert_eq!(dump(&postgres), before, "the old tables are as they were");
}
