//! Images: dependencies installed once, code put on top, and nothing left behind when that fails.

use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptions;
use futures_util::StreamExt;
use skep::engine::docker::Docker;
use skep::engine::{Build, Engine, EngineError, Install, Progress};
use skep::settings::Dial;
use skep::tree::{Egress, Seconds};

use crate::world::{GRACE, Served, Wire, World, engine, files, recorder, requirements, settings};

#[tokio::test]
async fn an_api_goes_from_nothing_to_an_answer_and_back_to_nothing() {
    let world = World::get();
    let served = world.serve("chain", Egress::Internet).await;
    let answer = served.get("/").await;
    assert_eq!(answer["api"], "chain");
    assert_eq!(answer["word"], "honey");
    assert_eq!(answer["inner"], "from below");

    let instance = world.only(&served.api).await;
    let job = world.job("chain", Egress::Internet).await;
    assert_eq!((instance.name, instance.revision, instance.number), (job.name, job.revision, 1));
    assert!(instance.spec.is_some());
    let age = jiff::Timestamp::now().duration_since(instance.created).as_secs();
    assert!((0..120).contains(&age), "{age}");

    world.docker.remove(&served.container, GRACE).await.unwrap();
    assert_eq!(world.docker.instances(Some(&served.api)).await.unwrap(), []);
    world.docker.remove(&served.container, GRACE).await.unwrap();
}

#[tokio::test]
async fn the_base_is_the_same_when_asked_again_and_by_another_skep() {
    let world = World::get();
    let first = world.docker.base(&Progress::silent()).await.unwrap();
    assert_eq!(world.docker.base(&Progress::silent()).await.unwrap(), first);
    let (progress, lines) = recorder();
    let other = Docker::connect(&settings(Dial::Auto), "0123456789ab").unwrap();
    assert_eq!(other.base(&progress).await.unwrap(), first);
    assert_eq!(*lines.lock().unwrap(), Vec::<String>::new(), "nothing was to be made");
}

