//! Compression: what is compressed, for whom, and what must stay as it was.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::manners::{BOTH, Version, ask};
use crate::versions::{caller, full};
use crate::world::{AppBody, World, app, eventually, raw_app};

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(10);

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

/// What a caller makes of what has come so far, and whether that is a valid end.
fn decode(coding: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut read = Vec::new();
    let ended = match coding {
        "zstd" => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut read),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut read),
        _ => flate2::read::GzDecoder::new(bytes).read_to_end(&mut read),
    };
    (read, ended.is_ok())
}

/// A page of some length.
fn page() -> String {
    (0..5000).map(|n| format!("line {n}: what is said often takes little room\n")).collect()
}

/// An app that answers with the page and with the headers that the query names.
async fn paging_app() -> std::net::SocketAddr {
    app(async |request: Request<Incoming>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let mut response = Response::new(Full::new(page().into()).map_err(|never| match never {}).boxed());
        response.headers_mut().insert("etag", HeaderValue::from_static("\"e\""));
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "status" => *response.status_mut() = value.parse().unwrap(),
                "body" => *response.body_mut() = short(value),
                _ => {
                    let name: HeaderName = name.parse().unwrap();
                    response.headers_mut().append(name, HeaderValue::from_str(&value.replace('+', " ")).unwrap());
                }
            }
        }
        response
    })
    .await
}

fn short(text: &str) -> AppBody {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed()
}

async fn compressing(at: std::net::SocketAddr) -> World {
    let world = World::new().await;
    world.route("pages", &[at], |spec| spec.route.compress = true);
    world.route("plain", &[at], |_| ());
    world
}

#[tokio::test]
async fn who_asks_gets_the_same_in_fewer_bytes_and_headers_that_are_true_of_it() {
    let world = compressing(paging_app().await).await;
    let bearer = format!("Bearer {}", world.key);
    let page = page();
    let line = "GET /run/pages?content-type=text/html;charset=utf-8&accept-ranges=bytes&vary=Cookie";
    for version in BOTH {
        for coding in CODINGS {
            let headers = [("authorization", &*bearer), ("accept-encoding", coding)];
            let reply = ask(&world, version, line, &headers).await;
            assert_eq!((reply.status, reply.header("content-encoding")), (200, Some(coding)), "{version:?}");
            assert!(reply.body.len() * 5 < page.len(), "{} of {} bytes", reply.body.len(), page.len());
            assert!(decode(coding, &reply.body) == (page.clone().into_bytes(), true), "{version:?} {coding}");
            assert_eq!((reply.header("content-length"), reply.header("accept-ranges")), (None, None));
            assert_eq!(reply.all("etag"), ["W/\"e\""]);
            assert_eq!(reply.all("vary"), ["Cookie", "accept-encoding"]);

            // The same without a body.
            let head = ask(&world, version, &line.replace("GET", "HEAD"), &headers).await;
            let lasting = |reply: &crate::client::Reply| {
                let of_each = ["x-request-id", "x-process-time", "date", "transfer-encoding"];
                let mut lasting = reply.headers.clone();
                lasting.retain(|(name, _)| !of_each.contains(&name.as_str()));
                lasting.sort();
                lasting
            };
            assert_eq!((head.status, lasting(&head)), (200, lasting(&reply)), "{version:?}");
        }
        // Who does not ask, and whose API does not, get what the app has sent.
        for (line, asked, vary) in [
            (line, "identity", &["Cookie", "accept-encoding"][..]),
            (line, "br;q=0", &["Cookie", "accept-encoding"]),
            (&line.replace("pages", "plain"), "br", &["Cookie"]),
        ] {
            let reply = ask(&world, version, line, &[("authorization", &bearer), ("accept-encoding", asked)]).await;
            assert!(reply.body == page.as_bytes(), "{version:?} {asked}");
            assert_eq!((reply.header("content-encoding"), reply.header("etag")), (None, Some("\"e\"")));
            assert_eq!((reply.all("vary"), reply.header("accept-ranges")), (vary.to_vec(), Some("bytes")));
            assert_eq!(reply.header("content-length"), Some(&*page.len().to_string()));
        }
    }
}

