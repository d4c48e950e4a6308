//! An apply is asked for over the control surface, and told of line by line.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::ApplyLine;
use super::fault::Fault;
use super::streams::Query;
use super::surface::Surface;
use crate::gateway::Body;
use crate::reconcile::follow::Ask;
use crate::reconcile::{Controller, ROUNDS};
use crate::tree::{ApiId, PullRequest};

/// What becomes of what is under way where a daemon ends.
const ENDS: &str = "the daemon ends, and what is under way goes on when the next one begins; see then: skep status";

impl Surface {
    /// What reconciles, and what reads its tree, where this daemon does.
    #[must_use]
    pub fn at_work(&self) -> Option<(Arc<Controller>, Ask)> {
        self.leading().ok()
    }
}

/// Looks at tree and world now, and tells, line by line, what comes of it: of one API, of what the tree asks for, or
/// of the previews of a pull request, and never of both.
///
/// The work goes on whether or not somebody listens to the end.
///
/// # Errors
/// Where it makes no sense of which API, or of which pull request: then nothing is looked at, rather than everything.
pub(super) fn answer(
    controller: Arc<Controller>,
    tree: Ask,
    query: &Query,
    stop: CancellationToken,
) -> Result<Response<Body>, Fault> {
    let (lines, answer) = mpsc::channel::<ApplyLine>(64);
    let wanted = match (query.get("id"), query.get("pull_request")) {
        (Some(id), _) => Wanted::Only(ApiId::new(id).map_err(|error| Fault::Bad(format!("id: {error}")))?),
        (None, Some(number)) => {
            let number = PullRequest::read(number);
            Wanted::Tree(Some(number.ok_or_else(|| Fault::Bad("pull_request must be the number of one".to_owned()))?))
        }
        (None, None) => Wanted::Tree(None),
    };
    tokio::spawn(tell(controller, tree, wanted, lines, stop));
    let frames = tokio_stream::StreamExt::map(ReceiverStream::new(answer), |line| {
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        Ok::<_, serde_json::Error>(Frame::data(Bytes::from(text)))
    });
    let mut response = Response::new(Body::stream(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// Of which APIs somebody wants to be told.
enum Wanted {
    Only(ApiId),
    /// Of those that the tree asks for, or of the previews of a pull request.
    Tree(Option<PullRequest>),
}

async fn tell(
    controller: Arc<Controller>,
    tree: Ask,
    wanted: Wanted,
    lines: mpsc::Sender<ApplyLine>,
    stop: CancellationToken,
) {
    let is_wanted = |id: &ApiId| match &wanted {
        Wanted::Only(only) => id == only,
        Wanted::Tree(of) => id.preview().map(|(_, pull_request)| pull_request) == *of,
    };
    let mut news = controller.world().news.subscribe();
    let done = async {
        tree.look().await;
        let mut rests = BTreeMap::new();
        // What may go only once something else serves is given its turn by the next look.
        for _ in 0..ROUNDS {
            let hinted = match controller.look().await {
                Ok(hinted) => hinted,
                Err(error) => return ApplyLine::Failed(error.to_string()),
            };
            if !rests.is_empty() && !hinted.iter().any(is_wanted) {
                break;
            }
            // All of them, since one may have been at work before this look, and so have nothing left for it.
            let ids = controller.known().into_iter().filter(is_wanted).collect();
            rests = controller.rested(&ids).await;
        }
        ApplyLine::Done(rests)
    };
    tokio::pin!(done);
    loop {
        let line = tokio::select! {
            // News first, so that the last line really is the last.
            biased;
            news = news.recv() => match news {
                Ok(news) if !is_wanted(&news.api) => continue,
                Ok(news) => ApplyLine::News(news),
                // Whoever reads slowly misses some lines of output, and no more than that.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
            last = &mut done => last,
            // Nothing comes to rest by a daemon that ends.
            () = stop.cancelled() => ApplyLine::Failed(ENDS.to_owned()),
        };
        let is_last = !matches!(line, ApplyLine::News(_));
        if lines.send(line).await.is_err() || is_last {
            return;
        }
    }
}
