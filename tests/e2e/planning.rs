//! What `skep plan` says, in the words that people get, and what of it machines read.

use crate::apps::saying;
use crate::engine;
use crate::http::Request;
use crate::world::{Ran, World};

/// Text with what differs from run to run taken out: revisions.
fn lasting(text: &str) -> String {
    let is_revision = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut out = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_revision(word) {
            out += "<revision>";
            out += &part[word.len()..];
        } else {
            out += part;
        }
    }
    out
}

fn plan_text(world: &World) -> String {
    lasting(&world.run(&["plan"]).expect(0).out)
}

#[test]
fn a_plan_says_what_would_change_and_why() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.settings("hello", "description: Says one word.\n");
    insta::assert_snapshot!("plan_create", plan_text(&world));
    world.run(&["plan", "--detailed-exitcode"]).expect(2);
    let plan = world.plan();
    assert_eq!(plan["version"], 1);
    assert_eq!(plan["apis"][0]["verdict"], "create");
    assert_eq!(plan["apis"][0]["rebuild"], "dependencies");

    world.run(&["apply"]).expect(0);
    insta::assert_snapshot!("plan_nothing", plan_text(&world));
    world.run(&["plan", "--detailed-exitcode"]).expect(0);
    assert_eq!(world.plan()["apis"], serde_json::json!([]));

    // Pending: code, a setting, a requirement.
    world.code("hello", &saying("two"));
    world.settings("hello", "description: Says one word.\nroute: { timeout: 5s }\nreplicas: 2\n");
    world.write("apis/hello/requirements.txt", "itsdangerous==2.2.0\n");
    insta::assert_snapshot!("plan_update", plan_text(&world));
    let plan = world.plan();
    let api = &plan["apis"][0];
    assert_eq!((&api["verdict"], &api["restart"]), (&"update".into(), &true.into()), "{plan:#}");
    assert_eq!(api["drift"], serde_json::json!([]), "{plan:#}");
    let changes = api["changes"].as_array().unwrap();
    let of = |kind: &str| changes.iter().filter(|change| change["change"] == kind).collect::<Vec<_>>();
    let timeout = of("setting").into_iter().find(|change| change["key"] == "route.timeout").unwrap();
    assert_eq!((&timeout["old"], &timeout["new"]), (&"30s".into(), &"5s".into()));
    assert_eq!(of("requirement")[0]["new"], "itsdangerous==2.2.0");
    assert_eq!((&of("package")[0]["name"], &of("package")[0]["move"]), (&"itsdangerous".into(), &"added".into()));
    assert_eq!((of("package").len(), &api["packages"]["state"]), (1, &"resolved".into()));
    assert!(of("file").iter().any(|change| {
        change["path"] == "main.py" && change["diff"].as_str().is_some_and(|diff| diff.contains("+TEXT = \"two\""))
    }));

    // Drift, and nothing pending.
    world.code("hello", &saying("one"));
    world.settings("hello", "description: Says one word.\n");
    std::fs::remove_file(world.root().join("apis/hello/requirements.txt")).unwrap();
    world.run(&["plan", "--detailed-exitcode"]).expect(0);
    engine::remove(&world.containers("hello")[0]);
    insta::assert_snapshot!("plan_heal", plan_text(&world));
    let plan = world.plan();
    assert_eq!(plan["apis"][0]["verdict"], "heal");
    assert_eq!(plan["apis"][0]["changes"], serde_json::json!([]));
    // Both, told apart.
    world.settings("hello", "description: Says one word.\nroute: { timeout: 5s }\n");
    let plan = world.plan();
    assert_eq!(plan["apis"][0]["changes"].as_array().unwrap().len(), 1, "{plan:#}");
    assert_eq!(plan["apis"][0]["drift"].as_array().unwrap().len(), 1, "{plan:#}");
    world.run(&["apply"]).expect(0);
    assert_eq!(world.plan()["apis"], serde_json::json!([]));

    world.delete("hello");
    insta::assert_snapshot!("plan_remove", plan_text(&world));
    world.run(&["apply"]).expect(0);
    assert!(world.instances("hello").is_empty());
    assert_eq!(world.plan()["apis"], serde_json::json!([]));
}

#[test]
fn a_written_plan_is_carried_out_unless_tree_or_world_have_moved_on() {
    let world = World::new();
    let file = world.aside().join("plan.json");
    let file = file.to_str().unwrap();
    let write = || world.run(&["plan", "--out", file]).expect(0);
    let expect_refused = || {
        let ran = world.run(&["apply", file]).expect(1);
        assert!(ran.err.contains("moved on") && ran.err.contains("new plan"), "{}", ran.err);
    };
    world.code("hello", &saying("one"));
    write();
    world.code("hello", &saying("two"));
    expect_refused();
    assert!(world.instances("hello").is_empty());
    write();
    world.run(&["apply", file]).expect(0);
    let before = world.containers("hello");
    assert_eq!(before.len(), 1);

    // What was done needs not be done again.
    expect_refused();
    world.code("hello", &saying("three"));
    write();
    engine::remove(&before[0]);
    expect_refused();
    assert!(world.instances("hello").is_empty());
    std::fs::write(file, "{}").unwrap();
    let ran = world.run(&["apply", file]).expect(1);
    assert!(ran.err.contains("no plan"), "{}", ran.err);
}