#[tokio::test]
async fn what_would_be_harmed_or_is_none_the_better_goes_on_as_it_is() {
    let world = compressing(paging_app().await).await;
    let bearer = format!("Bearer {}", world.key);
    for version in BOTH {
        for query in [
            "content-type=text/plain&content-encoding=br",
            "content-type=text/plain&cache-control=public,+no-transform",
            "content-type=text/plain&status=206&content-range=bytes+0-9/10",
            "content-type=text/plain&content-digest=sha-256=:x:",
            "content-type=text/plain&body=short",
            "content-type=text/event-stream",
            "content-type=image/png",
            "content-type=application/zip",
            "x-none=1",
        ] {
            let line = format!("GET /run/pages?{query}");
            let headers = [("authorization", &*bearer), ("accept-encoding", "gzip, br, zstd")];
            let reply = ask(&world, version, &line, &headers).await;
            let sent = if query.contains("body=") { "short".to_owned() } else { page() };
            assert!(reply.body == sent.as_bytes(), "{version:?} {query}");
            assert_eq!((reply.header("etag"), reply.header("vary")), (Some("\"e\""), None), "{query}");
            assert_eq!(reply.header("content-encoding"), query.contains("content-encoding").then_some("br"));
        }
        // What a cache has of us is compressed, and its tag is the weak one.
        let line = "GET /run/pages?status=304&body=";
        let reply = ask(&world, version, line, &[("authorization", &bearer), ("accept-encoding", "gzip")]).await;
        assert_eq!(
            (reply.status, reply.header("etag"), reply.header("vary")),
            (304, Some("W/\"e\""), Some("accept-encoding"))
        );
        assert_eq!((reply.body.len(), reply.header("content-encoding")), (0, None));
    }
}

#[tokio::test]
async fn what_an_app_has_flushed_reaches_the_caller_before_the_next_exists_with_trailers_at_the_end() {
    let next = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&next);
    let at = app(move |_| {
        let wait = Arc::clone(&wait);
        async move {
            let end = Arc::clone(&wait);
            let lines = stream::iter(0..3).then(move |n| {
                let wait = Arc::clone(&wait);
                async move {
                    wait.acquire().await.unwrap().forget();
                    Ok(Frame::data(Bytes::from(format!("line {n}\n"))))
                }
            });
            let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("3"))]);
            let lines = lines.chain(stream::once(async move {
                end.acquire().await.unwrap().forget();
                Ok(Frame::trailers(trailers))
            }));
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(lines)));
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
            response
        }
    })
    .await;
    let world = compressing(at).await;
    let expected = ["line 0\n", "line 0\nline 1\n", "line 0\nline 1\nline 2\n"];
    for coding in CODINGS {
        let more = format!("Accept-Encoding: {coding}\r\nTE: trailers\r\n");
        let mut client = world.client().await;
        client.send(world.head("GET /run/pages", &more)).await;
        assert_eq!(client.head().await.header("content-encoding"), Some(coding));
        let mut out = Vec::new();
        let chunk = async |client: &mut crate::client::Client| {
            let length = usize::from_str_radix(client.until("\r\n").await.trim_end(), 16).unwrap();
            let chunk = client.exactly(length).await;
            if length > 0 {
                client.exactly(2).await;
            }
            chunk
        };
        for expected in expected {
            next.add_permits(1);
            while decode(coding, &out).0.len() < expected.len() {
                out.extend(chunk(&mut client).await);
            }
            assert_eq!(decode(coding, &out), (expected.as_bytes().to_vec(), false), "{coding}");
        }
        next.add_permits(1);
        loop {
            let last = chunk(&mut client).await;
            if last.is_empty() {
                break;
            }
            out.extend(last);
        }
        assert_eq!(decode(coding, &out), (expected[2].as_bytes().to_vec(), true), "{coding}");
        assert_eq!(client.until("\r\n\r\n").await, "x-sum: 3\r\n\r\n");

        let request = Request::builder().uri("http://skep.test/run/pages").header("te", "trailers");
        let request =
            request.header("authorization", format!("Bearer {}", world.key)).header("accept-encoding", coding);
        let mut answer = caller(&world).await.send_request(request.body(full("")).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], coding);
        let mut out = Vec::new();
        for expected in expected {
            next.add_permits(1);
            while decode(coding, &out).0.len() < expected.len() {
                out.extend(answer.frame().await.unwrap().unwrap().into_data().unwrap());
            }
        }
        next.add_permits(1);
        let rest = answer.into_body().collect().await.unwrap();
        assert_eq!(rest.trailers().unwrap()["x-sum"], "3");
        out.extend(rest.to_bytes());
        assert_eq!(decode(coding, &out), (expected[2].as_bytes().to_vec(), true), "{coding}");
    }
}

