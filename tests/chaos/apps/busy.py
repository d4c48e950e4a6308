import asyncio
import hashlib

TEXT = "{text}"
PIECE = bytes(range(256)) * 128


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": TEXT})
        return
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    what = scope["path"].rsplit("/", 1)[-1]
    head = {"type": "http.response.start", "status": 200, "headers": [(b"x-text", TEXT.encode())]}
    if what == "down":
        await send(head)
        for _ in range(32):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b""})
        return
    if what == "events":
        head["headers"].append((b"content-type", b"text/event-stream"))
        await send(head)
        for _ in range(int(scope["query_string"] or b"30")):
            await send({"type": "http.response.body", "body": f"data: {TEXT}\n\n".encode(), "more_body": True})
            await asyncio.sleep(0.25)
        await send({"type": "http.response.body", "body": b"data: end\n\n"})
        return
    body = TEXT.encode()
    if what == "slow":
        await asyncio.sleep(5)
    elif what == "up":
        digest, more = hashlib.sha256(), True
        while more:
            message = await receive()
            digest.update(message.get("body", b""))
            more = message.get("more_body", False)
        body = digest.hexdigest().encode()
    await send(head)
    await send({"type": "http.response.body", "body": body})
