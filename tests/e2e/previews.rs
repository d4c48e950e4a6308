//! Previews of pull requests, pushed by a real git, and beside them production, which none of them touches.

use serde_json::Value;

use crate::engine;
use crate::forge::Forge;
use crate::http::Request;
use crate::pull::{expect_placed, look, source};
use crate::pull_access::signature;
use crate::push::{ADMIN_KEY, Dev, begin, said};
use crate::world::{Ran, World};

/// Answers, as JSON, `text` and all that it was given.
pub fn telling(text: &str) -> String {
    format!(
        r#"import json
import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    told = {{"text": "{text}", "env": dict(os.environ), "secrets": os.path.exists("/run/secrets/TOKEN")}}
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": json.dumps(told).encode()}})
"#
    )
}

/// What an API answers, with the key.
#[track_caller]
pub fn told(world: &World, id: &str, key: &str) -> Value {
    world.send(&Request::get(format!("/run/{id}/")).key(key)).expect(200).json()
}

/// Waits until nothing is left of a preview but its history.
#[track_caller]
pub fn expect_gone(world: &World, id: &str) {
    world.expect_status(id, "/", 401);
    world.until(&format!("nothing is left of {id}"), || {
        let is_there = world.state().join("previews").join(id).exists();
        !is_there && world.status(id).is_null() && world.instances(id).is_empty()
    });
}

fn offer(dev: &Dev, number: u32, options: &[&str]) -> Ran {
    let to = format!("+HEAD:refs/previews/{number}");
    dev.git(&[&["push", "--porcelain"], options, &["skep", &to]].concat())
}

/// A world that takes pushes and previews, in which `hello` and `other` serve; and a key for all of it.
pub fn world_with(previews: &str) -> (World, Dev, String) {
    let world = begin(&format!("{{}}\npreviews: {previews}"));
    let dev = Dev::new(&world, "dev");
    dev.write("apis/hello/main.py", &telling("one"));
    dev.code("other", "other");
    dev.push(&[]).expect(0);
    let key = world.run(&["keys", "create", "--name", "caller"]).expect(0).out.trim().to_owned();
    (world, dev, key)
}

/// What is told of a preview names the commit that it is of.
#[track_caller]
fn expect_commit(world: &World, id: &str, commit: &str, subject: &str) {
    let explained = world.run(&["explain", id, "--output", "json"]).expect(0).json();
    assert_eq!((&explained["commit"]["subject"], &explained["commit"]["id"]), (&subject.into(), &commit.into()));
    assert_eq!(explained["status"]["preview"]["commit"], commit);
    let history = world.run(&["history", id]).expect(0).out;
    assert!(history.contains(subject), "{history}");
}

