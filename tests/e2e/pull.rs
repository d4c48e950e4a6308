//! Following remote repositories: what is placed, what is not, and what goes on being served whatever happens to them.

use serde_json::Value;

use crate::apps::saying;
use crate::forge::Forge;
use crate::http::Request;
use crate::world::World;

pub const ADMIN_KEY: &str = "an-admin-key-of-a-test";

/// Sets a world's sources, and starts it.
#[track_caller]
pub fn follow(world: &World, sources: &[String]) {
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    let lines: String = sources.iter().map(|source| format!("  - {{ {source} }}\n")).collect();
    world.write("skep.yaml", &format!("{settings}pull:\n{lines}"));
    world.serve_with(&[("ADMIN_API_KEY", ADMIN_KEY), ("A_TOKEN", "t0ken"), ("A_HOOK", "s3cret-of-16-bytes")]);
}

/// Has all sources asked now.
#[track_caller]
pub fn look(world: &World) {
    // One that has just begun stands by for a moment.
    world.until("the sources are asked", || world.send(&Request::post("/admin/pull", "").key(ADMIN_KEY)).status == 200);
}

/// How a source is.
#[track_caller]
pub fn source(world: &World, name: &str) -> Value {
    let answer = world.send(&Request::get("/admin/pull").key(ADMIN_KEY)).expect(200).json();
    answer["sources"].as_array().unwrap().iter().find(|source| source["source"] == name).cloned().unwrap()
}

/// Waits until a source is in that trouble, and answers with what is said of it.
#[track_caller]
pub fn expect_trouble(world: &World, name: &str, kind: &str, text: &str) -> String {
    world.wait(&format!("source {name} is {kind}: {text}"), || {
        let trouble = source(world, name)["trouble"].clone();
        let what = trouble["what"].as_str().unwrap_or_default().to_owned();
        (trouble["kind"] == kind && what.contains(text)).then_some(what)
    })
}

/// Waits until what a source has last is placed.
#[track_caller]
pub fn expect_placed(world: &World, name: &str, subject: &str) -> Value {
    world.wait(&format!("{subject:?} of source {name} is placed"), || {
        let source = source(world, name);
        (source["placed"]["commit"]["subject"] == subject && source["trouble"].is_null()).then_some(source)
    })
}

fn events(world: &World) -> String {
    world.run(&["events", "-n", "200"]).expect(0).out
}

