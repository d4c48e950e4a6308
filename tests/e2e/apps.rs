//! The apps that scenarios serve. Those without FastAPI start faster.

/// Answers every path with `text`, but `/who` with its host name and `/slow` after a second.
pub fn saying(text: &str) -> String {
    format!(
        r#"import asyncio
import socket

TEXT = "{text}"


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    if scope["path"].endswith("/slow"):
        await asyncio.sleep(1)
    body = socket.gethostname() if scope["path"].endswith("/who") else TEXT
    print("answered", scope["path"], flush=True)
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}})
    await send({{"type": "http.response.body", "body": body.encode()}})
"#
    )
}