#[test]
fn what_a_pull_request_changes_is_served_beside_production_and_goes_with_it() {
    let (world, dev, key) = world_with("{ memory: 128MiB, max: 3 }");
    // The pull request begins; then production moves on.
    dev.git(&["checkout", "--quiet", "-b", "pr"]).expect(0);
    dev.write("apis/hello/main.py", &telling("offered"));
    dev.write("apis/hello/api.yaml", "replicas: 3\nresources: { memory: 2GiB }\nroute: { hosts: [skep.test] }\n");
    dev.write("apis/fresh/api.yaml", "route: { public: true }\n");
    dev.write("apis/fresh/main.py", &telling("fresh"));
    dev.commit("Offer it");
    dev.git(&["checkout", "--quiet", "main"]).expect(0);
    dev.code("other", "moved on");
    dev.push(&[]).expect(0);
    dev.git(&["checkout", "--quiet", "pr"]).expect(0);

    let pushed = offer(&dev, 7, &[]).expect(0);
    let url = format!("http://{}/run/hello--pr-7/", world.address());
    said(&pushed, &["hello--pr-7  create", "hello--pr-7  serving, synced", "fresh--pr-7  serving, synced", &url]);
    assert!(!pushed.err.contains("other--pr-7"), "{pushed:#?}");
    let offered = told(&world, "hello--pr-7", &key);
    assert_eq!((offered["text"].as_str(), offered["env"]["SKEP_PREVIEW"].as_str()), (Some("offered"), Some("7")));
    assert!(offered["env"].get("WORLD").is_none(), "what skep.yaml gives to production: {offered:#}");
    // New ones ask for a key, whatever they say themselves; a key for what they are of is one for them.
    world.expect_status("fresh--pr-7", "/", 401);
    let key_for =
        |api: &str| world.run(&["keys", "create", "--name", api, "--api", api]).expect(0).out.trim().to_owned();
    assert_eq!(told(&world, "fresh--pr-7", &key_for("fresh"))["text"], "fresh");
    assert_eq!(world.send(&Request::get("/run/fresh--pr-7/").key(&key_for("hello"))).status, 401);
    assert_eq!(told(&world, "fresh--pr-7", &key)["text"], "fresh");
    // Neither the hosts nor the memory nor the instances that it asks for.
    assert_eq!(world.send(&Request::get("/")).json()["service"], "skep");
    let [instance] = &world.instances("hello--pr-7")[..] else { panic!("{:?}", world.instances("hello--pr-7")) };
    assert_eq!(engine::inspect(&instance.id).unwrap().host_config.unwrap().memory, Some(128 << 20));
    // Production is what it was, and so is what is said of it.
    assert_eq!(told(&world, "hello", &key)["text"], "one");
    assert_eq!(world.get("other", "/").text(), "moved on");
    assert_eq!(world.send(&Request::get("/health")).json()["deployed_apis"], 2);
    assert!(world.plan()["apis"].as_array().unwrap().is_empty());
    let status = world.status("hello--pr-7");
    let head = dev.git(&["rev-parse", "HEAD"]).out.trim().to_owned();
    assert_eq!(status["preview"], serde_json::json!({ "of": "hello", "pull_request": 7, "commit": head }));
    assert_eq!(status["url"].as_str(), Some(url.as_str()));
    assert!(world.run(&["status"]).out.contains("preview of hello, for pull request 7, at "));
    expect_commit(&world, "hello--pr-7", &head, "Offer it");
    assert!(world.status("hello")["preview"].is_null());

    // A daemon that is killed is followed by one that serves them too; and so is one that gives up its place.
    world.crash();
    world.serve_with(&[("ADMIN_API_KEY", ADMIN_KEY)]);
    world.until("the preview serves again", || world.send(&Request::get("/run/hello--pr-7/").key(&key)).status == 200);
    assert_eq!(world.containers("hello--pr-7"), std::slice::from_ref(&instance.id), "it was not even started anew");
    dev.git(&["remote", "set-url", "skep", &format!("http://ada:{ADMIN_KEY}@{}/git", world.address())]).expect(0);

    // One that changes less; more than may be at once; and what is taken only to be looked at.
    dev.git(&["rm", "-r", "--quiet", "apis/fresh"]).expect(0);
    dev.write("apis/hello/main.py", &telling("offered again"));
    dev.commit("Less of it");
    offer(&dev, 7, &[]).expect(0);
    assert_eq!(told(&world, "hello--pr-7", &key)["text"], "offered again");
    expect_gone(&world, "fresh--pr-7");
    for id in ["a", "b", "c"] {
        dev.write(&format!("apis/{id}/main.py"), &telling(id));
    }
    dev.commit("Many");
    said(&offer(&dev, 8, &[]).expect(1), &["no more than 3 APIs may be", "others have 1 of those", "changes 4"]);
    // Not even where it is only tried.
    said(&offer(&dev, 8, &["-o", "dry-run"]).expect(1), &["no more than 3 APIs may be", "changes 4"]);
    said(&offer(&dev, 7, &["-o", "dry-run"]).expect(1), &["no more than 3 APIs may be", "changes 4"]);
    dev.git(&["rm", "-r", "--quiet", "apis/b", "apis/c"]).expect(0);
    dev.write("apis/hello/main.py", &telling("tried"));
    dev.commit("Fewer");
    let tried = offer(&dev, 7, &["-o", "dry-run"]).expect(0);
    said(&tried, &["~ hello--pr-7  update", "+ a--pr-7  create", "Plan: 2 of previews", "nothing has changed"]);
    assert!(!tried.err.contains("--pr-9") && !tried.err.contains("remove"), "{tried:#?}");
    dev.git(&["reset", "--quiet", "--hard", "HEAD~1"]).expect(0);
    assert_eq!(told(&world, "hello--pr-7", &key)["text"], "offered again");

    // A key for previews pushes those, and nothing else.
    let made = world.run(&["keys", "create", "--name", "ci", "--previews"]).expect(0).out.trim().to_owned();
    assert_eq!(world.run(&["keys", "create", "--name", "x", "--previews", "--push"]).code, 2);
    let ci = format!("http://x:{made}@{}/git", world.address());
    said(&dev.git(&["push", &ci, "+HEAD:main"]).expect(1), &["this key is for previews"]);
    said(&dev.git(&["push", &ci, "+HEAD:main", "HEAD:refs/previews/9"]).expect(1), &["this key is for previews"]);
    dev.git(&["push", &ci, "main:refs/previews/9"]).expect(0);
    assert_ne!(dev.git(&["ls-remote", &ci]).code, 0, "it fetches nothing");
    assert_eq!(world.send(&Request::get("/admin/deployments").key(&made)).status, 401);

    // It ends with its name.
    let image = engine::inspect(&world.containers("hello--pr-7")[0]).unwrap().image.unwrap();
    dev.git(&["push", "skep", ":refs/previews/7"]).expect(0);
    expect_gone(&world, "hello--pr-7");
    let ended = world.run(&["explain", "hello--pr-7"]).expect(0).out;
    assert!(ended.contains("is there no more") && ended.contains("Less of it"), "{ended}");
    world.until("its image is gone", || {
        world.send(&Request::post("/admin/cleanup", "").key(ADMIN_KEY)).expect(200);
        !engine::has_image(&image)
    });
    said(&dev.git(&["push", "skep", ":refs/previews/7"]).expect(0), &["Nothing was previewed of pull request 7"]);
    assert_eq!(told(&world, "hello", &key)["text"], "one");

    // The place of the daemon is given to another one, which serves what there is, and takes what comes.
    dev.git(&["push", &ci, "HEAD~1:refs/previews/9"]).expect(0);
    let begun = world.containers("hello--pr-9");
    let mut before = world.hand_over();
    assert_eq!(told(&world, "hello--pr-9", &key)["text"], "offered again");
    before.wait().unwrap();
    assert_eq!(world.containers("hello--pr-9"), begun);
    dev.git(&["push", &ci, ":refs/previews/9"]).expect(0);
    expect_gone(&world, "hello--pr-9");
    let events = world.run(&["events", "-n", "200"]).expect(0).out;
    for event in ["previewed", "pull request 7 by ada: ", "preview-ended", "pull request 7: ended by ada"] {
        assert!(events.contains(event), "{event}: {events}");
    }
}