#[test]
fn what_a_branch_has_is_checked_placed_and_served_whatever_happens_to_it() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.code("hello", "one");
    std::fs::remove_dir(world.root().join("apis")).unwrap();
    follow(&world, &[format!("name: team, url: '{}', every: 5s", forge.url())]);
    world.expect_answer("hello", "/", "one");
    let history = world.run(&["history", "hello", "--output", "json"]).expect(0).json();
    assert_eq!(history["revisions"][0]["origin"]["commit"]["subject"], "hello says one");

    // Without anybody's word, in its time.
    forge.code("hello", "two");
    world.expect_answer("hello", "/", "two");
    expect_placed(&world, "team", "hello says two");

    // A commit of which one folder is broken is not placed at all, and it is said which.
    forge.write("apis/other/main.py", "def f(:\n");
    forge.code("hello", "three");
    look(&world);
    let what = expect_trouble(&world, "team", "broken", "apis/other/main.py:1:7");
    assert!(what.contains(&forge.ask(&["rev-parse", "HEAD"])[..10]), "{what}");
    assert_eq!(world.get("hello", "/").text(), "two");
    let status = world.run(&["status"]).expect(0).out;
    assert!(status.contains("apis/other/main.py:1:7") && status.contains("hello says two"), "{status}");
    let health = world.send(&Request::get("/health")).json();
    assert_eq!(health["status"], "degraded");
    assert!(health["pull"].as_str().unwrap().starts_with("1 of 1 sources not followed since 20"), "{health}");
    assert!(!health.to_string().contains("main.py"), "only who may know learns what it is: {health}");
    forge.code("other", "other");
    look(&world);
    world.expect_answer("hello", "/", "three");
    world.expect_answer("other", "/", "other");
    assert_eq!(world.send(&Request::get("/health")).json()["pull"], "followed");

    // The remote goes away, and comes back with more.
    let away = world.aside().join("away.git");
    std::fs::rename(&forge.bare, &away).unwrap();
    look(&world);
    let since = || source(&world, "team")["trouble"]["since"].clone();
    expect_trouble(&world, "team", "unreachable", "");
    let first = since();
    look(&world);
    assert_eq!(world.get("hello", "/").expect(200).text(), "three");
    world.crash();
    follow_again(&world);
    expect_trouble(&world, "team", "unreachable", "");
    assert_eq!(since(), first, "a restart forgets not since when");
    world.expect_answer("hello", "/", "three");
    std::fs::rename(&away, &forge.bare).unwrap();
    look(&world);
    world.until("it is followed again", || source(&world, "team")["trouble"].is_null());
    forge.code("hello", "four");
    look(&world);
    world.expect_answer("hello", "/", "four");

    // The branch is deleted.
    forge.set("receive.denyDeleteCurrent", "ignore");
    forge.git(&["push", "--quiet", "origin", ":main"]).expect(0);
    look(&world);
    expect_trouble(&world, "team", "missing", "it has no branch main");
    assert_eq!(world.get("hello", "/").expect(200).text(), "four");
    forge.code("hello", "seven");
    look(&world);
    world.expect_answer("hello", "/", "seven");

    // The folder goes: nothing is taken away. One API goes: it does.
    forge.git(&["mv", "apis", "elsewhere"]).expect(0);
    forge.commit("Move all");
    forge.push();
    look(&world);
    expect_trouble(&world, "team", "broken", "there is no folder apis/ in it");
    assert_eq!(world.get("hello", "/").expect(200).text(), "seven");
    forge.git(&["mv", "elsewhere", "apis"]).expect(0);
    forge.git(&["rm", "-r", "-f", "--quiet", "apis/other"]).expect(0);
    forge.commit("Remove other");
    forge.push();
    look(&world);
    world.expect_status("other", "/", 401);

    // What hands changed is not written over unasked.
    world.code("hello", &saying("by hand"));
    world.expect_answer("hello", "/", "by hand");
    forge.code("hello", "eight");
    look(&world);
    expect_trouble(&world, "team", "edited", "somebody has changed hello here by hand");
    assert_eq!(world.get("hello", "/").text(), "by hand");
    world.code("hello", &saying("seven"));
    look(&world);
    world.expect_answer("hello", "/", "eight");

    let events = events(&world);
    for text in ["pulled", "by Ada", "pull-trouble", "pull-recovered", "changes hello"] {
        assert!(events.contains(text), "{text} is not in\n{events}");
    }
}