#[tokio::test]
async fn what_breaks_off_does_not_look_whole() {
    let at = raw_app(async |mut stream| {
        let mut read = [0; 4096];
        let count = stream.read(&mut read).await.unwrap();
        let page = page();
        let head = if read[..count].starts_with(b"GET /known") {
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{page}", page.len() + 1)
        } else {
            let length = page.len();
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{page}\r\n")
        };
        stream.write_all(head.as_bytes()).await.unwrap();
    })
    .await;
    let world = compressing(at).await;
    for coding in CODINGS {
        for path in ["/run/pages/known", "/run/pages/chunked"] {
            let mut client = world.client().await;
            client.send(world.head(&format!("GET {path}"), &format!("Accept-Encoding: {coding}\r\n"))).await;
            assert_eq!(client.head().await.header("content-encoding"), Some(coding));
            let mut out = Vec::new();
            timeout(PATIENCE, client.stream.read_to_end(&mut out)).await.expect("it neither ends nor breaks off").ok();
            assert!(!out.ends_with(b"0\r\n\r\n"), "{path} {coding}");

            let request = Request::builder().uri(format!("http://skep.test{path}")).header("accept-encoding", coding);
            let request = request.header("authorization", format!("Bearer {}", world.key)).body(full("")).unwrap();
            let answer = caller(&world).await.send_request(request).await.unwrap();
            let whole = timeout(PATIENCE, answer.into_body().collect()).await;
            assert!(whole.expect("it neither ends nor breaks off").is_err(), "{path} {coding}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_its_caller_does_not_read_is_not_compressed_ahead_and_its_end_frees_the_instance() {
    const MUCH: u64 = 64 << 20;
    for version in BOTH {
        let made = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&made);
        let at = app(move |_| {
            let count = Arc::clone(&count);
            async move {
                // Nothing is gained by compressing it, so that what is made has to be somewhere.
                let noise: Bytes = (0..65536).map(|_| rand::random::<u8>()).collect();
                let endless = stream::repeat_with(move || {
                    count.fetch_add(65536, Ordering::Relaxed);
                    Ok(Frame::data(noise.clone()))
                });
                let mut response = Response::new(BodyExt::boxed(StreamBody::new(endless)));
                response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
                response
            }
        })
        .await;
        let world = World::new().await;
        let upstreams = world.route("pages", &[at], |spec| spec.route.compress = true);
        let request = Request::builder().uri("http://skep.test/run/pages").header("accept-encoding", "gzip");
        let request = request.header("authorization", format!("Bearer {}", world.key)).body(full("")).unwrap();
        let (mut client, mut answer) = (None, None);
        if version == Version::Http1 {
            let mut one = world.client().await;
            one.send(world.head("GET /run/pages", "Accept-Encoding: gzip\r\n")).await;
            assert_eq!(one.head().await.header("content-encoding"), Some("gzip"));
            client = Some(one);
        } else {
            let mut caller = caller(&world).await;
            let one = caller.send_request(request).await.unwrap();
            assert_eq!(
                (one.status(), &one.headers()["content-encoding"]),
                (StatusCode::OK, &HeaderValue::from_static("gzip"))
            );
            answer = Some((one, caller));
        }
        let mut before = u64::MAX;
        while before != made.load(Ordering::Relaxed) {
            before = made.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(before < MUCH, "{version:?}: {before} bytes were made that nobody had read");
        assert_eq!(upstreams[0].in_flight(), 1);
        drop((client, answer));
        eventually(|| upstreams[0].in_flight() == 0).await;
    }
}
