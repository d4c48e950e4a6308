//! Streams are what goes on while somebody watches: events and output, as server-sent events, or as what there is now.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, select_all};
use futures_util::{Stream, StreamExt};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use crate::engine::EngineError;
use crate::gateway::{Body, json_answer};
use crate::reconcile::Controller;
use crate::records::{Event, Records};
use crate::tree::ApiId;

/// How often the records are asked for what is new: whichever daemon wrote it.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// After how many asks for nothing it is looked whether numbers have gone back.
const ASKS_BETWEEN_LOOKS: u32 = 20;

/// How often a silent stream gives a sign of life.
const BEAT: Duration = Duration::from_secs(15);

/// Events, or lines of output, that are shown where nobody says how many.
const FEW: usize = 100;
/// The most that one question is answered with.
const MOST: usize = 1000;

/// The header by which a browser goes on where its stream broke off.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The words behind the question mark.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        let read = |text: &str| text.parse().map_err(|_| Fault::Bad(format!("{name} must be a whole number")));
        self.get(name).map(read).transpose()
    }

    fn count(&self, name: &str) -> Result<usize, Fault> {
        let asked = self.number(name)?.and_then(|count| usize::try_from(count).ok());
        Ok(asked.unwrap_or(FEW).min(MOST))
    }

    pub(super) fn api(&self) -> Result<Option<ApiId>, Fault> {
        self.get("api").map(|id| ApiId::new(id).map_err(|_| Fault::Bad(format!("{id} is no id")))).transpose()
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accepts.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// `GET /admin/events?api=&after=&limit=`: the last ones, or those after a number; as a stream, those and all that come.
pub(super) async fn events(
    records: Arc<dyn Records>,
    headers: &HeaderMap,
    query: &Query,
    stop: CancellationToken,
) -> Result<Response<Body>, Fault> {
    let (api, limit) = (query.api()?, query.count("limit")?);
    let resumed = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let after = resumed.or(query.number("after")?);
    let found = match after {
        Some(after) => records.events(api.as_ref(), after, limit).await?,
        None => records.last_events(api.as_ref(), limit).await?,
    };
    if !wants_stream(headers) {
        return Ok(json_answer(StatusCode::OK, &json!({ "success": true, "events": found })));
    }
    let last = match found.last() {
        Some(event) => event.number,
        // What comes from now on: numbers are of all APIs.
        None => records.last_events(None, 1).await?.last().map_or(after.unwrap_or_default(), |event| event.number),
    };
    let watch = Watch { records, api, last, waiting: found.into(), silent: 0 };
    let lines = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await;
        let line = format!("id: {}\nevent: {}\ndata: {}\n\n", event.number, event.event.kind, json!(event));
        Some((line, watch))
    });
    Ok(sent(lines, stop))
}

struct Watch {
    records: Arc<dyn Records>,
    api: Option<ApiId>,
    last: u64,
    waiting: VecDeque<Event>,
    /// How often there was nothing new.
    silent: u32,
}

impl Watch {
    /// After a restore from a backup numbers are given again: goes on from the last that there is.
    async fn look_back(&mut self) {
        if let Ok(last) = self.records.last_events(None, 1).await {
            self.last = self.last.min(last.last().map_or(0, |event| event.number));
        }
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.last = self.last.max(event.number);
                return event;
            }
            // A database that is away for a while is asked again.
            if let Ok(found) = self.records.events(self.api.as_ref(), self.last, FEW).await {
                self.waiting = found.into();
            }
            if self.waiting.is_empty() {
                self.silent += 1;
                if self.silent.is_multiple_of(ASKS_BETWEEN_LOOKS) {
                    self.look_back().await;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
    }
}

/// `GET /admin/logs/{id}?tail=`: what its instances printed; as a stream, that and all that comes.
pub(super) async fn logs(
    controller: &Controller,
    id: &ApiId,
    headers: &HeaderMap,
    query: &Query,
    stop: CancellationToken,
) -> Result<Response<Body>, Fault> {
    let (engine, tail, follow) = (&controller.world().engine, query.count("tail")?, wants_stream(headers));
    let instances = engine.instances(Some(id)).await?;
    if instances.is_empty() && controller.world().records.get(id).await?.is_none() {
        return Err(Fault::Unknown(id.clone()));
    }
    let mut streams: Vec<BoxStream<'static, Result<Value, EngineError>>> = Vec::new();
    for instance in instances {
        let name = instance.name.clone();
        // One that is just being removed has nothing more to say.
        let Ok(lines) = engine.logs(&instance.container, tail, follow).await else { continue };
        let lines = lines.map(move |line| {
            line.map(|line| json!({ "instance": name, "at": line.at, "stderr": line.is_error, "text": line.text }))
        });
        streams.push(lines.boxed());
    }
    if follow {
        let lines = select_all(streams).filter_map(|line| async move { line.ok() });
        return Ok(sent(lines.map(|line| format!("data: {line}\n\n")), stop));
    }
    let mut lines = Vec::new();
    for mut stream in streams {
        while let Some(Ok(line)) = stream.next().await {
            lines.push(line);
        }
    }
    Ok(json_answer(StatusCode::OK, &json!({ "success": true, "api_id": id, "lines": lines })))
}

/// A stream of server-sent events, with a sign of life while there are none. Who watches keeps no daemon from ending.
fn sent(lines: impl Stream<Item = String> + Send + 'static, stop: CancellationToken) -> Response<Body> {
    let beats = stream::unfold((), |()| async {
        tokio::time::sleep(BEAT).await;
        Some((": still here\n\n".to_owned(), ()))
    });
    let lines = stream::select(lines, beats).take_until(stop.cancelled_owned());
    let frames = lines.map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(line))));
    let mut answer = Response::new(Body::stream(StreamBody::new(frames)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