#[test]
fn a_branch_that_is_rewritten_or_dated_wrongly_is_followed_and_that_is_said() {
    let world = World::new();
    let mut forge = Forge::new(&world, "team");
    forge.code("hello", "three");
    forge.code("hello", "four");
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    world.expect_answer("hello", "/", "four");

    // History is rewritten: what it says now serves, and the event says that.
    forge.git(&["reset", "--quiet", "--hard", "HEAD~1"]).expect(0);
    forge.code("hello", "five");
    look(&world);
    world.expect_answer("hello", "/", "five");
    let note = expect_placed(&world, "team", "hello says five")["placed"]["note"].clone();
    assert!(note.as_str().unwrap_or_default().contains("history was rewritten"), "{note}");
    // And back to a commit that is older than what is there.
    forge.git(&["reset", "--quiet", "--hard", "HEAD~1"]).expect(0);
    forge.push();
    look(&world);
    world.expect_answer("hello", "/", "three");
    forge.code("hello", "six");
    look(&world);
    world.expect_answer("hello", "/", "six");
    assert!(expect_placed(&world, "team", "hello says six")["placed"]["note"].is_null());

    // Somebody's clock is wrong, and then right again.
    forge.date = Some("2099-01-01T00:00:00Z".to_owned());
    forge.code("hello", "future");
    look(&world);
    let note = expect_placed(&world, "team", "hello says future")["placed"]["note"].clone();
    assert!(note.as_str().unwrap_or_default().contains("one of the two clocks is wrong"), "{note}");
    forge.date = None;
    forge.code("hello", "six");
    look(&world);
    world.expect_answer("hello", "/", "six");
    assert!(expect_placed(&world, "team", "hello says six")["placed"]["note"].is_null());
    // A fetch that was killed has left a mark that it goes on.
    let mark = std::fs::File::create(world.state().join("pull/team/git/shallow.lock")).unwrap();
    mark.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
    forge.code("hello", "six again");
    look(&world);
    world.expect_answer("hello", "/", "six again");
    assert!(events(&world).contains("history was rewritten"));
}

/// Starts it once more.
#[track_caller]
pub fn follow_again(world: &World) {
    world.serve_with(&[("ADMIN_API_KEY", ADMIN_KEY), ("A_TOKEN", "t0ken"), ("A_HOOK", "s3cret-of-16-bytes")]);
}

#[test]
fn a_folder_of_a_large_repository_is_followed_by_its_tags_and_the_rest_never_comes() {
    let world = World::new();
    let forge = Forge::new(&world, "mono");
    forge.set("uploadpack.allowFilter", "true");
    forge.write("huge/noise.txt", &"noise ".repeat(100_000));
    forge.write("services/apis/hello/main.py", &saying("one"));
    forge.write("services/apis/still/main.py", &saying("still"));
    forge.commit("One");
    forge.push();
    let tag = |name: &str| {
        forge.git(&["tag", "-a", "-f", "-m", name, name]).expect(0);
        forge.git(&["push", "--quiet", "--force", "origin", &format!("refs/tags/{name}")]).expect(0);
        look(&world);
    };
    follow(&world, &[format!("name: mono, url: '{}', tags: 'v*', folder: services/apis, every: 1h", forge.url())]);
    expect_trouble(&world, "mono", "missing", "it has no tags v*");
    tag("v1.0");
    world.expect_answer("hello", "/", "one");
    let still = world.containers("still");
    let noise = forge.ask(&["rev-parse", "HEAD:huge/noise.txt"]);
    let store = world.state().join("pull/mono/git");
    let has = |object: &str| {
        let mut git = std::process::Command::new("git");
        git.arg("-C").arg(&store).args(["cat-file", "-e", object]).env("GIT_NO_LAZY_FETCH", "1");
        git.output().unwrap().status.success()
    };
    assert!(!has(&noise), "what lies elsewhere is not fetched");
    assert!(has(&forge.ask(&["rev-parse", "HEAD:services/apis/hello/main.py"])));

    // Only what is tagged, and only the highest: neither an older one, nor one that is still tried.
    forge.write("services/apis/hello/main.py", &saying("two"));
    forge.commit("Two");
    forge.push();
    tag("v0.9");
    tag("v2.0-rc.1");
    tag("v1.10");
    world.expect_answer("hello", "/", "two");
    assert_eq!(source(&world, "mono")["placed"]["reference"], "v1.10");
    tag("v1.9");
    // A tag that moves is followed.
    forge.write("services/apis/hello/main.py", &saying("three"));
    forge.commit("Three");
    forge.push();
    tag("v1.10");
    world.expect_answer("hello", "/", "three");
    assert_eq!(world.containers("still"), still, "what did not change was not touched");
    assert!(!has(&noise));
    world.expect_rest("still", "synced", "healthy");
    let history = world.run(&["history", "still", "--output", "json"]).expect(0).json();
    assert_eq!(history["revisions"][0]["origin"]["commit"]["subject"], "One");
}

