//! What an API reaches from inside its container.

use serde_json::json;

use crate::alone;
use crate::matrix::{Came, Target, is_reached, measure, surprises, table};
use crate::scene::{Bypass, Scene, TRIERS};
use crate::targets;

#[test]
fn an_api_reaches_what_is_meant_for_it_and_nothing_else() {
    let _alone = alone();
    let scene = Scene::open();
    let targets = targets::all(&scene);
    let held = measure(&scene, &targets, "held");

    // The same without our rules, and with the engine's rules passed by: what was refused is there.
    scene.world.crash();
    scene.flush();
    let mut bypass = Bypass::open(&scene);
    let mut open = measure(&scene, &targets, "open");
    for round in 0..3 {
        if absent(&targets, &open).is_empty() {
            break;
        }
        // The engine puts its own rules on top again whenever somebody on this host makes a network.
        drop(bypass);
        bypass = Bypass::open(&scene);
        open = measure(&scene, &targets, &format!("open-{round}"));
    }

    // And with our rules alone, which come back with the daemon.
    scene.world.serve();
    scene.expect_held();
    scene.forget_neighbours();
    let alone = measure(&scene, &targets, "alone");
    drop(bypass);

    println!("{}", table(&targets, &[("held", &held), ("all rules flushed", &open), ("ours back, alone", &alone)]));
    assert_eq!(surprises(&targets, &held), Vec::<String>::new());
    assert_eq!(surprises(&targets, &alone), Vec::<String>::new());
    let absent = absent(&targets, &open);
    assert!(absent.is_empty(), "these are out of reach anyway, so that their refusal shows nothing: {absent:#?}");
}

/// What only rules should keep an API with egress from, and what it does not reach without them.
fn absent<'a>(targets: &'a [Target], open: &Came) -> Vec<&'a str> {
    let both = std::iter::zip(targets, &open[0]);
    both.filter(|(target, came)| target.is_held_by_rules && !is_reached(came))
        .map(|(target, _)| target.what.as_str())
        .collect()
}

#[test]
fn rules_that_somebody_flushed_come_back_and_end_what_was_opened_without_them() {
    let _alone = alone();
    let scene = Scene::open();
    let rules = wherever_they_are_led_to(scene.rules());
    assert!(!rules.is_empty());
    scene.flush();
    scene.world.until("the rules are back", || wherever_they_are_led_to(scene.rules()) == rules);
    scene.expect_held();

    // With nobody there to put them back, a container reaches the host, and stays connected.
    scene.world.crash();
    scene.flush();
    for id in TRIERS {
        let service = json!({ "host": scene.gateway(id), "port": scene.host.service });
        assert_eq!(scene.ask(id, "/hold", &service), "open");
        assert_eq!(scene.ask(id, "/use", &json!({})), "answered");
    }
    scene.world.serve();
    scene.expect_held();
    for id in TRIERS {
        let came = scene.ask(id, "/use", &json!({}));
        assert!(came.as_str().unwrap().starts_with("silent"), "{id}: {came}");
    }
}

/// The rules, with one name for the two places from which forwarded traffic is led to them: the engine's own chain for its
/// users, or `FORWARD` itself while nothing leads to that chain, which the engine changes whenever somebody makes a network.
fn wherever_they_are_led_to(rules: Vec<String>) -> Vec<String> {
    rules.into_iter().map(|rule| rule.replace("-A DOCKER-USER -i ", "-A FORWARD -i ")).collect()
}
