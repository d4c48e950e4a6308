"""Ticker: streams numbered ticks as server-sent events, until enough have come or the client goes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import FastAPI, Header, Query
from fastapi.responses import StreamingResponse

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that nothing between us and the client gives up."""

app = FastAPI(title="Ticker", summary="Streams ticks as server-sent events.", version="1.0.0")
app.state.listeners = 0


@app.get("/")
def status() -> dict[str, int]:
    """Tells how many streams are open."""
    return {"listeners": app.state.listeners}


@app.get(
    "/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"example": 'id: 1\nevent: tick\ndata: {"tick": 1}\n\n'}}}},
)
async def stream(
    count: Annotated[int | None, Query(ge=1, le=1_000_000, description="Without it the stream has no end.")] = None,
    interval: Annotated[float, Query(ge=0.01, le=3600, description="Seconds between two ticks.")] = 1.0,
    last_event_id: Annotated[
        int, Header(ge=0, le=2**53, description="The tick to go on after; browsers send it when they reconnect.")
    ] = 0,
) -> StreamingResponse:
    """Streams ticks. The first comes at once, the others `interval` seconds apart."""
    return StreamingResponse(
        ticks(last_event_id, count, interval),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def ticks(after: int, count: int | None, interval: float) -> AsyncIterator[str]:
    """The text of a stream. It is cancelled where it waits as soon as the client has gone."""
    with listening():
        yield f"retry: {max(1000, int(interval * 1000))}\n\n"
        due = asyncio.get_running_loop().time()
        tick = after
        while count is None or tick < after + count:
            tick += 1
            data = json.dumps({"tick": tick, "at": datetime.now(UTC).isoformat()})
            yield f"id: {tick}\nevent: tick\ndata: {data}\n\n"
            # Paced by the clock and not by the pause, so that ticks don't fall behind.
            due += interval
            if count is None or tick < after + count:
                async for heartbeat in wait_until(due):
                    yield heartbeat
        yield "event: end\ndata: {}\n\n"


async def wait_until(due: float) -> AsyncIterator[str]:
    """Sleeps until the event loop's clock says `due`, with a heartbeat now and then."""
    clock = asyncio.get_running_loop().time
    while (remaining := due - clock()) > HEARTBEAT:
        await asyncio.sleep(HEARTBEAT)
        yield ": still here\n\n"
    await asyncio.sleep(max(0.0, remaining))


@contextmanager
def listening() -> Iterator[None]:
    """Counts a stream for as long as it is open."""
    app.state.listeners += 1
    try:
        yield
    finally:
        app.state.listeners -= 1