#[test]
fn a_preview_that_fails_is_nobodys_trouble_but_its_own() {
    let (world, dev, key) = world_with("{}");
    dev.git(&["checkout", "--quiet", "-b", "pr"]).expect(0);
    let begun = dev.git(&["rev-parse", "HEAD"]).out.trim().to_owned();
    // A broken one is refused, with its place.
    dev.write("apis/hello/main.py", "def f(:\n");
    dev.commit("Break it");
    said(&offer(&dev, 3, &[]).expect(1), &["error[python-syntax]", "apis/hello/main.py:1:7"]);
    // So is one that takes a name of a preview itself, as a pull request and as the branch.
    dev.git(&["reset", "--quiet", "--hard", &begun]).expect(0);
    dev.code("other--pr-3", "mine");
    said(&offer(&dev, 3, &[]).expect(1), &["other--pr-3"]);
    said(&dev.git(&["push", "skep", "HEAD:main"]).expect(1), &["error[reserved-id]"]);
    // One that does not start says so to whoever pushed it.
    dev.git(&["reset", "--quiet", "--hard", &begun]).expect(0);
    dev.write("apis/hello/main.py", &format!("{}raise SystemExit('no luck today')\n", telling("never")));
    dev.commit("Fail at once");
    said(&offer(&dev, 3, &[]).expect(1), &["no luck today", "taken, but not all of it serves"]);
    assert_ne!(world.status("hello--pr-3")["health"], "healthy");
    // Whoever deploys hears nothing of it.
    world.run(&["apply"]).expect(0);
    let plan = world.run(&["plan", "--detailed-exitcode", "--output", "json"]).expect(0).json();
    assert_eq!(plan["previews"][0]["preview"]["of"], "hello");
    dev.git(&["checkout", "--quiet", "main"]).expect(0);
    dev.code("other", "two");
    let pushed = dev.push(&[]).expect(0);
    said(&pushed, &["All 2 APIs are as the tree says."]);
    assert!(!pushed.err.contains("--pr-"), "{pushed:#?}");

    // What is merged ends by itself, and so does what is pushed to a tree that has it already.
    dev.git(&["checkout", "--quiet", "-b", "good"]).expect(0);
    dev.write("apis/hello/main.py", &telling("good"));
    dev.commit("Better");
    offer(&dev, 4, &[]).expect(0);
    dev.git(&["checkout", "--quiet", "main"]).expect(0);
    dev.git(&["merge", "--quiet", "--no-ff", "-m", "Merge it", "good"]).expect(0);
    dev.push(&[]).expect(0);
    assert_eq!(told(&world, "hello", &key)["text"], "good");
    expect_gone(&world, "hello--pr-4");
    said(&offer(&dev, 4, &[]).expect(0), &["It changes no API folder"]);
    assert!(!dev.git(&["ls-remote", "skep"]).out.contains("refs/previews/4"));
    // Without the setting there are none.
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &settings.replace("previews: {}\n", "look_every: 1s\n"));
    expect_gone(&world, "hello--pr-3");
    said(&offer(&dev, 5, &[]).expect(1), &["no pull request is served here"]);
}

