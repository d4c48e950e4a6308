"""Rooms: chat over WebSockets. Everything said in a room reaches all who are in it, and the latest those who join.

Rooms live in memory, so there is one instance, and a new revision starts with empty rooms. Everything is bounded:
rooms, members, history, the length of a message, and how far a slow reader may fall behind.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, WebSocket, WebSocketDisconnect
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

MAX_ROOMS = 100
MAX_MEMBERS = 100
MAX_HISTORY = 50
MAX_MESSAGE = 2_000
"""In characters."""
MAX_BACKLOG = 200
"""Events that may wait for one reader; one that falls further behind is sent away."""

POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
"""Close codes of RFC 6455, section 7.4, and the registry that it founded."""

Name = Annotated[str, Query(min_length=1, max_length=40, pattern=r"^[\w][\w .'-]*$", description="Shown to others.")]
RoomName = Annotated[str, PathParameter(min_length=1, max_length=40, pattern=r"^[a-z0-9-]+$")]

app = FastAPI(title="Rooms", summary="Chat rooms over WebSockets.", version="1.0.0")


class Event(BaseModel):
    """Something that happened in a room."""

    kind: Literal["joined", "left", "said", "refused"]
    who: str
    text: str = ""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class RoomSummary(BaseModel):
    """A room as lists show it."""

    name: str
    members: list[str]


@dataclass(eq=False)
class Member:
    """One connection in a room, with the events that wait to be sent over it."""

    name: str
    websocket: WebSocket
    backlog: asyncio.Queue[Event] = field(default_factory=lambda: asyncio.Queue(MAX_BACKLOG))
    too_slow: asyncio.Event = field(default_factory=asyncio.Event)

    def hand(self, event: Event) -> None:
        """Puts an event into the backlog. Never waits, so that nobody holds up a room."""
        try:
            self.backlog.put_nowait(event)
        except asyncio.QueueFull:
            self.too_slow.set()

    async def write(self) -> None:
        """Sends what is in the backlog, until the connection ends."""
        with suppress(RuntimeError, WebSocketDisconnect):
            while True:
                event = await self.backlog.get()
                await self.websocket.send_text(event.model_dump_json())

    async def read(self, room: "Room") -> None:
        """Passes on what the member says, until it goes."""
        async for text in self.websocket.iter_text():
            if len(text) > MAX_MESSAGE:
                reason = f"a message has at most {MAX_MESSAGE} characters; this one has {len(text)}"
                self.hand(Event(kind="refused", who=self.name, text=reason))
            elif text.strip():
                room.publish(Event(kind="said", who=self.name, text=text))


@dataclass
class Room:
    """Who is in a room, and what was said there last."""

    members: dict[str, Member] = field(default_factory=dict)
    history: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_HISTORY))

    def join(self, member: Member) -> None:
        """Tells the newcomer what was said, and the others who came."""
        for event in self.history:
            member.hand(event)
        self.members[member.name] = member
        self.publish(Event(kind="joined", who=member.name))

    def leave(self, member: Member) -> None:
        """Tells the others who left."""
        del self.members[member.name]
        self.publish(Event(kind="left", who=member.name))

    def publish(self, event: Event) -> None:
        """Hands an event to all members; what was said is remembered."""
        if event.kind == "said":
            self.history.append(event)
        for member in self.members.values():
            member.hand(event)


rooms: dict[str, Room] = {}


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
def page(request: Request) -> str:
    """A page to try it with. It has to know where it is mounted, as everything behind a prefix has."""
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return html.replace("{{ root }}", request.scope.get("root_path", ""))


@app.get("/rooms")
def list_rooms() -> list[RoomSummary]:
    """Lists the rooms that somebody is in. Join one by a WebSocket at `/rooms/{room}?name=…`."""
    return [RoomSummary(name=name, members=sorted(room.members)) for name, room in sorted(rooms.items())]


@app.websocket("/rooms/{room}")
async def converse(websocket: WebSocket, room: RoomName, name: Name) -> None:
    """Joins a room: text that comes in is said to all, and every event of the room goes out as JSON."""
    # Accepted even where it is refused right after, since only then does a browser get to see the reason.
    await websocket.accept()
    refusal = refuse(room, name)
    if refusal:
        await websocket.close(*refusal)
        return
    here = rooms.setdefault(room, Room())
    member = Member(name, websocket)
    here.join(member)
    tasks = [asyncio.create_task(work) for work in (member.read(here), member.write(), member.too_slow.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        here.leave(member)
        if not here.members:
            rooms.pop(room, None)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if member.too_slow.is_set():
        with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(5):
                await websocket.close(TRY_AGAIN_LATER, "you read too slowly")


def refuse(room: str, name: str) -> tuple[int, str] | None:
    """The close code and reason for somebody who cannot join; `None` for all others."""
    if room not in rooms:
        return (TRY_AGAIN_LATER, "there are too many rooms") if len(rooms) >= MAX_ROOMS else None
    if name in rooms[room].members:
        return POLICY_VIOLATION, "that name is taken in this room"
    if len(rooms[room].members) >= MAX_MEMBERS:
        return TRY_AGAIN_LATER, "the room is full"
    return None
