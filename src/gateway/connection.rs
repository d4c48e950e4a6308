//! A connection is what a caller opens: TLS or not, HTTP/1.1 or HTTP/2, and the requests on it one by one or side by side.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use http::{Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::body::Body;
use super::exchange::Exchange;
use super::frames::Framed;
use super::heads::Watched;
use super::origin::Origin;
use super::server::{Peer, Server};
use super::wire::{Beginning, Wire};

/// Requests side by side on one connection of HTTP/2. RFC 9113, section 6.5.2, advises against less.
const STREAMS: u32 = 100;

/// What may be under way of one request body, and of all on one connection, before its sender must wait: so much memory
/// can each take. As much as 10 ms at 200 Mbit/s.
const WINDOWS: (u32, u32) = (256 * 1024, 1024 * 1024);

/// What is held of one answer that its caller does not read.
const SEND_AHEAD: usize = 64 * 1024;

/// Streams that were reset before anything was done about them, and that broke a rule, before the connection ends.
const RESETS: (usize, usize) = (20, 100);

/// What one hears who speaks plainly where TLS is wanted, in the shape of our other refusals.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\
    Content-Length: 59\r\n\r\n{\"error\":\"this port wants https, and http was spoken here\"}";

impl Server {
    /// Serves one connection to its end.
    pub(super) async fn connection(&self, stream: TcpStream, peer: Peer, shutdown: CancellationToken) {
        let limits = &self.gateway.limits;
        let mut wire = Wire::new(stream, limits.write_silence);
        let greet = async {
            let Some(beginning) = wire.beginning().await? else { return Ok(None) };
            Ok::<_, io::Error>(match (beginning, &self.gateway.tls) {
                (Beginning::Tls, Some(tls)) => Some(Greeted::Securely(Box::new(tls.acceptor().accept(wire).await?))),
                (Beginning::Http1 | Beginning::Http2, Some(_)) if !may_speak_plainly(peer.0.ip()) => {
                    wire.write_all(PLAIN).await?;
                    wire.shutdown().await?;
                    None
                }
                (Beginning::Http2, _) => Some(Greeted::Http2(wire)),
                // A handshake where there is no certificate is no HTTP either, which is for hyper to say.
                (Beginning::Http1 | Beginning::Tls, _) => Some(Greeted::Http1(wire)),
            })
        };
        let greeted = tokio::select! {
            greeted = timeout(limits.head_timeout, greet) => greeted,
            () = shutdown.cancelled() => return,
        };
        match greeted {
            Ok(Ok(Some(Greeted::Http1(wire)))) => self.http1(wire, peer, false, shutdown).await,
            Ok(Ok(Some(Greeted::Http2(wire)))) => {
                self.http2(TokioIo::new(Framed::new(wire)), peer, false, shutdown).await;
            }
            Ok(Ok(Some(Greeted::Securely(stream)))) => match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => self.http2(TokioIo::new(Framed::new(stream)), peer, true, shutdown).await,
                _ => self.http1(stream, peer, true, shutdown).await,
            },
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection broke off before its first request"),
            Err(_) => tracing::debug!("a connection did not come to its first request in time"),
        }
    }

    async fn http1<S>(&self, stream: S, peer: Peer, secure: bool, shutdown: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.gateway.limits;
        let (origin, activity) = (&Origin::new(peer, secure), &Arc::new(Activity::default()));
        let rest = || activity.quiet_for(limits.rest).map(|()| Signal::Rest).boxed();
        // Asked only when one of them has something to say: a token takes a lock that all connections share.
        let mut signals = Signals::from_iter([
            shutdown.cancelled().map(|()| Signal::Shutdown).boxed(),
            self.end.cancelled().map(|()| Signal::End).boxed(),
            activity.quiet_for(limits.head_timeout).map(|()| Signal::End).boxed(),
            rest(),
        ]);
        let mut stream = Watched::new(stream, Arc::clone(activity), secure);
        let mut finishes = false;
        loop {
            let service = service_fn(|request: Request<Incoming>| {
                activity.set_request(!request.body().is_end_stream(), request.version() == Version::HTTP_11);
                // At once, before more is read: what is known of the last head is of this one's.
                let exchange = Exchange::new(self, origin, request.method().clone()).of(activity);
                async move { Ok::<Response<Body>, Infallible>(exchange.run(request).await) }
            });
            let mut connection = http1::Builder::new()
                // Ours, above, sets no timer for each request.
                .header_read_timeout(None)
                .max_buf_size(limits.read_ahead)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            loop {
                tokio::select! {
                    biased;
                    ended = &mut connection => return log(ended),
                    Some(signal) = signals.next() => match signal {
                        Signal::Shutdown => signals.push(sleep(limits.linger).map(|()| Signal::Finish).boxed()),
                        Signal::Finish => {
                            finishes = true;
                            std::pin::Pin::new(&mut connection).graceful_shutdown();
                        }
                        Signal::End => return,
                        Signal::Rest if finishes => {}
                        Signal::Rest if activity.is_between_requests() => break,
                        Signal::Rest => signals.push(rest()),
                    },
                }
            }
            // Nobody has asked for a while, as on most connections: without hyper, and the 25 KB that it holds for each.
            let Some(parts) = connection.into_parts() else { return };
            stream = parts.io.into_inner().again(parts.read_buf);
            if !self.rests(&mut stream, &mut signals).await {
                return;
            }
            signals.push(rest());
        }
    }

    /// Holds a connection on which nobody asks; `false` where it has ended.
    async fn rests<S>(&self, stream: &mut Watched<S>, signals: &mut Signals<'_>) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let linger = self.gateway.limits.linger;
        loop {
            tokio::select! {
                biased;
                begins = stream.begins() => return begins.unwrap_or_else(|error| {
                    tracing::debug!(%error, "a connection broke off between two requests");
                    false
                }),
                Some(signal) = signals.next() => match signal {
                    Signal::Shutdown => signals.push(sleep(linger).map(|()| Signal::Finish).boxed()),
                    Signal::Finish => {
                        // Says goodbye, where there is TLS.
                        let _ = timeout(linger, stream.shutdown()).await;
                        return false;
                    }
                    Signal::End => return false,
                    Signal::Rest => {}
                },
            }
        }
    }

    /// HTTP/2 as far as hyper and h2 have it, and two limits that they lack: a connection on which nothing happens ends,
    /// and so does one that begins requests only to give them up, which costs it nothing and the apps all
    /// (CVE-2023-44487; h2 itself counts only those that we have not begun yet).
    async fn http2<S>(&self, stream: S, peer: Peer, secure: bool, shutdown: CancellationToken)
    where
        S: Read + Write + Unpin + Send + 'static,
    {
        let limits = &self.gateway.limits;
        let activity = Arc::new(Activity::default());
        let of_connection = Arc::new((self.clone(), Origin::new(peer, secure), Arc::clone(&activity)));
        let service = service_fn(move |request: Request<Incoming>| {
            let of_connection = Arc::clone(&of_connection);
            async move {
                let (server, origin, activity) = &*of_connection;
                let exchange = Exchange::new(server, origin, request.method().clone()).of(activity);
                Ok::<Response<Body>, Infallible>(exchange.run(request).await)
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(limits.read_ahead).unwrap_or(u32::MAX))
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_send_buf_size(SEND_AHEAD)
            .max_pending_accept_reset_streams(RESETS.0)
            .max_local_error_reset_streams(RESETS.1)
            .keep_alive_interval(limits.head_timeout)
            .keep_alive_timeout(limits.head_timeout)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        let mut quiet = pin!(activity.quiet_for(limits.head_timeout));
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return log(ended),
                () = shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                // What its caller sends before it has heard of that is still answered: RFC 9113, section 6.8.
                () = self.gateway.leaving.begun(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = quiet.as_mut() => {
                    if stopping {
                        // It was asked to end, has nothing open, and does not go.
                        return;
                    }
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                    quiet.set(activity.quiet_for(limits.head_timeout));
                }
                () = activity.abused() => {
                    tracing::debug!(peer = %peer.0, "a connection begins requests only to give them up");
                    return;
                }
                () = self.end.cancelled() => return,
            }
        }
    }
}

/// What may be told to a connection, and when.
type Signals<'a> = FuturesUnordered<BoxFuture<'a, Signal>>;

/// What a connection is told.
#[derive(Debug, Clone, Copy)]
enum Signal {
    /// That the daemon ends.
    Shutdown,
    /// To end after the request that it is at.
    Finish,
    /// To end at once.
    End,
    /// To give back what it holds, where nothing is under way.
    Rest,
}

/// How a caller has begun.
enum Greeted {
    Http1(Wire<TcpStream>),
    Http2(Wire<TcpStream>),
    Securely(Box<tokio_rustls::server::TlsStream<Wire<TcpStream>>>),
}

/// Whether a caller may do without TLS where there is a certificate: on this host, where nobody listens in between, and
/// where our own commands call.
fn may_speak_plainly(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_speech_is_for_this_host_where_there_is_a_certificate() {
        for (address, may) in
            [("127.0.0.1", true), ("127.9.9.9", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)]
        {
            assert_eq!(may_speak_plainly(address.parse().unwrap()), may, "{address}");
        }
    }

    #[test]
    fn what_one_hears_who_must_not_is_as_long_as_it_says() {
        let text = std::str::from_utf8(PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