#[test]
fn two_sources_serve_side_by_side_and_do_not_fight_over_an_id() {
    let world = World::new();
    let (a, b) = (Forge::new(&world, "a"), Forge::new(&world, "b"));
    a.code("shared", "a");
    b.code("own", "b");
    let one = |forge: &Forge, name: &str| format!("name: {name}, url: '{}', every: 1h", forge.url());
    follow(&world, &[one(&a, "first"), one(&b, "second")]);
    world.expect_answer("shared", "/", "a");
    world.expect_answer("own", "/", "b");
    b.write("apis/own/main.py", &saying("b2"));
    b.code("shared", "b");
    look(&world);
    let what = expect_trouble(&world, "second", "conflict", "source first has brought shared already");
    assert!(what.contains("source second has it too"), "{what}");
    assert_eq!(world.get("shared", "/").text(), "a");
    assert_eq!(world.get("own", "/").text(), "b", "nothing of such a commit is placed");
    // Neither goes on to hold up the other, and what one gives up the other may have.
    a.code("third", "a3");
    look(&world);
    world.expect_answer("third", "/", "a3");
    a.git(&["rm", "-r", "--quiet", "apis/shared"]).expect(0);
    a.commit("Give it up");
    a.push();
    look(&world);
    world.expect_answer("shared", "/", "b");
    world.expect_answer("own", "/", "b2");
}

#[test]
fn a_commit_that_claims_the_host_of_a_folder_which_stays_is_not_placed() {
    let world = World::new();
    let (a, b) = (Forge::new(&world, "a"), Forge::new(&world, "b"));
    let claim = |forge: &Forge, id: &str, host: &str| {
        forge.write(&format!("apis/{id}/api.yaml"), &format!("suspend: true\nroute: {{ hosts: [{host}] }}\n"));
    };
    claim(&a, "shop", "shop.example.com");
    a.code("shop", "one");
    claim(&b, "own", "own.example.com");
    b.code("own", "one");
    let one = |forge: &Forge, name: &str| format!("name: {name}, url: '{}', every: 1h", forge.url());
    follow(&world, &[one(&a, "first"), one(&b, "second")]);
    expect_placed(&world, "first", "shop says one");
    expect_placed(&world, "second", "own says one");
    // A host of the source's own other folder, and one of another source's.
    claim(&a, "two", "shop.example.com");
    a.code("two", "two");
    look(&world);
    expect_trouble(
        &world,
        "first",
        "broken",
        "apis/two/api.yaml: `route.hosts`: shop.example.com is claimed by `shop`",
    );
    claim(&b, "own", "shop.example.com");
    b.code("own", "two");
    look(&world);
    expect_trouble(&world, "second", "broken", "shop.example.com is claimed by `shop` too, which stays as it is");
    assert!(!world.root().join("apis/two").exists());
    world.run(&["check"]).expect(0);
    // It moves on within one commit; from source to source once the one has given it up.
    claim(&a, "shop", "other.example.com");
    a.code("shop", "three");
    look(&world);
    expect_placed(&world, "first", "shop says three");
    look(&world);
    expect_trouble(&world, "second", "broken", "shop.example.com is claimed by `two` too");
    claim(&a, "two", "two.example.com");
    a.code("two", "three");
    look(&world);
    expect_placed(&world, "first", "two says three");
    look(&world);
    expect_placed(&world, "second", "own says two");
    world.run(&["check"]).expect(0);
}

/// Ends a world's daemon, and starts one with other settings.
#[track_caller]
fn follow_otherwise(world: &World, before: &str, after: &str) {
    world.crash();
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    assert!(settings.contains(before), "{settings}");
    world.write("skep.yaml", &settings.replace(before, after));
    follow_again(world);
}

