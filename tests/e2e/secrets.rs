//! Secrets, from where somebody types them in to the app that gets them, and nowhere else on the way.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use skep::secrets::{Keyring, Opened};

use crate::world::{Ran, World};

/// Answers what it was given: by file at `/`, by variable at `/env`, and `version` at `/version`.
fn telling(version: &str) -> String {
    format!(
        r#"import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    path = scope["path"].rsplit("/", 1)[-1]
    body = open("/run/secrets/TOKEN").read()
    if path == "env":
        body = os.environ.get("TOKEN", "not set")
    if path == "version":
        body = "{version}"
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": body.encode()}})
"#
    )
}

fn word() -> String {
    format!("secret-{:016x}", rand::random::<u64>())
}

fn set(world: &World, value: &str) -> Ran {
    let mut skep = world.command(&["secrets", "set", "honey", "TOKEN"]);
    let mut process = skep.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    Ran::of(process.wait_with_output().unwrap())
}

/// Every file below a folder, by its path and its bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.is_file() {
            all.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    all
}

#[test]
fn a_secret_reaches_its_app_each_time_that_it_starts_and_is_written_down_nowhere() {
    let world = World::new();
    world.code("honey", &telling("one"));
    let (one, two) = (word(), word());
    set(&world, &one).expect(0);
    world.serve();
    world.expect_answer("honey", "/", &one);
    world.expect_answer("honey", "/env", "not set");
    world.expect_rest("honey", "synced", "healthy");

    // Another value is another revision.
    let first = world.containers("honey");
    let plan_before = {
        world.interrupt();
        set(&world, &two).expect(0);
        let text = world.run(&["plan", "--steps"]).expect(0).out;
        assert!(text.contains("changed   secrets\n") && text.contains("new instances take over"), "{text}");
        text + &world.run(&["plan", "--output", "json"]).expect(0).out
            + &world.run(&["plan", "--output", "markdown"]).expect(0).out
    };
    world.serve();
    world.expect_answer("honey", "/", &two);
    world.expect_rest("honey", "synced", "healthy");
    assert_ne!(world.containers("honey"), first);
    world.settings("honey", "secrets: { as: env }\n");
    world.expect_answer("honey", "/env", &two);
    world.expect_rest("honey", "synced", "healthy");

    // What is healed, and what a crashed daemon comes back to, has it again.
    let lost = world.containers("honey");
    crate::engine::kill(&lost[0]);
    world.until("another instance is there", || {
        let now = world.instances("honey");
        now.len() == 1 && now[0].is_running && now[0].id != lost[0]
    });
    world.expect_answer("honey", "/env", &two);
    world.crash();
    world.serve();
    world.expect_answer("honey", "/", &two);
    // Somebody else's start hands nothing over.
    let restarted = world.containers("honey");
    crate::engine::restart(&restarted[0]);
    world.until("another instance is there", || {
        let now = world.instances("honey");
        now.len() == 1 && now[0].is_running && now[0].id != restarted[0]
    });
    world.expect_answer("honey", "/env", &two);
    world.expect_rest("honey", "synced", "healthy");

    let mut all = files(world.aside());
    all.push(("plan".to_owned(), plan_before.into_bytes()));
    for arguments in [
        &["status", "--output", "json"][..],
        &["events", "--output", "json"],
        &["history", "honey", "--output", "json"],
        &["logs", "honey"],
        &["logs", "honey", "--build"],
        &["check", "--output", "json"],
        &["secrets", "list", "--output", "json"],
        &["secrets", "key"],
        &["doctor"],
    ] {
        let ran = world.run(arguments);
        all.push((arguments.join(" "), format!("{}{}", ran.out, ran.err).into_bytes()));
    }
    for container in world.containers("honey") {
        let seen = serde_json::to_vec(&crate::engine::inspect(&container)).unwrap();
        all.push((container, seen));
    }
    assert!(all.iter().any(|(path, _)| path.ends_with("records.db")), "the records are looked through");
    let key = fs::read_to_string(world.state().join("secrets.key")).unwrap();
    let key = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap();
    for (place, bytes) in &all {
        for secret in [&one, &two, key] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found || secret == key && place.ends_with("secrets.key"), "a secret is in {place}");
        }
    }
}

#[test]
fn with_a_wrong_or_missing_key_what_served_goes_on_and_the_reason_is_said() {
    let world = World::new();
    world.code("honey", &telling("one"));
    let value = word();
    set(&world, &value).expect(0);
    world.serve();
    world.expect_answer("honey", "/", &value);
    let good = fs::read_to_string(world.root().join("apis/honey/secrets.age")).unwrap();

    let stranger = Keyring::of(world.aside());
    let mut opened = Opened::default();
    opened.set("TOKEN", word()).unwrap();
    let id = skep::tree::ApiId::new("honey").unwrap();
    let sealed = Keyring::seal(&id, &opened, &[stranger.make().unwrap()]).unwrap();
    world.code("honey", &telling("two"));
    world.write("apis/honey/secrets.age", sealed.text());
    let says = |words: &str| {
        world.wait(&format!("the status says {words:?}"), || {
            let status = world.status("honey");
            status["message"].as_str().is_some_and(|message| message.contains(words)).then_some(status)
        })
    };
    let status = says("it is encrypted to other keys than that of this host");
    assert!(status["message"].as_str().unwrap().contains("apis/honey/secrets.age of revision"), "{status}");
    assert_eq!(status["failure"]["kind"], "hindered");
    world.expect_answer("honey", "/version", "one");
    world.expect_answer("honey", "/", &value);
    let refused = set(&world, "another").expect(1);
    assert!(refused.err.contains("encrypted to other keys"), "{}", refused.err);

    // The key comes, and no folder changes.
    let (key, aside) = (world.state().join("secrets.key"), world.aside().join("kept.key"));
    fs::rename(&key, &aside).unwrap();
    fs::rename(world.aside().join("secrets.key"), &key).unwrap();
    world.expect_answer("honey", "/version", "two");
    fs::remove_file(&key).unwrap();
    world.write("apis/honey/secrets.age", &good);
    says("there is no key of secrets at");
    world.expect_answer("honey", "/version", "two");
    fs::rename(&aside, &key).unwrap();
    world.expect_answer("honey", "/", &value);
}

#[test]
fn a_new_key_loses_nobody_and_the_old_one_is_kept_while_a_rollback_needs_it() {
    let world = World::new();
    world.code("honey", &telling("one"));
    let value = word();
    set(&world, &value).expect(0);
    world.serve();
    world.expect_answer("honey", "/", &value);
    world.expect_rest("honey", "synced", "healthy");
    let before = world.status("honey")["serving"].clone();
    world.run(&["secrets", "rotate"]).expect(0);
    world.until("what was encrypted anew serves", || {
        let status = world.status("honey");
        status["serving"] != before && status["sync"] == "synced" && status["health"] == "healthy"
    });
    world.expect_answer("honey", "/", &value);
    let kept = world.run(&["secrets", "rotate", "--forget-old"]).expect(1);
    assert!(kept.err.contains(&format!("revision {} of honey", before.as_str().unwrap())), "{}", kept.err);
    world.run(&["rollback", "honey"]).expect(0);
    world.until("the earlier revision serves", || world.status("honey")["serving"] == before);
    world.expect_answer("honey", "/", &value);
}
