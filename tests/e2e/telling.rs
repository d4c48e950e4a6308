//! What others are told: forges of commits, people of what happens. By servers that check what they get.

use std::time::Duration;

use serde_json::Value;

use crate::apps::saying;
use crate::ear::{Ear, Heard, SECRET, gitea, github, gitlab, hook, slack};
use crate::engine;
use crate::forge::Forge;
use crate::http::Request;
use crate::pull::{ADMIN_KEY, expect_trouble, follow, look};
use crate::world::World;

/// What the environment of a daemon holds that nobody may read.
const ENVIRONMENT: [(&str, &str); 3] =
    [("ADMIN_API_KEY", ADMIN_KEY), ("A_TOKEN", "t0ken"), ("A_HOOK", "s3cret-of-16-bytes")];

/// An app that takes so long to start that somebody sees it starting.
fn slow(text: &str) -> String {
    format!("import time\ntime.sleep(3)\n{}", saying(text))
}

fn head(forge: &Forge) -> String {
    forge.ask(&["rev-parse", "HEAD"])
}

#[track_caller]
fn publish(world: &World, forge: &Forge, path: &str, text: &str, subject: &str) -> String {
    forge.write(path, text);
    forge.commit(subject);
    forge.push();
    look(world);
    head(forge)
}

#[track_caller]
fn expect_no_secret(world: &World, secrets: &[&str]) {
    let told = world.run(&["events", "-n", "500"]).expect(0).out + &world.run(&["status"]).expect(0).out + &world.log();
    for secret in secrets {
        assert!(!told.contains(secret), "{secret} is in:\n{told}");
    }
}

#[test]
fn a_forge_hears_of_each_commit_what_became_of_it_whatever_happens_on_the_way() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    let ear = Ear::open(github);
    let url = forge.url();
    let report = format!(
        "forge: github, api: '{}', repository: team/apis, token: {{ env: A_TOKEN }}, url: 'https://apis.example', environment: production",
        ear.url()
    );
    forge.write("apis/hello/api.yaml", "health: { grace: 10s, interval: 200ms }\n");
    forge.code("hello", "one");
    let first = head(&forge);
    // It is busy at first, and then wants to be left alone for a moment.
    ear.lose_next("/deployments");
    ear.answer_next(&["500 Oh", "429 Slow\r\nRetry-After: 1", "502 Oh"]);
    follow(&world, &[format!("name: team, url: '{url}', every: 5s, report: {{ {report} }}")]);
    world.expect_answer("hello", "/", "one");
    ear.expect_state(&world, &first, "success", "deployed hello");
    assert!(ear.heard().iter().filter(|heard| heard.code >= 429).count() >= 3);

    // The answer to the word that its deployment begins was lost on the way: it began once all the same.
    world.until("the first deployment is told", || {
        deployments(&ear, &first).last().is_some_and(|last| last == "success")
    });
    let begun = |heard: &&Heard| heard.path.ends_with("/deployments") && heard.body["ref"] == first.as_str();
    assert_eq!(ear.taken().iter().filter(begun).count(), 1);
    assert_eq!(ear.heard().iter().filter(|heard| heard.method == "GET").count(), 1);

    // Pending while it is on its way, then in force, and each of it once.
    let second = publish(&world, &forge, "apis/hello/main.py", &slow("two"), "Two");
    let states = ear.expect_state(&world, &second, "success", "deployed hello");
    assert_eq!(states, ["pending", "success"]);
    let status = ear.taken().into_iter().find(|heard| heard.path.ends_with(&second)).unwrap();
    assert_eq!(
        (&status.body["context"], &status.body["target_url"]),
        (&"skep/team".into(), &"https://apis.example".into())
    );
    world.until("the deployment is told", || deployments(&ear, &second) == ["in_progress", "success"]);

    // What fails says why, and goes on serving what served.
    let third = publish(
        &world,
        &forge,
        "apis/hello/main.py",
        "raise RuntimeError('no room <at> the inn')\napp = None\n",
        "Three",
    );
    ear.expect_state(&world, &third, "failure", "hello: ");
    assert!(ear.states(&third).1.contains("no room"), "{:?}", ear.states(&third));
    assert_eq!(world.get("hello", "/").expect(200).text(), "two");

    // What is not even let in says why as well.
    let fourth = publish(&world, &forge, "apis/hello/main.py", "def f(:\n", "Four");
    ear.expect_state(&world, &fourth, "failure", "not deployed: ");
    assert!(ear.states(&fourth).1.contains("apis/hello/main.py:1:7"), "{:?}", ear.states(&fourth));
    expect_trouble(&world, "team", "broken", "apis/hello/main.py");

    // The forge is away while a commit is deployed, and skep ends without a word: the final word comes all the same.
    ear.set_down(true);
    let fifth = publish(&world, &forge, "apis/hello/main.py", &saying("five"), "Five");
    world.expect_answer("hello", "/", "five");
    world.crash();
    world.serve_with(&ENVIRONMENT);
    world.expect_answer("hello", "/", "five");
    ear.set_down(false);
    ear.expect_state(&world, &fifth, "success", "deployed hello");

    // A commit that changes nothing here is in force at once.
    let sixth = publish(&world, &forge, "README.md", "Hello.\n", "Six");
    ear.expect_state(&world, &sixth, "success", "changes no API");
    assert_eq!(ear.states(&second).0, ["pending", "success"], "a restart tells nothing again");
    assert_eq!(ear.states(&third).0.last().unwrap(), "failure", "why it failed stays to be read");
    ear.expect_no_faults();
    let metrics = world.send(&Request::get("/metrics").key(ADMIN_KEY)).expect(200).text();
    assert!(metrics.contains("skep_told_total{result=\"done\",what=\"report\"}"), "{metrics}");
    expect_no_secret(&world, &["t0ken"]);
}