#[test]
fn another_folder_of_the_same_commit_is_placed_instead_of_the_one_before() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.write("one/hello/main.py", &saying("one"));
    forge.write("one/former/main.py", &saying("former"));
    forge.write("two/hello/main.py", &saying("two"));
    forge.commit("Both");
    forge.push();
    follow(&world, &[format!("name: team, url: '{}', folder: one, every: 1h", forge.url())]);
    world.expect_answer("hello", "/", "one");
    world.expect_answer("former", "/", "former");
    follow_otherwise(&world, "folder: one", "folder: two");
    world.expect_answer("hello", "/", "two");
    world.expect_status("former", "/", 401);
}

#[test]
fn a_source_that_comes_back_takes_nothing_away_that_another_has_brought_since() {
    let world = World::new();
    let (a, b) = (Forge::new(&world, "a"), Forge::new(&world, "b"));
    a.code("shared", "same");
    b.code("own", "b");
    let first = format!("  - {{ name: first, url: '{}', every: 1h }}\n", a.url());
    follow(&world, &[format!("name: second, url: '{}', every: 1h", b.url())]);
    follow_otherwise(&world, "pull:\n", &format!("pull:\n{first}"));
    world.expect_answer("shared", "/", "same");
    follow_otherwise(&world, &first, "");
    b.code("shared", "same");
    look(&world);
    expect_placed(&world, "second", "shared says same");
    a.git(&["rm", "-r", "--quiet", "apis/shared"]).expect(0);
    a.code("third", "a3");
    follow_otherwise(&world, "pull:\n", &format!("pull:\n{first}"));
    world.expect_answer("third", "/", "a3");
    expect_placed(&world, "first", "third says a3");
    assert!(world.root().join("apis/shared/main.py").exists());
    assert_eq!(world.get("shared", "/").text(), "same");
}

#[test]
fn nothing_of_a_hostile_remote_is_followed_or_run_and_another_is_served() {
    let world = World::new();
    let (good, bad) = (Forge::new(&world, "good"), Forge::new(&world, "bad"));
    bad.code("b", "one");
    let one = |forge: &Forge, name: &str| format!("name: {name}, url: '{}', every: 1h, max_size: 1MiB", forge.url());
    follow(&world, &[one(&good, "good"), one(&bad, "bad")]);
    world.expect_answer("b", "/", "one");
    let first = bad.ask(&["rev-parse", "HEAD"]);
    let back = || drop(bad.git(&["reset", "--quiet", "--hard", &first]).expect(0));
    let try_it = |text: &str| {
        bad.push();
        look(&world);
        expect_trouble(&world, "bad", "broken", text);
        assert_eq!(world.get("b", "/").text(), "one");
        look(&world);
        back();
    };
    std::os::unix::fs::symlink("/etc/passwd", bad.folder.join("apis/b/secrets.txt")).unwrap();
    bad.commit("A link");
    try_it("apis/b/secrets.txt: a symbolic link, which is never followed");
    bad.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{first},apis/b/sub")]).expect(0);
    bad.git(&["commit", "--quiet", "-m", "A submodule"]).expect(0);
    try_it("apis/b/sub: a submodule, which is never fetched");
    let mut noise = vec![0; 3_000_000];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    std::fs::write(bad.folder.join("apis/b/big.bin"), noise).unwrap();
    bad.commit("Big");
    try_it("it sends more than 1MiB");
    // What git itself would never make, its check on the way in finds.
    bad.write(".git/payload", "[submodule \"x\"]\n\tpath = -u./payload\n\turl = -u./payload\n");
    let modules = bad.ask(&["hash-object", "-w", ".git/payload"]);
    bad.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{modules},.gitmodules")]).expect(0);
    bad.git(&["commit", "--quiet", "-m", "Options for a submodule"]).expect(0);
    bad.push();
    look(&world);
    let said = expect_trouble(&world, "bad", "broken", "fsck");
    let hostile = bad.ask(&["rev-parse", "HEAD"]);
    assert!(said.starts_with(&hostile[..10]) && source(&world, "bad")["trouble"]["commit"] == hostile, "{said}");
    look(&world);
    look(&world);
    assert_eq!(expect_trouble(&world, "bad", "broken", "fsck"), said, "it is the same however often it is asked for");
    for text in ["it sends more than 1MiB", "fsck"] {
        let events = events(&world);
        let count = events.lines().filter(|line| line.contains("pull-trouble") && line.contains(text)).count();
        assert_eq!(count, 1, "{text} is told more than once:\n{events}");
    }
    back();
    // Filters, hooks and attributes are files like others; and the next good commit is taken.
    bad.write(".gitattributes", "* filter=evil\n");
    bad.write("apis/b/.gitattributes", "* filter=evil ident\n");
    let never = world.aside().join("never");
    bad.write("hooks/post-checkout", &format!("#!/bin/sh\ntouch '{}'\n", never.display()));
    bad.code("b", "two $Id$");
    good.code("g", "good");
    look(&world);
    world.expect_answer("b", "/", "two $Id$");
    world.expect_answer("g", "/", "good");
    assert!(!never.exists());
    let left = std::fs::read_dir(world.state().join("pull/bad/git/objects/pack")).unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(left.iter().all(|name| !name.starts_with("tmp_")), "{left:?}");
}