#[test]
fn a_daemon_says_what_a_tree_elsewhere_would_do_there_to_who_may_ask_and_nothing_is_kept() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.settings("hello", "route: { auth: key }\n");
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let key = |more: &[&str]| {
        let made = world.run(&[&["keys", "create", "--name", "ci"], more].concat()).expect(0);
        made.out.trim().to_owned()
    };
    let (token, caller) = (key(&["--plans"]), key(&[]));
    let before = world.containers("hello");

    // A checkout somewhere else, with a change, a new API, and one that is gone.
    let checkout = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = checkout.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("apis/fresh/main.py", &saying("fresh"));
    let url = format!("http://{}", world.address());
    let plan = |token: &str, more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_skep"));
        command.current_dir(checkout.path()).env_remove("SKEP_ROOT").env("SKEP_TOKEN", token);
        Ran::of(command.args(["plan", "--remote", &url]).args(more).output().unwrap())
    };
    let verdicts = |plan: &serde_json::Value| -> Vec<(String, String)> {
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        plan["apis"].as_array().unwrap().iter().map(|api| (word(&api["id"]), word(&api["verdict"]))).collect()
    };
    let pair = |id: &str, verdict: &str| (id.to_owned(), verdict.to_owned());
    let asked = plan(&token, &["--output", "json", "--detailed-exitcode"]).expect(2).json();
    assert_eq!(verdicts(&asked), [pair("fresh", "create"), pair("hello", "remove")]);
    write("apis/hello/main.py", &saying("two"));
    let asked = plan(&token, &["--output", "json"]).expect(0).json();
    assert_eq!(verdicts(&asked), [pair("fresh", "create"), pair("hello", "update")]);
    let text = plan(&token, &[]).expect(0).out;
    assert!(text.contains("fresh") && text.contains("1 to create"), "{text}");
    assert!(plan(&token, &["--output", "markdown"]).expect(0).out.starts_with("<!-- "));

    // Files are named from where the reader is, as everywhere.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_skep"));
    command.current_dir(checkout.path().parent().unwrap()).env("SKEP_TOKEN", &token).args(["--root"]);
    let name = checkout.path().file_name().unwrap().to_str().unwrap();
    command.args([name, "plan", "--remote", &url, "--output", "github"]);
    let annotated = Ran::of(command.output().unwrap()).expect(0).out;
    assert!(annotated.contains(&format!("::notice file={name}/apis/hello/api.yaml,")), "{annotated}");
    // How large a file may be is for that host to say.
    write("apis/fresh/data.bin", &" ".repeat(26 << 20));
    let large = plan(&token, &[]).expect(1);
    assert!(large.err.contains("file-too-big") && large.out.contains("! fresh  blocked"), "{large:?}");
    std::fs::remove_file(checkout.path().join("apis/fresh/data.bin")).unwrap();

    // One that is broken is an error, with its place; so is a key that may not ask.
    write("apis/hello/api.yaml", "replicas: many\n");
    let broken = plan(&token, &[]).expect(1);
    assert!(broken.err.contains("apis/hello/api.yaml:1:11"), "{broken:?}");
    let sarif = plan(&token, &["--output", "sarif"]).expect(1).json();
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 1);
    // Mended, since nobody is asked about a broken one.
    write("apis/hello/api.yaml", "replicas: 1\n");
    for bad in [caller.as_str(), "skep_wrong"] {
        assert!(plan(bad, &[]).expect(1).err.contains("does not know this key"));
    }
    // It opens nothing else.
    for path in ["/admin/keys", "/admin/deployments", "/run/hello/", "/metrics"] {
        assert_eq!(world.send(&Request::get(path).key(&token)).status, 401, "{path}");
    }
    assert_eq!(world.send(&Request::post("/admin/apply", "").key(&token)).status, 401);
    assert_eq!(world.send(&Request::post("/admin/plan", "no tree").key(&token)).status, 400);
    assert_eq!((world.containers("hello"), world.run(&["status", "fresh"]).code), (before, 1));
    let left = std::fs::read_dir(world.state()).unwrap().filter_map(Result::ok);
    assert!(!left.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("trial-")));
}

#[test]
fn an_api_is_explained_from_its_commit_to_what_callers_get() {
    let world = World::new();
    world.code("hello", &saying("one"));
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.current_dir(world.root()).args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]).args(arguments);
        assert!(git.output().unwrap().status.success());
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "apis"]);
    git(&["commit", "-q", "-m", "Say one"]);
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let told = world.run(&["explain", "hello", "--output", "json"]).expect(0).json();
    assert_eq!((&told["commit"]["author"], &told["commit"]["subject"]), (&"Ada".into(), &"Say one".into()), "{told}");
    assert_eq!(told["status"]["health"], "healthy");
    assert_eq!(
        (&told["instances"][0]["ready"], &told["instances"][0]["routed"]),
        (&true.into(), &true.into()),
        "{told}"
    );
    assert!(told["next"].is_null() && told["route"]["forward"]["revision"] == told["revision"], "{told}");
    let kinds: Vec<_> = told["steps"].as_array().unwrap().iter().map(|step| step["kind"].as_str().unwrap()).collect();
    // Before that, what it requires was installed, unless another test's world had.
    assert!(kinds.ends_with(&["built", "started", "serving"]), "{kinds:?}");
    let text = world.run(&["explain", "hello"]).expect(0).out;
    for part in ["Ada  Say one", "image built", "callers reach it", "answers callers", "Nothing is left to do."] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // A revision that fails has no origin yet, and a commit and a reason all the same.
    world.code("hello", &format!("import nothing_of_that_name\n{}", saying("two")));
    world.until("it says why", || {
        let told = world.run(&["explain", "hello"]).expect(0).out;
        told.contains("nothing_of_that_name") && told.contains("next")
    });
    assert_eq!(world.run(&["explain", "nobody"]).code, 1);
}