const HOOK: &str = "s3cret-of-16-bytes";

/// A world that follows a forge's repository and serves its pull requests, in which `hello` and `other` serve; and a key.
fn world_of(forge: impl Fn(&World) -> Forge, previews: &str, of_source: &str) -> (World, Forge, String) {
    let world = World::new();
    let forge = forge(&world);
    forge.write("apis/hello/main.py", &telling("one"));
    forge.code("other", "other");
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    let team = format!("{{ name: team, url: '{}', every: 1d, webhook: {{ env: A_HOOK }}, {of_source} }}", forge.url());
    world.write("skep.yaml", &format!("{settings}previews: {previews}\npull:\n  - {team}\n"));
    serve(&world);
    world.expect_answer("other", "/", "other");
    world.expect_rest("hello", "synced", "healthy");
    let key = world.run(&["keys", "create", "--name", "caller"]).expect(0).out.trim().to_owned();
    (world, forge, key)
}

fn serve(world: &World) {
    world.serve_with(&[("ADMIN_API_KEY", crate::pull::ADMIN_KEY), ("A_HOOK", HOOK)]);
}

/// Has the forge have a pull request that changes the code of `hello`, as forges do: by a name that no clone fetches.
fn open_at(forge: &Forge, name: &str, text: &str) -> String {
    forge.git(&["checkout", "--quiet", "--detach", "origin/main"]).expect(0);
    forge.write("apis/hello/main.py", &telling(text));
    forge.commit(&format!("hello would say {text}"));
    forge.git(&["push", "--quiet", "--force", "origin", &format!("HEAD:{name}")]).expect(0);
    let head = forge.ask(&["rev-parse", "HEAD"]);
    forge.git(&["checkout", "--quiet", "main"]).expect(0);
    head
}

/// What a forge calls its repository: the end of its address.
fn full_name(forge: &Forge) -> String {
    let url = forge.url().replace(".git", "");
    url.rsplitn(3, '/').take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/")
}

/// What GitHub sends, and with other headers Gitea and Forgejo do.
fn pull_request(forge: &Forge, number: u32, state: &str, second: u32, head_repository: u32) -> String {
    serde_json::json!({ "action": "synchronize", "number": number, "pull_request": { "number": number, "state": state,
        "updated_at": format!("2026-11-27T10:00:{second:02}Z"), "head": { "ref": "x", "repo": { "id": head_repository } },
        "base": { "ref": "main", "repo": { "id": 1, "full_name": full_name(forge) } } } })
    .to_string()
}

fn merge_request(forge: &Forge, number: u32, state: &str, second: u32) -> String {
    serde_json::json!({ "object_kind": "merge_request", "project": { "path_with_namespace": full_name(forge) },
        "object_attributes": { "iid": number, "state": state,
        "source_project_id": 5, "target_project_id": 5, "target_branch": "main",
        "updated_at": format!("2026-11-27 10:00:{second:02} UTC") } })
    .to_string()
}

fn github(body: &str, secret: &str) -> Request {
    Request::post("/hooks/team", body).header("x-hub-signature-256", format!("sha256={}", signature(secret, body)))
}

