//! Events are the engine's hints that something happened to a container of ours. They may be missed, and repeated.

use std::collections::HashMap;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::{Docker, labels};
use crate::engine::Hint;
use crate::tree::ApiId;

/// The first pause after the stream broke; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What changes what skep knows of a container. Others, such as the start of a command in it, do not.
const ACTIONS: [&str; 14] = [
    "start",
    "die",
    "oom",
    "kill",
    "stop",
    "pause",
    "unpause",
    "destroy",
    "rename",
    "update",
    "connect",
    "disconnect",
    // Of images: somebody took a name away, or the image as a whole.
    "untag",
    "delete",
];

/// Where the stream stands.
struct Watch {
    docker: Docker,
    events: Option<BoxStream<'static, Result<EventMessage, Error>>>,
    pause: Duration,
}

impl Docker {
    pub(super) fn watch_events(&self) -> BoxStream<'static, Hint> {
        let watch = Watch { docker: self.clone(), events: None, pause: Duration::ZERO };
        stream::unfold(watch, |mut watch| async move {
            let hint = watch.next().await;
            Some((hint, watch))
        })
        .boxed()
    }
}

impl Watch {
    async fn next(&mut self) -> Hint {
        loop {
            let Some(events) = &mut self.events else {
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                if let Some(events) = self.docker.open_events().await {
                    self.events = Some(events);
                    // Whatever happened since the last stream broke was missed.
                    return Hint::Everything;
                }
                continue;
            };
            match events.next().await {
                Some(Ok(event)) => {
                    self.pause = Duration::ZERO;
                    if let Some(hint) = self.docker.read_event(event).await {
                        return hint;
                    }
                }
                // One event that cannot be read says nothing of the next.
                Some(Err(Error::JsonDataError { .. })) => return Hint::Everything,
                Some(Err(_)) | None => self.events = None,
            }
        }
    }
}

impl Docker {
    /// Opens the stream, once the engine answers at all: opening alone says nothing.
    async fn open_events(&self) -> Option<BoxStream<'static, Result<EventMessage, Error>>> {
        let filters = HashMap::from([
            ("type".to_owned(), ["container", "network", "image"].map(str::to_owned).to_vec()),
            ("event".to_owned(), ACTIONS.map(str::to_owned).to_vec()),
        ]);
        let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
        let client = self.client().ok()?;
        let ping = |client: bollard::Docker| async move { client.ping().await };
        self.call("answer", super::call::QUICK, ping).await.ok()?;
        Some(stream::once(async move { client.events(Some(options)) }).flatten().boxed())
    }

    async fn read_event(&self, event: EventMessage) -> Option<Hint> {
        let actor = event.actor.unwrap_or_default();
        let attributes = actor.attributes.unwrap_or_default();
        if event.typ == Some(EventMessageTypeEnum::CONTAINER) {
            return self.hint(&attributes);
        }
        if event.typ == Some(EventMessageTypeEnum::IMAGE) {
            // Which API it is of its labels do not say, nor whose it is: one installation may go on from another's.
            return Some(Hint::Everything);
        }
        let is_ours = attributes.get("name").is_some_and(|name| name.starts_with(&self.network_prefix()));
        // Onto a network of others anybody may put one of ours; onto ours we do, and say so ourselves.
        if is_ours == (event.action.as_deref() == Some("connect")) {
            return None;
        }
        // A container left its network, as it does when it ends, and when somebody pulls it out.
        let Some(container) = attributes.get("container") else { return Some(Hint::Everything) };
        match self.inspect_container(container).await {
            Ok(Some(found)) => self.hint(&found.config.and_then(|config| config.labels).unwrap_or_default()),
            // Its own event says that it is gone.
            Ok(None) => None,
            Err(_) => Some(Hint::Everything),
        }
    }

    /// A container's event carries its labels.
    fn hint(&self, labels: &HashMap<String, String>) -> Option<Hint> {
        if labels.get(labels::OWNER).map(String::as_str) != Some(self.owner()) {
            return None;
        }
        labels.get(labels::API).and_then(|api| ApiId::new(api).ok()).map(Hint::Api)
    }
}
