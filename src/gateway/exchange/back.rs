//! The way back is what happens to an answer between its app and its caller.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;

use super::super::body::Body;
use super::super::compress::{self, Verdict, Wish};
use super::super::download::Download;
use super::super::encoder::Prepared;
use super::super::forward::Answer;
use super::super::headers;
use super::super::refusal::Refusal;
use super::super::relay::Relay;
use super::super::tunnel::Tunnel;
use super::{Exchange, Wishes};

impl Exchange<'_> {
    /// Makes the answer of an app that of its caller.
    pub(super) fn bring_back(&mut self, answer: Answer, wishes: Wishes) -> Result<Response<Body>, Refusal> {
        self.timing = wishes.timing.then_some(answer.timing);
        if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match wishes.tunnel {
                Some(caller) => self.open_tunnel(caller, answer),
                None => Err(Refusal::BadGateway("the API switched to another protocol that nobody asked for")),
            };
        }
        let Answer { response, hop, upload, mut in_flight, .. } = answer;
        let (mut parts, ()) = response.into_parts();
        let lasts = headers::is_event_stream(&parts.headers);
        if lasts {
            in_flight.lasts();
        }
        headers::prepare_response(&mut parts.headers);
        // The version is about one connection too, the one to the app.
        parts.version = Version::HTTP_11;
        let download = Download::new(hop, upload, in_flight, (!lasts).then_some(wishes.patience));
        let encoder = wishes.compressed.and_then(|wish| self.compress(wish, &download, &mut parts));
        let relays = wishes.is_http2 && !download.is_end_stream();
        let (silence, tasks) = (self.server.gateway.limits.write_silence, &self.server.tasks);
        let body = match encoder {
            Some(encoder) if relays => Body::relay(Relay::of(encoder.of(download), silence, tasks)),
            Some(encoder) => Body::encoder(encoder.of(download)),
            None if relays => Body::relay(Relay::of(download, silence, tasks)),
            None => Body::download(download),
        };
        Ok(Response::from_parts(parts, body))
    }

    /// What compresses an answer, where its caller wants that and it is safe; its headers then say so.
    fn compress(&self, wish: Wish, download: &Download, answer: &mut http::response::Parts) -> Option<Prepared> {
        let Verdict::Compressed(coding) = wish.decide(answer.status, &mut answer.headers) else { return None };
        if wish.is_head() {
            compress::compressed(coding, &mut answer.headers);
            return None;
        }
        let prepared = Prepared::new(coding, download.size_hint().exact(), &self.server.gateway.encoders)?;
        compress::compressed(coding, &mut answer.headers);
        Some(prepared)
    }

    /// Opens a tunnel between a caller and an upstream that has agreed; it lives on when this exchange has ended.
    fn open_tunnel(&mut self, caller: OnUpgrade, answer: Answer) -> Result<Response<Body>, Refusal> {
        let Answer { response, hop, mut in_flight, .. } = answer;
        let too_soon = Refusal::BadGateway("the API switched to another protocol before it had the request");
        let upstream = hop.into_stream().ok_or(too_soon)?;
        in_flight.lasts();
        let mut response = response.map(|()| Body::empty());
        let headers = response.headers_mut();
        let protocol = headers.get(UPGRADE).cloned();
        headers::remove_hop_by_hop(headers);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.unwrap_or(HeaderValue::from_static("websocket")));
        if let Some(mut access) = self.access.take() {
            access.answered(StatusCode::SWITCHING_PROTOCOLS);
            let tunnel = Tunnel { caller, upstream, in_flight, access };
            self.server.tasks.spawn(tunnel.run(self.server.end.clone()));
        }
        Ok(response)
    }
}
