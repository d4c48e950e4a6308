//! The front is what callers see of the control surface where that has an address of its own.

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;

use super::call::Call;
use super::fault::Fault;
use super::surface::{Surface, is_open};
use crate::gateway::{Handler, HandlerFuture, RequestId};

impl Surface {
    /// What is left of it for callers, where it has an address of its own.
    #[must_use]
    pub fn front(self: Arc<Self>) -> Front {
        Front(self)
    }
}

/// What callers see of the surface where it has an address of its own: that there is a daemon, and whether it is well.
pub struct Front(Arc<Surface>);

impl Handler for Front {
    fn handle(&self, request: Request<Incoming>) -> HandlerFuture {
        let path = request.uri().path();
        if !is_open(Call::of(request.method(), path).as_ref(), path) {
            let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
            return Box::pin(async move { Fault::NotFound.answer(&id) });
        }
        Box::pin(Arc::clone(&self.0).answer(request))
    }
}
