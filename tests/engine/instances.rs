//! Instances: started once, told truly, and never taken for somebody else's.

use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use skep::engine::Engine;
use skep::settings::Dial;
use skep::tree::{Egress, Size};
use skep::world::Run;
use skep::world::instance::InstanceName;

use crate::world::{Served, World, engine, get, settings};

#[tokio::test]
async fn starting_twice_is_one_container_and_another_spec_replaces_one_that_has_ended() {
    let world = World::get();
    let mut job = world.job("twice", Egress::Internet).await;
    let (one, two) = tokio::join!(world.docker.start(&job), world.docker.start(&job));
    one.unwrap();
    two.unwrap();
    let first = world.only(&job.api).await;
    world.docker.start(&job).await.unwrap();
    assert_eq!(world.only(&job.api).await.container, first.container);

    engine().stop_container(&first.container, None).await.unwrap();
    assert!(matches!(world.only(&job.api).await.run, Run::Exited { out_of_memory: false, .. }));
    world.docker.start(&job).await.unwrap();
    let again = world.only(&job.api).await;
    assert_eq!(again.container, first.container);
    assert!(matches!(again.run, Run::Running { .. }), "{again:?}");

    job.run.resources.memory = Size::mib(300);
    world.docker.start(&job).await.unwrap();
    assert_eq!(world.only(&job.api).await.container, first.container, "somebody may be sending callers to it");
    engine().stop_container(&first.container, None).await.unwrap();
    world.docker.start(&job).await.unwrap();
    let other = world.only(&job.api).await;
    assert_ne!(other.container, first.container);
    assert_ne!(other.spec, first.spec);
}

#[tokio::test]
async fn what_a_hand_has_changed_is_seen_and_put_right_in_place() {
    let world = World::get();
    let job = world.job("repaired", Egress::Internet).await;
    world.docker.start(&job).await.unwrap();
    let made = world.only(&job.api).await;
    assert_eq!(made.altered, None);
    let id = &*made.container;

    engine().pause_container(id).await.unwrap();
    assert_eq!(world.only(&job.api).await.run, Run::Paused);
    assert!(world.docker.repair(&made.container).await.unwrap());
    assert!(matches!(world.only(&job.api).await.run, Run::Running { .. }));

    let options = bollard::query_parameters::RenameContainerOptions { name: format!("{}-elsewhere", job.name) };
    engine().rename_container(id, options).await.unwrap();
    assert!(world.only(&job.api).await.altered.unwrap().contains("renamed"));
    assert!(world.docker.repair(&made.container).await.unwrap());

    let body = bollard::models::ContainerUpdateBody { pids_limit: Some(7), ..Default::default() };
    engine().update_container(id, body).await.unwrap();
    assert!(world.only(&job.api).await.altered.unwrap().contains("process limit to 7"));
    assert!(world.docker.repair(&made.container).await.unwrap());
    let now = world.only(&job.api).await;
    assert_eq!((now.altered, now.name, now.container), (None, made.name, made.container));
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let world = World::get();
    let job = world.job("foreign", Egress::Internet).await;
    let body = ContainerCreateBody {
        image: Some(job.image.to_string()),
        // The owner alone tells what is whose; all else may look alike.
        labels: Some([("dev.skep.owner".to_owned(), "ffffffffffff".to_owned())].into()),
        ..ContainerCreateBody::default()
    };
    let options = bollard::query_parameters::CreateContainerOptions {
        name: Some(format!("{}.{}", job.name, &world.owner[..6])),
        ..Default::default()
    };
    let foreign = engine().create_container(Some(options), body).await.unwrap().id;
    let started = world.docker.start(&job).await;
    let removed = world.docker.remove(&foreign.as_str().into(), Duration::ZERO).await;
    let listed = world.docker.instances(Some(&job.api)).await.unwrap();
    let after = engine().inspect_container(&foreign, None).await;
    engine().remove_container(&foreign, None).await.unwrap();

    assert!(after.is_ok(), "it is still there");
    assert!(started.unwrap_err().to_string().contains("did not make"));
    assert!(removed.unwrap_err().to_string().contains("not of this installation"));
    assert_eq!(listed, []);
}

#[tokio::test]
async fn every_state_of_a_container_is_told() {
    let world = World::get();
    let served = world.serve("states", Egress::Internet).await;
    engine().pause_container(&served.container).await.unwrap();
    assert_eq!(world.only(&served.api).await.run, Run::Paused);
    engine().unpause_container(&served.container).await.unwrap();
    let _ = get(served.address, "/exit?code=7").await;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match world.only(&served.api).await.run {
            Run::Exited { code, out_of_memory } => {
                assert_eq!((code, out_of_memory), (7, false));
                break;
            }
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_app_that_wants_too_much_memory_is_told_from_one_that_ends() {
    let world = World::get();
    let served = world.serve("hungry", Egress::Internet).await;
    let _ = get(served.address, "/eat").await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match world.only(&served.api).await.run {
            Run::Exited { code, out_of_memory } => {
                assert_eq!((code, out_of_memory), (137, true));
                break;
            }
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_container_whose_labels_make_no_sense_hides_no_other() {
    let world = World::get();
    let served = world.serve("sensible", Egress::Internet).await;
    let body = ContainerCreateBody {
        image: Some(world.image().await.to_string()),
        labels: Some(
            [("dev.skep.owner", world.owner.as_str()), ("dev.skep.api", "sensible"), ("dev.skep.number", "many")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        ..ContainerCreateBody::default()
    };
    let odd = engine().create_container(None, body).await.unwrap().id;
    assert_eq!(world.only(&served.api).await.container, served.container);
    world.docker.remove(&odd.as_str().into(), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_network_that_somebody_removed_is_made_again() {
    let world = World::get();
    let other = World::alone(settings(Dial::Auto));
    let mut job = world.job("healing", Egress::Internet).await;
    other.docker.start(&job).await.unwrap();
    let first = other.only(&job.api).await;
    other.docker.remove(&first.container, Duration::ZERO).await.unwrap();
    engine().remove_network(&format!("skep-{}-internet", other.owner)).await.unwrap();
    job.name = InstanceName::new(&job.api, &job.revision, 2);
    other.docker.start(&job).await.unwrap();
    Served::wait(&other.docker, &job.api).await;
}
