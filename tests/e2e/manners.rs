//! What a gateway does for an API that says so: networks, CORS and compression, without a restart.

use std::io::Read as _;

use crate::apps::saying;
use crate::http::{Reply, Request};
use crate::world::World;

/// What `api.yaml` says, with more beside it.
fn settings(more: &str) -> String {
    format!(
        "route:\n  auth: key\n  allow: [127.0.0.0/8, 2001:db8::/32]\n  compress: true\n  \
         cors: {{ origins: [\"https://*.example.com\"], expose: [X-Request-ID] }}\n{more}"
    )
}

fn told<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.header(&format!("access-control-{name}"))
}

#[test]
fn networks_cors_and_compression_come_and_go_with_a_line_and_restart_nothing() {
    let world = World::new();
    let text = "what is said often takes little room; ".repeat(200);
    world.code("hello", &saying(&text));
    world.settings("hello", &settings(""));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let before = world.containers("hello");
    let key = world.run(&["keys", "create", "--name", "page"]).expect(0).out.trim().to_owned();

    // A page asks whether it may, then does, and hears also why it may not.
    let of_page = |method: &str| Request::new(method, "/run/hello/").header("origin", "https://app.example.com");
    let asks = of_page("OPTIONS").header("access-control-request-method", "GET");
    let reply = world.send(&asks.clone().header("access-control-request-headers", "authorization")).expect(204);
    assert_eq!(told(&reply, "allow-origin"), Some("https://app.example.com"));
    assert_eq!(told(&reply, "allow-headers"), Some("Authorization, Content-Type"));
    assert_eq!(told(&reply, "max-age"), Some("600"));
    let reply = world.send(&of_page("GET")).expect(401);
    assert_eq!(told(&reply, "allow-origin"), Some("https://app.example.com"));

    // The answer is that of the app, in fewer bytes.
    let reply = world.send(&of_page("GET").key(&key).header("accept-encoding", "gzip")).expect(200);
    assert_eq!(
        (told(&reply, "expose-headers"), reply.header("content-encoding")),
        (Some("X-Request-ID"), Some("gzip"))
    );
    assert!(reply.body.len() * 10 < text.len(), "{} of {} bytes", reply.body.len(), text.len());
    let mut read = String::new();
    flate2::read::GzDecoder::new(&reply.body[..]).read_to_string(&mut read).unwrap();
    assert_eq!(read, text);
    let vary: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "vary").map(|(_, on)| on.as_str()).collect();
    assert_eq!(vary, ["accept-encoding", "origin"]);
    assert_eq!(world.send(&of_page("GET").key(&key)).expect(200).text(), text);

    // Who is denied is out, with a key or without, and pages can read that too.
    world.settings("hello", &settings("  deny: [127.0.0.1]\n"));
    let reply = world.wait("the caller is refused", || {
        Some(world.send(&of_page("GET").key(&key))).filter(|reply| reply.status == 403)
    });
    assert_eq!(reply.json()["error"], "this API is not for callers from that address");
    assert_eq!(told(&reply, "allow-origin"), Some("https://app.example.com"));
    world.send(&asks).expect(403);

    // Without the lines all is the app's, and what is suspended says what its owner says.
    world.settings("hello", "");
    world.expect_answer("hello", "/", &text);
    let reply = world.send(&asks.header("accept-encoding", "gzip")).expect(200);
    assert_eq!((reply.text(), told(&reply, "allow-origin"), reply.header("vary")), (text, None, None));
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(world.containers("hello"), before, "something was restarted");
    world.settings("hello", "suspend: true\nroute: { maintenance: Back on Monday at 9. }\n");
    let reply = world.expect_status("hello", "/", 503);
    assert_eq!(
        (reply.json()["error"].as_str(), reply.header("retry-after")),
        (Some("Back on Monday at 9."), Some("60"))
    );
}
