"""Requests that last: a slow answer, a body that is counted, a stream, a WebSocket that says again what it hears."""

import asyncio

TICKS = 40


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "telling"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    path = scope["path"].rsplit("/", 1)[-1]
    kind = b"text/event-stream" if path == "ticks" else b"text/plain"
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
    if path == "ticks":
        await send(start)
        for tick in range(TICKS):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % tick, "more_body": True})
            await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b""})
        return
    body = b"here"
    if path == "slow":
        await asyncio.sleep(5)
    if path == "count":
        count, more = 0, True
        while more:
            message = await receive()
            count, more = count + len(message.get("body", b"")), message.get("more_body", False)
        body = b"%d" % count
    await send(start)
    await send({"type": "http.response.body", "body": body})