#[test]
fn a_pull_request_that_a_signed_webhook_tells_of_is_fetched_and_served_until_it_closes() {
    let (world, forge, key) = world_of(|world| Forge::new(world, "team"), "{}", "previews: {}");
    let head = open_at(&forge, "refs/pull/7/head", "offered");
    // Forged, of a fork, of another repository, or for another branch: nothing is served, and nobody is told why.
    let opened = pull_request(&forge, 7, "open", 1, 1);
    world.send(&github(&opened, "another-secret-of-16")).expect(401);
    world.send(&Request::post("/hooks/team", &*opened).key(crate::pull::ADMIN_KEY)).expect(401);
    open_at(&forge, "refs/pull/6/head", "a stranger's");
    world.send(&github(&pull_request(&forge, 6, "open", 1, 2), HOOK)).expect(202);
    open_at(&forge, "refs/pull/5/head", "for another branch");
    let elsewhere = pull_request(&forge, 5, "open", 1, 1).replace("\"main\"", "\"next\"");
    world.send(&github(&elsewhere, HOOK)).expect(202);
    // As Gitea tells of what whoever may read has pushed to `refs/for/main`.
    open_at(&forge, "refs/pull/4/head", "a reader's");
    let agit = pull_request(&forge, 4, "open", 1, 1).replace("\"ref\":\"x\"", "\"ref\":\"refs/pull/4/head\"");
    world.send(&github(&agit, HOOK)).expect(202);
    open_at(&forge, "refs/pull/3/head", "the number of another's");
    let others = pull_request(&forge, 3, "open", 1, 1).replace(&full_name(&forge), "team/other");
    world.send(&github(&others, HOOK)).expect(202);

    // GitHub.
    world.send(&github(&opened, HOOK)).expect(202);
    world.until("the preview serves", || world.send(&Request::get("/run/hello--pr-7/").key(&key)).status == 200);
    assert_eq!(told(&world, "hello--pr-7", &key)["text"], "offered");
    let mark = serde_json::json!({ "of": "hello", "pull_request": 7, "commit": head, "source": "team" });
    assert_eq!(world.status("hello--pr-7")["preview"], mark);
    for none in ["hello--pr-6", "hello--pr-5", "hello--pr-4", "hello--pr-3", "other--pr-7"] {
        assert!(world.status(none).is_null(), "{none}");
    }
    assert_eq!(told(&world, "hello", &key)["text"], "one");
    // More commits, and production moves on meanwhile; with the daemon killed in between.
    world.crash();
    forge.code("other", "moved on");
    open_at(&forge, "refs/pull/7/head", "offered again");
    serve(&world);
    world.until("what came meanwhile is served", || {
        let answer = world.send(&Request::get("/run/hello--pr-7/").key(&key));
        answer.status == 200 && answer.json()["text"] == "offered again"
    });
    expect_placed(&world, "team", "other says moved on");
    assert!(world.status("other--pr-7").is_null());

    // Gitea, with a fork's whose number is another; GitLab.
    open_at(&forge, "refs/pull/8/head", "of gitea");
    let gitea = pull_request(&forge, 8, "open", 1, 1);
    let signed = Request::post("/hooks/team", &*gitea).header("x-gitea-event", "pull_request");
    world.send(&signed.header("x-gitea-signature", signature(HOOK, &gitea))).expect(202);
    open_at(&forge, "refs/merge-requests/9/head", "of gitlab");
    let lab = |body: String, id: &str| {
        Request::post("/hooks/team", body).header("x-gitlab-token", HOOK).header("x-gitlab-event-uuid", id)
    };
    world.send(&lab(merge_request(&forge, 9, "opened", 1), "1")).expect(202);
    for (id, text) in [("hello--pr-8", "of gitea"), ("hello--pr-9", "of gitlab")] {
        world.until(&format!("{id} serves"), || {
            world.send(&Request::get(format!("/run/{id}/")).key(&key)).status == 200
        });
        assert_eq!(told(&world, id, &key)["text"], text);
    }

    // What is told of the same number elsewhere ends nothing here.
    let others = pull_request(&forge, 7, "closed", 5, 1).replace(&full_name(&forge), "team/other");
    world.send(&github(&others, HOOK)).expect(202);
    look(&world);
    assert_eq!(told(&world, "hello--pr-7", &key)["text"], "offered again");
    // Each ends as its forge says; and an earlier delivery, sent once more, brings none back.
    // However much people write of it.
    let about = format!("{{\"about\":\"{}\",", "x".repeat(2 << 20));
    let closed = pull_request(&forge, 7, "closed", 5, 1).replacen('{', &about, 1);
    world.send(&github(&closed, HOOK)).expect(202);
    expect_gone(&world, "hello--pr-7");
    let reopened = pull_request(&forge, 7, "open", 4, 1);
    world.send(&github(&reopened, HOOK)).expect(202);
    world.send(&lab(merge_request(&forge, 9, "merged", 5), "2")).expect(202);
    expect_gone(&world, "hello--pr-9");
    // The name vanishes, and nobody tells of it.
    forge.git(&["push", "--quiet", "origin", ":refs/pull/8/head"]).expect(0);
    look(&world);
    expect_gone(&world, "hello--pr-8");
    assert!(world.status("hello--pr-7").is_null());
    let events = world.run(&["events", "-n", "200"]).expect(0).out;
    for event in
        ["pull request 7 of team: it is closed", "the remote has it no more", "hello would say offered again, by Ada"]
    {
        assert!(events.contains(event), "{event}: {events}");
    }
    assert_eq!(told(&world, "hello", &key)["text"], "one");
    assert!(source(&world, "team")["trouble"].is_null());
    // Nothing is open, and nothing of what strangers sent is kept.
    look(&world);
    let store = world.state().join("pull/team/previews");
    world.until("the store of what was offered is gone", || !store.exists());
}

