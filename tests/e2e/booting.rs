//! `skep check --boot`: APIs are tried apart from what serves, and nothing of that is left.

use std::process::Stdio;

use serde_json::Value;

use crate::apps::saying;
use crate::engine;
use crate::world::{Ran, World, read_until};

const FASTAPI: &str =
    "from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get(\"/x\")\ndef x(a: str) -> str:\n    return a\n";

fn findings(ran: &Ran) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let json = ran.json();
    json["findings"].as_array().unwrap().iter().map(|it| (word(&it["path"]), word(&it["code"]))).collect()
}

/// The owner that a process has made up to try APIs, while its network is there.
fn owner_of(process: u32) -> Option<String> {
    let is_its = |mark: &str| mark.split(' ').nth(2) == Some(&process.to_string());
    engine::networks_labelled("dev.skep.boot").into_iter().find(|(_, mark)| is_its(mark)).map(|(owner, _)| owner)
}

#[test]
fn what_boots_is_told_from_what_does_not_and_why_and_production_is_not_touched() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let serving = world.containers("hello");
    // Beside a daemon of the same installation, which takes no notice of it.
    assert!(world.run(&["check", "--boot"]).expect(0).out.starts_with("hello boots in "));
    assert_eq!(world.get("hello", "/").text(), "one");
    world.interrupt();

    world.code("hello", &saying("two"));
    world.code("crash", &format!("import nothing_of_that_name\n{}", saying("no")));
    world.code("silent", "import time\n\n\nasync def app(scope, receive, send):\n    time.sleep(600)\n");
    world.settings("silent", "health: { timeout: 1s, grace: 3s }\n");
    world.code("hungry", "HELD = bytearray(2 << 30)\nHELD[::4096] = b'x' * len(HELD[::4096])\n\n\nasync def app(scope, receive, send): ...\n");
    world.settings("hungry", "resources: { memory: 64MiB }\nhealth: { grace: 20s }\n");
    world.write("apis/broken/main.py", "def f(:\n");
    let ran = world.run(&["check", "--boot", "--output", "json"]).expect(1);
    let all = findings(&ran);
    let of = |id: &str| {
        all.iter()
            .filter(|(path, _)| path.starts_with(&format!("apis/{id}")))
            .map(|(_, code)| code.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("hello"), of("crash"), of("silent"), of("broken")),
        (vec![], vec!["boot-failed"], vec!["boot-failed"], vec!["python-syntax"]),
        "{ran:?}"
    );
    assert_eq!(of("hungry"), ["boot-failed"], "{ran:?}");
    let json = ran.json();
    assert_eq!(json["boots"][0]["id"], "hello");
    assert!(json["boots"][0]["seconds"].as_f64().unwrap() > 0.0, "{json:#}");
    let crash = json["findings"].as_array().unwrap().iter().find(|it| it["path"] == "apis/crash").unwrap();
    assert!(crash["message"].as_str().unwrap().contains("nothing_of_that_name"), "{crash:#}");
    assert!(crash["output"].as_array().unwrap().contains(&"    import nothing_of_that_name".into()), "{crash:#}");

    // In all ways in which findings are written.
    let text = world.run(&["check", "--boot", "crash", "hello"]).expect(1).out;
    assert!(
        text.contains("│     import nothing_of_that_name")
            && text.contains("hello boots in ")
            && text.contains("error[boot-failed]"),
        "{text}"
    );
    let github = world.run(&["check", "apis/crash", "--boot", "--output", "github"]).expect(1).out;
    assert!(
        github.starts_with("::error file=apis/crash,title=boot-failed::")
            && github.contains("%0A│ ModuleNotFoundError"),
        "{github}"
    );
    let sarif = world.run(&["check", "apis/crash", "--boot", "--output", "sarif"]).expect(1).json();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "boot-failed");
    assert_eq!(world.containers("hello"), serving, "what serves is as it was");
    assert!(world.build_containers().is_empty());
}

/// Has all that lies in the tree committed, on the branch `main`.
fn commit(world: &World) {
    for arguments in [&["init", "-q", "-b", "main"][..], &["add", "."], &["commit", "-q", "-m", "One"]] {
        let mut git = std::process::Command::new("git");
        git.current_dir(world.root()).args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]);
        assert!(git.args(arguments).output().unwrap().status.success());
    }
}

