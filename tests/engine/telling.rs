//! What the engine tells: output, events, and that it cannot be asked.

use std::time::Duration;

use futures_util::StreamExt;
use skep::engine::docker::Docker;
use skep::engine::{Engine, EngineError, Hint, LogLine};
use skep::settings::Dial;
use skep::tree::Egress;

use crate::world::{GRACE, Wire, World, engine, settings};

#[tokio::test]
async fn output_is_told_line_by_line_and_is_safe_to_show() {
    let world = World::get();
    let served = world.serve("talker", Egress::Internet).await;
    served.get("/print").await;
    let mut follow = world.docker.logs(&served.container, 1000, true).await.unwrap();
    let read = async {
        let mut lines = Vec::new();
        while let Some(line) = follow.next().await {
            lines.push(line.unwrap());
            // The two outputs come in no order between them.
            let has = |wanted: &str| lines.iter().any(|line: &LogLine| line.text.starts_with(wanted));
            if has("bad ") && has("on error") {
                break;
            }
        }
        lines
    };
    let lines = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    let text = |wanted: &str| {
        lines.iter().find(|line| line.text.starts_with(wanted)).unwrap_or_else(|| panic!("{wanted}: {lines:?}"))
    };
    assert!(text("plain line").at.is_some() && !text("plain line").is_error);
    assert_eq!(text("red").text, "red \u{fffd}nul");
    assert!(text("on error").is_error);
    assert_eq!(text("bad").text, "bad \u{fffd}\u{fffd} bytes");
    let long = text("xxx");
    assert!(long.text.ends_with("(cut)") && long.text.len() < 10_000, "{}", long.text.len());
    assert_eq!(lines.iter().filter(|line| line.text.starts_with("xxx")).count(), 1);

    let tail: Vec<_> = world.docker.logs(&served.container, 2, false).await.unwrap().collect().await;
    assert_eq!(tail.len(), 2, "{tail:?}");

    world.docker.remove(&served.container, GRACE).await.unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(10), follow.collect::<Vec<_>>()).await;
    assert!(rest.is_ok(), "following ends with the container");
    assert!(world.docker.logs(&served.container, 2, false).await.is_err());
}

#[tokio::test]
async fn events_hint_at_the_api_that_something_happened_to() {
    let world = World::get();
    let job = world.job("eventful", Egress::Internet).await;
    let mut events = world.docker.events();
    let first = tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap();
    assert_eq!(first, Some(Hint::Everything), "what came before was missed");
    // The engine says nothing when it has begun to listen; polling is what makes the request.
    let (sender, mut hints) = tokio::sync::mpsc::unbounded_channel();
    let listener = tokio::spawn(async move {
        while let Some(hint) = events.next().await {
            if sender.send(hint).is_err() {
                break;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.docker.start(&job).await.unwrap();
    let mut wait = async || loop {
        let hint = tokio::time::timeout(Duration::from_secs(10), hints.recv()).await.expect("a hint comes").unwrap();
        if hint == Hint::Api(job.api.clone()) {
            break;
        }
    };
    wait().await;
    let container = world.only(&job.api).await.container;
    engine().kill_container(&container, None).await.unwrap();
    wait().await;
    listener.abort();
}

#[tokio::test]
async fn after_the_event_stream_broke_everything_is_looked_at() {
    let wire = Wire::lay(&[]);
    let docker = Docker::connect(&wire.settings, "0123456789ab").unwrap();
    let mut events = docker.events();
    let mut next = async || tokio::time::timeout(Duration::from_secs(10), events.next()).await;
    assert_eq!(next().await, Ok(Some(Hint::Everything)));
    for _ in 0..2 {
        let cut = wire.cut.clone();
        let later = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cut.send(()).unwrap();
        });
        assert_eq!(next().await, Ok(Some(Hint::Everything)));
        later.await.unwrap();
    }
}

#[tokio::test]
async fn an_engine_that_never_answers_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let _mute = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut settings = settings(Dial::Auto);
    settings.engine.host = Some(format!("unix://{}", socket.display()));
    let docker = Docker::connect(&settings, "0123456789ab").unwrap();
    let patience = tokio::time::timeout(Duration::from_secs(60), docker.instances(None)).await;
    assert!(matches!(patience, Ok(Err(EngineError::Timeout(_, "list containers")))), "{patience:?}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_told_from_one_that_refuses() {
    let mut settings = settings(Dial::Auto);
    settings.engine.host = Some("unix:///nowhere/docker.sock".to_owned());
    let docker = Docker::connect(&settings, "0123456789ab").unwrap();
    assert!(matches!(docker.instances(None).await, Err(EngineError::Unreachable { .. })));
    settings.engine.host = Some("ssh://somewhere".to_owned());
    assert!(matches!(Docker::connect(&settings, "0123456789ab"), Err(EngineError::Unsupported(_))));
}
