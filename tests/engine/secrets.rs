//! Secrets: what an app is given is given to its process alone, each time that it starts, and is found nowhere else.

use std::sync::Arc;

use bollard::query_parameters::{ListContainersOptions, LogsOptions};
use futures_util::StreamExt;
use skep::engine::{Engine, Start};
use skep::secrets::Opened;
use skep::tree::{Egress, SecretsAs};

use crate::world::{GRACE, Served, World, engine, inspect};

/// What is looked for afterwards: nothing else on this host says it.
fn word() -> String {
    format!("secret-{:016x}", rand::random::<u64>())
}

async fn job(world: &World, api: &str, given: SecretsAs, secrets: &[(&str, &str)]) -> Start {
    let mut job = world.job(api, Egress::Internet).await;
    let mut opened = Opened::default();
    for (name, value) in secrets {
        opened.set(name, (*value).to_owned()).unwrap();
    }
    job.run.secrets = given;
    job.secrets = Some(Arc::new(opened));
    job
}

#[tokio::test]
async fn secrets_are_files_that_the_app_alone_can_read_in_memory() {
    let world = World::get();
    let value = format!("two lines\n{}\n", word());
    let job = job(&world, "as-files", SecretsAs::Files, &[("KEY", &value), ("OTHER", "é €")]).await;
    world.docker.start(&job).await.unwrap();
    let served = Served::wait(&world.docker, &job.api).await;
    let told = served.get("/secrets").await;
    assert_eq!(told["files"], serde_json::json!({ "KEY": value, "OTHER": "é €" }));
    assert_eq!(told["modes"]["KEY"], serde_json::json!(["0o100400", 10001]));
    assert_eq!((told["folder"].as_str(), told["mount"][0][0].as_str()), (Some("0o40700"), Some("tmpfs")), "{told}");
    for option in ["noexec", "nosuid", "nodev"] {
        assert!(told["mount"][0][1].as_str().unwrap().contains(option), "{told}");
    }
    assert_eq!(told["environment"], serde_json::json!({}));
    assert_eq!(told["stdin"], "/dev/null");
    assert_eq!(told["arguments"][1], "-m", "it has become the app: {told}");
    world.docker.remove(&served.container, GRACE).await.unwrap();
}

#[tokio::test]
async fn what_an_app_is_given_is_nowhere_on_the_engine() {
    let world = World::get();
    let (one, two) = (word(), word());
    let job = job(&world, "as-env", SecretsAs::Env, &[("KEY", &one), ("OTHER", &two)]).await;
    let told = format!("{job:?}");
    assert!(!told.contains(&one) && told.contains("KEY"), "{told}");
    world.docker.start(&job).await.unwrap();
    let served = Served::wait(&world.docker, &job.api).await;
    let told = served.get("/secrets").await;
    assert_eq!(told["environment"], serde_json::json!({ "KEY": one, "OTHER": two }));
    assert_eq!(told["files"]["KEY"], one.as_str());

    let mut seen = Vec::new();
    seen.push(("inspect", serde_json::to_string(&inspect(&served.container).await).unwrap().into_bytes()));
    let options = ListContainersOptions { all: true, ..Default::default() };
    seen.push(("list", serde_json::to_string(&engine().list_containers(Some(options)).await.unwrap()).unwrap().into()));
    let top = engine().top_processes(&served.container, None).await.unwrap();
    seen.push(("processes", serde_json::to_string(&top).unwrap().into()));
    let options = LogsOptions { stdout: true, stderr: true, tail: "all".to_owned(), ..Default::default() };
    let logs: Vec<_> = engine().logs(&served.container, Some(options)).collect().await;
    seen.push(("logs", logs.into_iter().flat_map(|line| line.unwrap().into_bytes()).collect()));
    let image = engine().inspect_image(&job.image.0).await.unwrap();
    seen.push(("image", serde_json::to_string(&image).unwrap().into()));
    let mut tar = Vec::new();
    let mut export = engine().export_image(&job.image.0);
    while let Some(chunk) = export.next().await {
        tar.extend_from_slice(&chunk.unwrap());
    }
    seen.push(("image tar", tar));
    let mut tar = Vec::new();
    let mut export = engine().export_container(&served.container);
    while let Some(chunk) = export.next().await {
        tar.extend_from_slice(&chunk.unwrap());
    }
    seen.push(("container tar", tar));
    for (place, bytes) in seen {
        assert!(!bytes.is_empty(), "{place} says nothing");
        for word in [&one, &two] {
            let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found, "a secret is in the {place}");
        }
    }
    world.docker.remove(&served.container, GRACE).await.unwrap();
}

#[tokio::test]
async fn a_stopped_instance_that_skep_starts_again_gets_them_again_and_one_that_others_start_ends() {
    let world = World::get();
    let value = word();
    let job = job(&world, "again", SecretsAs::Files, &[("KEY", &value)]).await;
    world.docker.start(&job).await.unwrap();
    let served = Served::wait(&world.docker, &job.api).await;
    engine().stop_container(&served.container, None).await.unwrap();
    world.docker.start(&job).await.unwrap();
    let again = Served::wait(&world.docker, &job.api).await;
    assert_eq!(again.container, served.container, "the same container, as after the host was off");
    assert_eq!(again.get("/secrets").await["files"]["KEY"], value.as_str());

    engine().restart_container(&served.container, None).await.unwrap();
    let mut ended = engine().wait_container(&served.container, None);
    let code = match ended.next().await.unwrap() {
        Ok(ended) => ended.status_code,
        Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(code, 78);
    let lines: Vec<_> = world.docker.logs(&served.container, 3, false).await.unwrap().collect().await;
    let last = lines.last().unwrap().as_ref().unwrap().text.clone();
    assert_eq!(last, "skep: the secrets did not come; this container is only for skep to start");
    world.docker.remove(&served.container, GRACE).await.unwrap();
}

#[tokio::test]
async fn an_app_without_secrets_is_started_as_before() {
    let world = World::get();
    let served = world.serve("without", Egress::Internet).await;
    let told = served.get("/secrets").await;
    assert_eq!((&told["files"], &told["mount"]), (&serde_json::json!({}), &serde_json::json!([])));
    let found = inspect(&served.container).await;
    assert_eq!(found.config.unwrap().open_stdin, Some(false));
    world.docker.remove(&served.container, GRACE).await.unwrap();
}