#[test]
fn two_trees_are_tried_where_neither_has_a_document_as_the_workflow_to_copy_does() {
    let world = World::new();
    world.code("hello", FASTAPI);
    world.code("same", "raise SystemExit('never tried')\n\n\nasync def app(scope, receive, send): ...\n");
    commit(&world);
    world.code("hello", &FASTAPI.replace("/x", "/y"));
    let plan = |more: &[&str]| world.run(&[&["plan", "--base", "main", "--boot"], more].concat());
    let ran = plan(&["--fail-on-breaking"]).expect(1);
    assert!(ran.out.contains("breaks callers: GET /x is gone"), "{ran:?}");
    assert!(ran.out.contains("breaks nobody: GET /y is new"), "{ran:?}");
    let sarif = plan(&["--output", "sarif"]).expect(0).json();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["message"]["text"]), (&"breaking-change".into(), &"GET /x is gone".into()));
    // What cannot be tried is no reason to have no plan.
    world.code("hello", &format!("import nothing_of_that_name\n{FASTAPI}"));
    let ran = plan(&["--fail-on-breaking"]).expect(0);
    assert!(ran.err.contains("what hello promises is not known: it ended with exit code 1"), "{ran:?}");
    assert!(ran.out.contains("~ hello  update"), "{ran:?}");

    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci/github.yml");
    let workflow: Value = serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let steps = workflow["jobs"]["plan"]["steps"].as_array().unwrap();
    let commands = steps.iter().filter_map(|step| step["run"].as_str()).filter(|command| command.contains("--boot"));
    let commands: Vec<&str> = commands.collect();
    assert_eq!(commands.len(), 1, "{commands:?}");
    let clone = world.aside().join("clone");
    let mut git = std::process::Command::new("git");
    git.args(["clone", "-q"]).arg(world.root()).arg(&clone);
    assert!(git.output().unwrap().status.success());
    std::fs::write(clone.join("apis/hello/main.py"), format!("{FASTAPI}\n# more\n")).unwrap();
    std::fs::create_dir_all(clone.join("apis/closed")).unwrap();
    std::fs::write(clone.join("apis/closed/main.py"), saying("closed")).unwrap();
    std::fs::write(clone.join("apis/closed/api.yaml"), "egress: none\n").unwrap();
    // Whoever runs this is root already, and may have no sudo.
    let (sudo, programs) =
        (world.aside().join("sudo"), std::path::Path::new(env!("CARGO_BIN_EXE_skep")).parent().unwrap());
    std::fs::create_dir(&sudo).unwrap();
    std::fs::write(sudo.join("sudo"), "#!/bin/sh\n[ \"$1\" = -E ] && shift && exec \"$@\"\n").unwrap();
    std::fs::set_permissions(sudo.join("sudo"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}:{}", sudo.display(), programs.display(), std::env::var("PATH").unwrap());
    // As GitHub's runner does where a step names no shell.
    let mut shell = std::process::Command::new("bash");
    shell
        .args(["-e", "-c", commands[0]])
        .current_dir(&clone)
        .env("PATH", path)
        .env("BASE", "main")
        .env_remove("SKEP_ROOT");
    let ran = Ran::of(shell.output().unwrap()).expect(0);
    assert!(ran.out.contains("3 APIs, no findings"), "{ran:?}");
}

#[test]
fn only_what_differs_is_tried_with_no_installation_and_what_it_says_of_itself_is_looked_at() {
    let world = World::new();
    world.code("same", "raise SystemExit('never tried')\n\n\nasync def app(scope, receive, send): ...\n");
    world.code("hello", FASTAPI);
    world.write("apis/hello/openapi.json", "{\"openapi\": \"3.1.0\", \"paths\": {}}");
    commit(&world);
    world.code("hello", &format!("{FASTAPI}\n# more\n"));
    let ran = world.run(&["check", "--boot", "--base", "HEAD", "--output", "json"]).expect(0);
    assert_eq!(findings(&ran), [("apis/hello/openapi.json".to_owned(), "openapi-stale".to_owned())]);
    assert!(!world.state().exists(), "no installation is made for it");
    assert!(world.run(&["check", "--boot", "nobody"]).expect(1).err.contains("no API nobody"));
}

#[test]
fn one_that_is_interrupted_removes_what_it_made_and_what_one_leaves_that_is_killed_the_next_or_a_daemon_removes() {
    use rustix::process::{Pid, Signal, kill_process};
    let world = World::new();
    world.code("silent", "import time\n\n\nasync def app(scope, receive, send):\n    time.sleep(600)\n");
    world.settings("silent", "health: { timeout: 1s, grace: 120s }\n");
    let containers = |owner: &str| engine::labelled(&[&format!("dev.skep.owner={owner}")]).len();
    // By its owner, whatever its mark says: what is left without the mark is found by nobody.
    let has_network = |owner: &str| engine::networks_labelled("dev.skep.owner").iter().any(|(whose, _)| whose == owner);
    let cut_short = |signal: Signal| {
        let mut command = world.command(&["check", "--boot"]);
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        read_until(process.stderr.as_mut().unwrap(), "waiting");
        let owner = owner_of(process.id()).unwrap();
        assert_eq!((containers(&owner), has_network(&owner)), (1, true));
        kill_process(Pid::from_child(&process), signal).unwrap();
        (owner, process.wait().unwrap().code())
    };
    let (owner, code) = cut_short(Signal::INT);
    assert_eq!((code, has_network(&owner), containers(&owner)), (Some(1), false, 0));

    let (owner, _) = cut_short(Signal::KILL);
    assert!(has_network(&owner), "it had no time to clean up");
    world.settings("silent", "health: { timeout: 1s, grace: 1s }\n");
    world.run(&["check", "--boot"]).expect(1);
    assert_eq!((has_network(&owner), containers(&owner)), (false, 0));

    world.settings("silent", "health: { timeout: 1s, grace: 120s }\n");
    let (owner, _) = cut_short(Signal::KILL);
    assert!(has_network(&owner), "it had no time to clean up");
    world.delete("silent");
    world.serve();
    world.until("a daemon removes it", || !has_network(&owner) && containers(&owner) == 0);
}