#[test]
fn what_is_wrong_with_a_pull_request_is_said_and_keeps_nothing_else_from_being_served() {
    let (world, forge, key) = world_of(|world| Forge::new(world, "team"), "{ max: 1 }", "previews: { forks: true }");
    forge.git(&["checkout", "--quiet", "--detach", "main"]).expect(0);
    std::os::unix::fs::symlink("/etc/passwd", forge.folder.join("apis/hello/link")).unwrap();
    forge.commit("A link");
    forge.git(&["push", "--quiet", "origin", "HEAD:refs/pull/1/head"]).expect(0);
    forge.git(&["checkout", "--quiet", "--force", "main"]).expect(0);
    // A stranger's, whose repository is gone.
    let stranger = pull_request(&forge, 1, "open", 1, 1).replace("{\"id\":1}", "null");
    world.send(&github(&stranger, HOOK)).expect(202);
    // One that has an API which is somebody's own.
    world.write("apis/mine/main.py", &telling("mine"));
    forge.git(&["checkout", "--quiet", "--detach", "main"]).expect(0);
    forge.write("apis/mine/main.py", &telling("theirs"));
    forge.commit("Take it");
    forge.git(&["push", "--quiet", "origin", "HEAD:refs/pull/4/head"]).expect(0);
    forge.git(&["checkout", "--quiet", "--force", "main"]).expect(0);
    world.send(&github(&pull_request(&forge, 4, "open", 1, 2), HOOK)).expect(202);
    // One that is told of before its name is there.
    world.send(&github(&pull_request(&forge, 5, "open", 1, 2), HOOK)).expect(202);
    let refused = |number: u32| -> String {
        let all = source(&world, "team")["refused"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|refused| refused["pull_request"] == number);
        found.map(|refused| refused["why"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    world.until("it is said what is wrong", || refused(1).contains("a symbolic link, which is never followed"));
    world.until("it is said whose it is not", || refused(4).contains("it has mine, which are there already"));
    world.until("it is waited for", || refused(5).contains("refs/pull/5/head"));
    world.send(&github(&pull_request(&forge, 5, "closed", 2, 2), HOOK)).expect(202);
    open_at(&forge, "refs/pull/2/head", "two");
    open_at(&forge, "refs/pull/3/head", "three");
    world.send(&github(&pull_request(&forge, 2, "open", 1, 2), HOOK)).expect(202);
    world.until("the preview serves", || world.send(&Request::get("/run/hello--pr-2/").key(&key)).status == 200);
    world.send(&github(&pull_request(&forge, 3, "open", 1, 2), HOOK)).expect(202);
    world.until("there is no more room", || refused(3).contains("previews.max"));
    assert!(
        world
            .run(&["status"])
            .expect(0)
            .out
            .contains("pull request 3 is not served: no more than 1 APIs may be previewed")
    );
    assert!(source(&world, "team")["trouble"].is_null());
    assert_eq!(world.send(&Request::get("/health")).json()["status"], "healthy");

    // What is merged makes room for what waited.
    forge.git(&["fetch", "--quiet", "origin", "refs/pull/2/head"]).expect(0);
    forge.git(&["merge", "--quiet", "--no-ff", "-m", "Merge it", "FETCH_HEAD"]).expect(0);
    forge.push();
    look(&world);
    world.until("it is deployed", || told(&world, "hello", &key)["text"] == "two");
    expect_gone(&world, "hello--pr-2");
    look(&world);
    world.until("what waited serves", || world.send(&Request::get("/run/hello--pr-3/").key(&key)).status == 200);
    assert_eq!(told(&world, "hello--pr-3", &key)["text"], "three");
    let events = world.run(&["events", "-n", "200"]).expect(0).out;
    assert!(events.contains("pull request 2 of team: it is merged"), "{events}");
}