#[test]
fn only_the_daemon_that_reconciles_fetches_and_one_that_is_killed_is_followed_by_one_that_does() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.code("hello", "one");
    follow(&world, &[format!("name: team, url: '{}', every: 1h, webhook: {{ env: A_HOOK }}", forge.url())]);
    world.expect_answer("hello", "/", "one");
    let beside = world.serve_beside();
    let hook = Request::post("/hooks/team", "{}").header("x-gitlab-token", "s3cret-of-16-bytes");
    assert_eq!(hook.send(beside.address).status, 409, "one that stands by says so");
    forge.code("hello", "two");
    world.crash();
    // The other one takes over, and asks at once.
    world.until("the other one serves what came meanwhile", || {
        Request::get("/run/hello/").send(beside.address).text() == "two"
    });
}

#[test]
fn a_host_that_takes_over_does_not_go_by_its_old_tree() {
    let server = crate::server::Postgres::start();
    let mut one = World::new();
    one.database = Some(server.database("pulled"));
    let forge = Forge::new(&one, "team");
    forge.code("hello", "one");
    follow(&one, &[format!("name: team, url: '{}', every: 5s", forge.url())]);
    one.expect_answer("hello", "/", "one");
    // Another host of the same installation, to which nothing was ever pulled.
    let mut two = World::new();
    two.database.clone_from(&one.database);
    two.write("skep.yaml", &std::fs::read_to_string(one.root().join("skep.yaml")).unwrap());
    std::fs::create_dir_all(two.state()).unwrap();
    std::fs::write(two.state().join("installation"), one.owner()).unwrap();
    follow_again(&two);
    two.expect_answer("hello", "/", "one");

    let away = one.aside().join("away.git");
    std::fs::rename(&forge.bare, &away).unwrap();
    one.crash();
    expect_trouble(&two, "team", "unreachable", "");
    two.until("it reconciles", || two.send(&Request::get("/health")).json()["role"] == "leader");
    // It looks at the world as often as it likes, and heals what dies; but nothing goes.
    for container in two.containers("hello") {
        crate::engine::kill(&container);
    }
    two.until("it heals", || two.log().contains("started: instance"));
    two.expect_answer("hello", "/", "one");
    assert!(!two.root().join("apis/hello").exists());

    std::fs::rename(&away, &forge.bare).unwrap();
    forge.code("hello", "two");
    two.expect_answer("hello", "/", "two");
}