#[test]
fn of_many_no_more_than_four_are_there_at_a_time_and_none_is_started_twice() {
    let world = World::new();
    let ids: Vec<String> = (1..=6).map(|n| format!("api-{n}")).collect();
    for id in &ids {
        world.code(id, &saying(id));
    }
    let mut process = world.command(&["check", "--boot", "--output", "json"]);
    let process = process.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (number, done) = (process.id(), std::sync::atomic::AtomicBool::new(false));
    let (ran, most, seen) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let (mut most, mut seen) = (0, std::collections::BTreeSet::new());
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(20));
                let Some(owner) = owner_of(number) else { continue };
                let found = engine::instances(&owner, None);
                most = most.max(found.len());
                seen.extend(found.into_iter().map(|container| container.name));
            }
            (most, seen)
        });
        let ran = Ran::of(process.wait_with_output().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let (most, seen) = looking.join().unwrap();
        (ran, most, seen)
    });
    let json = ran.expect(0).json();
    let boots: Vec<&str> = json["boots"].as_array().unwrap().iter().map(|boot| boot["id"].as_str().unwrap()).collect();
    assert_eq!(boots, ids);
    assert!(most <= 4, "{most} at a time: {seen:?}");
    let started = |id: &String| seen.iter().filter(|name| name.starts_with(&format!("skep-{id}-"))).count();
    assert!(ids.iter().all(|id| started(id) == 1), "{seen:?}");
}

#[test]
fn what_serves_is_asked_for_what_it_promises_by_a_plan_here_and_by_one_from_elsewhere() {
    let world = World::new();
    world.code("hello", FASTAPI);
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let document = world.get("hello", "/openapi.json").text();
    let changed = document.replace("\"name\":\"a\"", "\"name\":\"b\"").replace("\"/x\"", "\"/y\"");
    world.interrupt();
    world.code("hello", &FASTAPI.replace("/x", "/y"));
    let plan = world.run(&["plan", "--fail-on-breaking"]).expect(0).out;
    assert!(!plan.contains("breaks"), "there is one document alone: {plan}");
    let plan = world.run(&["plan", "--boot", "--fail-on-breaking"]).expect(1).out;
    assert!(plan.contains("breaks callers: GET /x is gone"), "{plan}");
    world.write("apis/hello/openapi.json", &changed);
    let plan = world.run(&["plan", "--fail-on-breaking"]).expect(1).out;
    assert!(plan.contains("breaks callers: GET /x is gone"), "{plan}");
    world.write("apis/hello/openapi.json", &document.replace("\"required\":true", "\"required\":false"));
    let plan = world.run(&["plan", "--fail-on-breaking"]).expect(0).out;
    assert!(plan.contains("breaks nobody: GET /x: query parameter a need not be given"), "{plan}");

    let checkout = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(checkout.path().join("apis/hello")).unwrap();
    for (name, text) in [("main.py", &FASTAPI.replace("/x", "/y")), ("openapi.json", &changed)] {
        std::fs::write(checkout.path().join("apis/hello").join(name), text).unwrap();
    }
    world.code("hello", FASTAPI);
    std::fs::remove_file(world.root().join("apis/hello/openapi.json")).unwrap();
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let token = world.run(&["keys", "create", "--name", "ci", "--plans"]).expect(0).out.trim().to_owned();
    let url = format!("http://{}", world.address());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_skep"));
    command.current_dir(checkout.path()).env_remove("SKEP_ROOT").env("SKEP_TOKEN", token).env("NO_COLOR", "1");
    let ran = Ran::of(command.args(["plan", "--remote", &url, "--fail-on-breaking"]).output().unwrap()).expect(1);
    assert!(ran.out.contains("breaks callers: GET /x is gone"), "{ran:?}");
    assert!(ran.out.contains("-@app.get(\"/x\")") && ran.out.contains("+@app.get(\"/y\")"), "with its diffs: {ran:?}");
}