/// The states that the deployment of a commit went through.
fn deployments(ear: &Ear, commit: &str) -> Vec<String> {
    let taken = ear.taken();
    let begun = taken.iter().position(|heard| heard.path.ends_with("/deployments") && heard.body["ref"] == commit);
    let rest = begun.map_or(&[][..], |begun| &taken[begun + 1..]);
    let of = rest.iter().filter(|heard| heard.path.ends_with("/77/statuses"));
    of.map(|heard| heard.body["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn gitlab_and_gitea_are_told_in_their_own_ways_and_a_token_that_is_no_good_stops_no_deploy() {
    let world = World::new();
    let (one, two) = (Forge::new(&world, "one"), Forge::new(&world, "two"));
    let (lab, tea) = (Ear::open(gitlab), Ear::open(gitea));
    world.write("tea-token", "wr0ng\n");
    one.code("hello", "one");
    two.code("other", "two");
    let lab_report = format!(
        "forge: gitlab, api: '{}/api/v4', repository: group/team/apis, token: {{ env: A_TOKEN }}, environment: production",
        lab.url()
    );
    let tea_report =
        format!("forge: forgejo, api: '{}/api/v1', repository: team/apis, token: {{ file: tea-token }}", tea.url());
    follow(
        &world,
        &[
            format!("name: lab, url: '{}', report: {{ {lab_report} }}", one.url()),
            format!("name: tea, url: '{}', report: {{ {tea_report} }}", two.url()),
        ],
    );
    world.expect_answer("hello", "/", "one");
    world.expect_answer("other", "/", "two");
    lab.expect_state(&world, &head(&one), "success", "deployed hello");
    let status = lab.taken().into_iter().find(|heard| heard.path.contains("/statuses/")).unwrap();
    assert_eq!((&status.body["name"], &status.body["ref"]), (&"skep/lab".into(), &"main".into()));
    world.until("GitLab knows of the deployment", || {
        let taken = lab.taken();
        taken.iter().any(|heard| heard.path.contains("/deployments") && heard.body["status"] == "success")
    });

    // Whoever is refused says so once, and does not knock all the time.
    let status = world.wait("it is said who is not told", || {
        let status = world.run(&["status"]).expect(0).out;
        status.contains("forge of source tea is not told for").then_some(status)
    });
    assert!(status.contains("401 Unauthorized: invalid username, password or token"), "{status}");
    let before = tea.heard().len();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((before, tea.heard().len()), (1, 1), "it was tried again at once");
    assert_eq!(world.log().matches("source tea is not told").count(), 1);
    world.write("tea-token", "t0ken\n");
    tea.expect_state(&world, &head(&two), "success", "deployed other");
    world.until("nobody is missing any more", || !world.run(&["status"]).expect(0).out.contains("is not told"));
    lab.expect_no_faults();
    tea.expect_no_faults();
    expect_no_secret(&world, &["t0ken", "wr0ng"]);
}

#[test]
fn of_two_daemons_the_one_that_reconciles_tells_and_the_next_goes_on_where_it_stopped() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    let ear = Ear::open(gitea);
    world.write("status-token", "t0ken\n");
    let report = format!(
        "forge: gitea, api: '{}/api/v1', repository: team/apis, token: {{ file: status-token }}, context: here",
        ear.url()
    );
    forge.code("hello", "one");
    let first = head(&forge);
    follow(&world, &[format!("name: team, url: '{}', every: 5s, report: {{ {report} }}", forge.url())]);
    world.expect_answer("hello", "/", "one");
    let before = ear.expect_state(&world, &first, "success", "deployed hello");
    let beside = world.serve_beside();
    ear.set_down(true);
    let second = publish(&world, &forge, "apis/hello/main.py", &saying("two"), "Two");
    world.expect_answer("hello", "/", "two");
    world.crash();
    ear.set_down(false);
    ear.expect_state(&world, &second, "success", "deployed hello");
    forge.code("hello", "three");
    ear.expect_state(&world, &head(&forge), "success", "deployed hello");
    assert_eq!(ear.states(&first).0, before, "what was told is not told again");
    assert_eq!(ear.states(&second).0.iter().filter(|state| *state == "success").count(), 1);
    assert!(ear.taken().iter().all(|heard| heard.body["context"] == "here"));
    ear.expect_no_faults();
    drop(beside);
}

/// What somebody was told, by kind.
fn told(ear: &Ear, kind: &str) -> Vec<Heard> {
    let is_it = |heard: &Heard| heard.body["type"] == kind && !apis(heard).is_empty();
    ear.taken().into_iter().filter(is_it).collect()
}

/// The APIs that a message names. What it says of the host is left out: its firewall is that of all tests.
fn apis(heard: &Heard) -> Vec<&str> {
    let items = heard.body["data"]["items"].as_array().unwrap();
    items.iter().filter_map(|item| item["api"].as_str()).collect()
}

#[test]
fn people_hear_what_is_deployed_failed_healed_and_held_in_few_words() {
    let world = World::new();
    let (hooked, slacked, reported) = (Ear::open(hook), Ear::open(slack), Ear::open(gitea));
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write(
        "skep.yaml",
        &format!(
            "{settings}notifications:\n- {{ name: bot, url: '{}/hook', secret: {{ env: HOOK_SECRET }} }}\n\
             - {{ name: ops, url_from: {{ env: SLACK_URL }}, format: slack, events: [deployed, failed] }}\n\
             push: {{ report: {{ forge: gitea, api: '{}/api/v1', repository: team/apis, token: {{ env: A_TOKEN }} }} }}\n",
            hooked.url(),
            reported.url()
        ),
    );
    let address = format!("{}/services/T0/B0/s3cret", slacked.url());
    let secrets = [("HOOK_SECRET", SECRET), ("SLACK_URL", address.as_str())];
    world.serve_with(&[&ENVIRONMENT[..], &secrets[..]].concat());

    // Several APIs of one push are one message.
    let forge = Forge::new(&world, "team");
    let push = |subject: &str| {
        forge.commit(subject);
        let url = format!("http://ada:{ADMIN_KEY}@{}/git", world.address());
        forge
            .git(&["-c", "protocol.http.allow=always", "push", "--quiet", "-o", "nowait", &url, "HEAD:main"])
            .expect(0);
        head(&forge)
    };
    for id in ["alpha", "beta", "gamma"] {
        forge.write(&format!("apis/{id}/main.py"), &slow(id));
        forge.write(&format!("apis/{id}/api.yaml"), "health: { grace: 10s, interval: 200ms }\n");
    }
    let first = push("Three at once");
    world.until("all that is deployed is told", || told(&hooked, "deployed").iter().flat_map(apis).count() == 3);
    let deployed = told(&hooked, "deployed");
    assert_eq!(deployed.len(), 1, "{deployed:#?}");
    let item = &deployed[0].body["data"]["items"][0];
    assert_eq!((&item["commit"]["id"], &item["what"]), (&Value::from(first.clone()), &"Three at once".into()));
    world.until("Slack is told", || slacked.taken().len() == 1);
    assert_eq!(slacked.taken()[0].body["text"], "3 deployed");
    reported.expect_state(&world, &first, "success", "deployed alpha, beta, gamma");
    assert_eq!(reported.taken()[0].body["context"], "skep");

    // Slack is in trouble for a while, and says so in words that give away its address.
    slacked.answer_next(&["500 Oh", "500 Oh", "500 Oh"]);
    // The bot does not want one message, and gets the next.
    hooked.answer_next(&["422 No"]);
    world.run(&["hold", "alpha", "--why", "not wanted"]).expect(0);
    world.until("the bot has refused a message", || hooked.heard().iter().any(|heard| heard.code == 422));
    world.run(&["release", "alpha"]).expect(0);

    // A failure is told once, in words that call nobody, though it is tried time and again.
    forge.write("apis/beta/main.py", "raise RuntimeError('<!channel> & all')\napp = None\n");
    let second = push("Break it");
    world.until("the failure is told", || told(&hooked, "failed").len() == 1);
    let failed = &told(&hooked, "failed")[0];
    assert_eq!(apis(failed), ["beta"]);
    // Of what failed, and not of what still serves.
    let item = &failed.body["data"]["items"][0];
    assert_eq!((&item["commit"]["id"], &item["commit"]["subject"]), (&Value::from(second.clone()), &"Break it".into()));
    let serving: Vec<&Value> =
        deployed[0].body["data"]["items"].as_array().unwrap().iter().map(|it| &it["revision"]).collect();
    assert!(item["revision"].is_string() && !serving.contains(&&item["revision"]), "{item}");
    world.until("it is said that Slack is not told", || world.log().contains("notification ops is not told"));
    world.until("Slack is told of it", || slacked.taken().len() == 2);
    assert_eq!(slacked.taken()[1].body["text"], "beta failed");
    reported.expect_state(&world, &second, "failure", "beta: ");

    // Away for a while: what could not be told is told later, under the same name, also by the next daemon.
    hooked.set_down(true);
    world.run(&["hold", "gamma", "--why", "we look at it"]).expect(0);
    let container = &world.containers("alpha")[0];
    engine::kill(container);
    world.until("another instance serves", || world.containers("alpha").first().is_some_and(|now| now != container));
    std::thread::sleep(Duration::from_secs(3));
    world.crash();
    hooked.answer_next(&["503 Not yet"]);
    hooked.set_down(false);
    world.serve_with(&[&ENVIRONMENT[..], &secrets[..]].concat());
    world.until("the hold is told", || told(&hooked, "held").len() == 1);
    let held = &told(&hooked, "held")[0];
    assert!(apis(held) == ["gamma"] && held.text.contains("we look at it"), "{held:?}");
    world.until("what was healed is told", || told(&hooked, "healed").len() == 1);
    assert_eq!(apis(&told(&hooked, "healed")[0]), ["alpha"]);
    let refused: Vec<Heard> = hooked.heard().into_iter().filter(|heard| heard.code == 503).collect();
    let again =
        hooked.taken().into_iter().filter(|heard| heard.header("webhook-id") == refused[0].header("webhook-id"));
    assert_eq!(again.count(), 1, "it is the same message");

    // What is mended is deployed. Nothing of all that was told twice.
    forge.write("apis/beta/main.py", &saying("beta again"));
    push("Mend it");
    world.until("what was mended is told", || told(&hooked, "deployed").len() == 2);
    assert_eq!(apis(&told(&hooked, "deployed")[1]), ["beta"]);
    world.until("Slack is told of that", || slacked.taken().len() == 3);
    assert_eq!(told(&hooked, "failed").len(), 1);

    // Of two that come at once each is told of, with what it changes itself.
    forge.write("apis/alpha/main.py", &slow("alpha anew"));
    let one = push("Change alpha");
    forge.write("README.md", "Hello.\n");
    let other = push("Say hello");
    reported.expect_state(&world, &other, "success", "changes no API");
    reported.expect_state(&world, &one, "success", "deployed alpha");
    for ear in [&hooked, &slacked, &reported] {
        ear.expect_no_faults();
    }
    expect_no_secret(&world, &["t0ken", "s3cret", SECRET]);
}
