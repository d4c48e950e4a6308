"""Does what hostile code does, when it is asked to."""

import asyncio
import os
import socket
import threading
import time

CHUNK = 10 << 20
hoard = []


def fork():
    while True:
        try:
            os.fork()
        except OSError:
            pass


def spin():
    while True:
        pass


def busy():
    """On as many threads as it may have, of which each is a process, since Python runs one thread at a time."""
    for _ in range(64):
        if os.fork() == 0:
            spin()


def memory():
    while True:
        hoard.append(bytearray(os.urandom(1 << 20) * 10))


def fill(path):
    """Fills a file system, empties it, and fills it again."""
    name = os.path.join(path, f"filler-{threading.get_ident()}")
    block = os.urandom(1 << 20)
    while True:
        try:
            with open(name, "wb", buffering=0) as file:
                while True:
                    file.write(block)
        except OSError:
            pass
        finally:
            try:
                os.remove(name)
            except OSError:
                time.sleep(0.1)


def disk():
    """Wherever anything can be written."""
    for path in ("/", "/app", "/opt/venv", "/var/tmp", "/run", "/home", "/dev", "/dev/shm", "/dev/mqueue", "/tmp"):
        threading.Thread(target=fill, args=(path,), daemon=True).start()


def logs():
    line = b"x" * 8191 + b"\n"
    while True:
        os.write(1, line * 8)


def lines():
    many = b"\n" * 65536
    while True:
        os.write(1, many)


def descriptors():
    while True:
        try:
            hoard.append(socket.socketpair())
        except OSError:
            time.sleep(0.01)


def crash():
    os._exit(1)


BOMBS = {
    "fork": fork,
    "busy": busy,
    "memory": memory,
    "shared": lambda: fill("/dev/shm"),
    "temporary": lambda: fill("/tmp"),
    "disk": disk,
    "logs": logs,
    "lines": lines,
    "descriptors": descriptors,
    "crash": crash,
}


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    what = scope["path"].rsplit("/", 1)[-1]
    if what == "deaf":
        # Takes a request and never reads its body.
        await asyncio.sleep(3600)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if what == "drip":
        for _ in range(3600):
            await send({"type": "http.response.body", "body": b".", "more_body": True})
            await asyncio.sleep(1)
    if what == "endless":
        chunk = bytes(1 << 20)
        while True:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": what.encode() or b"calm"})
    if what in BOMBS:
        threading.Thread(target=BOMBS[what], daemon=True).start()
