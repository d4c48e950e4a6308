//! What `skep plan` says, in the words that people get, and what of it machines read.

use crate::apps::saying;
use crate::engine;
use crate::world::World;

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
    world.write("apis/hello/requirements.txt", "itsdangerous>=2\n");
    insta::assert_snapshot!("plan_update", plan_text(&world));
    let plan = world.plan();
    let api = &plan["apis"][0];
    assert_eq!((&api["verdict"], &api["restart"]), (&"update".into(), &true.into()), "{plan:#}");
    assert_eq!(api["drift"], serde_json::json!([]), "{plan:#}");
    let changes = api["changes"].as_array().unwrap();
    let of = |kind: &str| changes.iter().filter(|change| change["change"] == kind).collect::<Vec<_>>();
    let timeout = of("setting").into_iter().find(|change| change["key"] == "route.timeout").unwrap();
    assert_eq!((&timeout["old"], &timeout["new"]), (&"30s".into(), &"5s".into()));
    assert_eq!(of("requirement")[0]["new"], "itsdangerous>=2");
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
