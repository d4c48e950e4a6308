"""Tells what it was asked, as FastAPI and uvicorn understood it."""

import asyncio
import hashlib

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

app = FastAPI(title="Telling")
app.state.go = asyncio.Event()


@app.api_route("/echo/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def echo(request: Request, response: Response) -> dict[str, object]:
    """Everything about a request. Only the headers of the test's own: the others are the gateway's business."""
    response.headers.append("x-told", "once")
    response.headers.append("x-told", "twice")
    return {
        "method": request.method,
        "path": request.scope["path"],
        "raw_query": request.scope["query_string"].decode("latin-1"),
        "query": request.query_params.multi_items(),
        "headers": [(k, v) for k, v in request.headers.items() if k.startswith("x-test") or k == "content-type"],
        "body": hashlib.sha256(await request.body()).hexdigest(),
    }


@app.head("/head")
async def head() -> Response:
    """As long as it says, and without a body."""
    return Response(headers={"content-length": "1234", "x-head": "yes"})


@app.post("/form")
async def form(request: Request) -> list[list[object]]:
    """Every part of a form, in order."""
    parts: list[list[object]] = []
    async with request.form() as fields:
        for name, value in fields.multi_items():
            if isinstance(value, UploadFile):
                content = await value.read()
                told = [name, value.filename, value.content_type, len(content), hashlib.sha256(content).hexdigest()]
                parts.append(told)
            else:
                parts.append([name, value])
    return parts


@app.get("/sub/")
def sub() -> str:
    """Whoever leaves out the slash is sent here."""
    return "sub"


@app.post("/count")
async def count(request: Request) -> dict[str, int]:
    """Counts a body without keeping it."""
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
    return {"bytes": total}


@app.get("/events")
async def events() -> StreamingResponse:
    """One event at once; the other when somebody says so."""

    async def stream():  # noqa: ANN202
        yield "data: first\n\n"
        await app.state.go.wait()
        yield "data: last\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.post("/go")
async def go() -> None:
    """Lets the events end."""
    app.state.go.set()


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    """Answers each message, with the path that it came to."""
    await websocket.accept(subprotocol="telling")
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.query_params['name']}: {text}")