#[tokio::test]
async fn what_is_installed_already_is_not_installed_again() {
    let world = World::get();
    world.image().await;
    let images = world.docker.images().await.unwrap();
    assert!(images.contains(&world.tag("deps:app")) && images.contains(&world.tag("api-app:1")), "{images:?}");
    let (progress, lines) = recorder();
    let job = Install { tag: world.tag("deps:app"), requirements: requirements(&["no-such-package-xyzzy"]) };
    world.docker.install(&job, &progress).await.unwrap();
    assert_eq!(*lines.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn two_installs_of_the_same_make_it_once() {
    let world = World::get();
    let job = Install { tag: world.tag("deps:twice"), requirements: requirements(&["idna"]) };
    let (progress, lines) = recorder();
    let (one, two) = tokio::join!(world.docker.install(&job, &progress), world.docker.install(&job, &progress));
    one.unwrap();
    two.unwrap();
    let lines = lines.lock().unwrap().clone();
    assert_eq!(lines.iter().filter(|line| line.starts_with(" + idna")).count(), 1, "{lines:?}");
    world.docker.remove_image(&job.tag).await.unwrap();
    world.docker.remove_image(&job.tag).await.unwrap();
    assert!(!world.docker.images().await.unwrap().contains(&job.tag));
}

#[tokio::test]
async fn a_requirement_that_cannot_be_met_is_named_and_leaves_nothing_behind() {
    let world = World::get();
    let job = Install {
        tag: world.tag("deps:impossible"),
        requirements: requirements(&["idna", "fastapi==99.99", "uvicorn"]),
    };
    let Err(EngineError::Failed { message, output }) = world.docker.install(&job, &Progress::silent()).await else {
        panic!("it cannot be installed");
    };
    assert_eq!(message, "cannot install fastapi==99.99: the package index has no such version");
    assert!(output.iter().any(|line| line.contains("fastapi==99.99")), "{output:?}");
    assert!(!world.docker.images().await.unwrap().contains(&job.tag));
}

#[tokio::test]
async fn no_build_code_of_a_package_runs() {
    let world = World::get();
    let job = Install { tag: world.tag("deps:source"), requirements: requirements(&["pycrypto==2.6.1"]) };
    let Err(error) = world.docker.install(&job, &Progress::silent()).await else {
        panic!("it has no wheel");
    };
    assert!(error.to_string().starts_with("cannot install pycrypto==2.6.1: there is no wheel"), "{error}");
}

#[tokio::test]
async fn the_index_is_used_and_its_password_is_kept_nowhere() {
    let world = World::get();
    let mut settings = settings(Dial::Auto);
    settings.build.index_url = Some("http://someone:s3cret@127.0.0.1:9/simple".to_owned());
    let docker = Docker::connect(&settings, &world.owner).unwrap();
    let (progress, lines) = recorder();
    let job = Install { tag: world.tag("deps:secret"), requirements: requirements(&["idna"]) };
    let Err(EngineError::Hindered { message, output }) = docker.install(&job, &progress).await else {
        panic!("nobody listens there");
    };
    let all = format!("{message} {output:?} {:?}", lines.lock().unwrap());
    assert!(message.contains("127.0.0.1:9"), "{message}");
    assert!(!all.contains("s3cret"), "{all}");
}

#[tokio::test]
async fn code_on_dependencies_that_are_not_there_is_refused() {
    let world = World::get();
    let job = Build { tag: world.tag("api-x:1"), dependencies: world.tag("deps:absent"), files: files() };
    let error = world.docker.build(&job, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("deps:absent is not there"), "{error}");
}

#[tokio::test]
async fn code_is_one_layer_on_its_dependencies() {
    an_engine_that_refuses(&[], "layered").await;
}

#[tokio::test]
async fn an_engine_that_loads_no_layer_builds_it() {
    an_engine_that_refuses(&["POST /images/load"], "unloaded").await;
}

#[tokio::test]
async fn an_engine_without_a_builder_gets_the_same_image() {
    an_engine_that_refuses(&["POST /images/load", "POST /build"], "by-hand").await;
}

/// Makes the same image all the same, and it runs.
async fn an_engine_that_refuses(refused: &'static [&'static str], api: &str) {
    let world = World::get();
    world.image().await;
    let wire = Wire::lay(refused);
    let docker = Docker::connect(&wire.settings, &world.owner).unwrap();
    let tag = world.tag(&format!("api-{api}:1"));
    let job = Build { tag: tag.clone(), dependencies: world.tag("deps:app"), files: files() };
    docker.build(&job, &Progress::silent()).await.unwrap();
    let below = engine().inspect_image(&job.dependencies.0).await.unwrap().root_fs.unwrap().layers.unwrap();
    let image = engine().inspect_image(&job.tag.0).await.unwrap();
    let layers = image.root_fs.unwrap().layers.unwrap();
    assert_eq!(layers.split_last().unwrap().1, below);
    assert_eq!(image.config.unwrap().labels.unwrap()["dev.skep.owner"], world.owner);
    let mut job = world.job(api, Egress::Internet).await;
    job.image = tag;
    world.docker.start(&job).await.unwrap();
    let served = Served::wait(&world.docker, &job.api).await;
    assert_eq!(served.get("/").await["inner"], "from below");
    assert_eq!(served.get("/inside").await["writable"], serde_json::json!([]));
}

#[tokio::test]
async fn an_image_holds_nothing_of_how_it_was_installed() {
    let world = World::get();
    let tag = world.image().await;
    for tag in [tag, world.tag("deps:app")] {
        let image = engine().inspect_image(&tag.0).await.unwrap();
        let config = image.config.unwrap();
        let names: Vec<_> = config.env.iter().flatten().filter_map(|variable| variable.split('=').next()).collect();
        for name in names {
            assert!(
                ["PATH", "LANG", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"].contains(&name)
                    || name.contains("PYTHON")
                    || name == "GPG_KEY",
                "{name}"
            );
        }
        assert_eq!(config.user.as_deref(), Some("10001:10001"));
        assert_eq!(config.labels.unwrap()["dev.skep.owner"], world.owner);
    }
}

#[tokio::test]
async fn a_build_that_is_given_up_leaves_no_container() {
    let _world = World::get();
    let other = World::alone(settings(Dial::Auto));
    let job = Install { tag: other.tag("deps:given-up"), requirements: requirements(&["pandas"]) };
    other.docker.base(&Progress::silent()).await.unwrap();
    let (progress, lines) = recorder();
    let install = other.docker.install(&job, &progress);
    let has_begun = async {
        while lines.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(other.build_containers().await.len(), 1);
    };
    tokio::select! {
        outcome = install => panic!("it ended first: {outcome:?}"),
        () = has_begun => {}
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !other.build_containers().await.is_empty() {
        assert!(Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!other.docker.images().await.unwrap().contains(&job.tag));
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_ended_and_says_so() {
    let world = World::get();
    world.docker.base(&Progress::silent()).await.unwrap();
    let mut settings = settings(Dial::Auto);
    settings.build.timeout = Seconds::millis(1);
    let other = World::alone(settings);
    let job = Install { tag: other.tag("deps:slow"), requirements: requirements(&["pandas"]) };
    let error = other.docker.install(&job, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("raise build.timeout"), "{error}");
    assert_eq!(other.build_containers().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_a_crash_left_behind_is_swept_and_what_works_is_left() {
    let world = World::get();
    let image = world.image().await;
    let other = World::alone(settings(Dial::Auto));
    let make = async |command: &[&str], role: &str| {
        let owner = other.owner.as_str();
        let labels = [("dev.skep.owner", owner), ("dev.skep.role", role)];
        let body = ContainerCreateBody {
            image: Some(image.to_string()),
            entrypoint: Some(command.iter().map(|&word| word.to_owned()).collect()),
            cmd: Some(Vec::new()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ContainerCreateBody::default()
        };
        let name = format!("skep-build-{owner}-{:08x}", rand::random::<u32>());
        let options = CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        let id = engine().create_container(Some(options), body).await.unwrap().id;
        if !command.is_empty() {
            engine().start_container(&id, None).await.unwrap();
        }
        id
    };
    let ended = make(&["true"], "workshop").await;
    let at_work = make(&["sleep", "60"], "workshop").await;
    // Of a daemon that is no more: one in the middle of an install, and one that was killed before it began.
    let installing = make(&["sleep", "60"], "build").await;
    let created = make(&[], "build").await;
    engine().wait_container(&ended, None).next().await;
    // As any process does when it begins.
    other.docker.base(&Progress::silent()).await.unwrap();
    let mut left = other.build_containers().await;
    left.sort();
    let mut expected = vec![at_work.clone(), installing, created];
    expected.sort();
    assert_eq!(left, expected);
    // Who reconciles is the only one who makes images of APIs, and this one is making none.
    let leftovers = other.docker.leftovers().await.unwrap();
    other.docker.tidy(&leftovers).await.unwrap();
    assert_eq!(other.build_containers().await, [at_work]);
}
