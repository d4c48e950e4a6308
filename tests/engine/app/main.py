"""What the engine's tests run: it tells what it sees from inside its container."""

import os
import socket
import sys
import threading

from fastapi import FastAPI

import deep.inner

app = FastAPI()
hoard = []


@app.get("/")
def root():
    return {"api": os.environ["API_ID"], "word": os.environ.get("WORD"), "inner": deep.inner.VALUE}


@app.get("/reach")
def reach(host: str, port: int):
    try:
        socket.create_connection((host, port), timeout=2).close()
        return {"reached": True}
    except OSError as error:
        return {"reached": False, "error": str(error)}


@app.get("/resolve")
def resolve(name: str):
    try:
        return {"resolved": bool(socket.getaddrinfo(name, 80))}
    except OSError as error:
        return {"resolved": False, "error": str(error)}


@app.get("/inside")
def inside():
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    mounts = [line.split() for line in open("/proc/mounts")]
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "capabilities": [status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")],
        "no_new_privileges": status["NoNewPrivs"],
        "seccomp": status["Seccomp"],
        "root": next(mount[3] for mount in mounts if mount[1] == "/"),
        "tmp": next(mount[3] for mount in mounts if mount[1] == "/tmp"),
        "writable": [path for path in ("/", "/app", "/opt/venv", "/opt/skep", "/etc", "/home", "/var", "/usr") if can_write(path)],
        "tmp_is_writable": can_write("/tmp"),
        "tmp_bytes": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize,
        "tmp_is_bounded": is_bounded("/tmp"),
        "first": open("/proc/1/cmdline").read().split("\0")[0],
        "ipv6": [line.split()[-1] for line in open("/proc/net/if_inet6")] if os.path.exists("/proc/net/if_inet6") else [],
        "environment": sorted(os.environ),
        "certificates": os.environ.get("SSL_CERT_FILE"),
        "prefix": sys.prefix,
        "compiled": deep_import_is_compiled(),
    }


@app.get("/secrets")
def secrets():
    folder = "/run/secrets"
    files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return {
        "files": {name: open(os.path.join(folder, name)).read() for name in files},
        "modes": {name: [oct(found.st_mode), found.st_uid] for name in files for found in [os.stat(os.path.join(folder, name))]},
        "folder": oct(os.stat(folder).st_mode) if files else None,
        "mount": [line.split()[2:4] for line in open("/proc/mounts") if line.split()[1] == folder],
        "environment": {name: value for name, value in os.environ.items() if name in files},
        "stdin": os.readlink("/proc/self/fd/0"),
        "arguments": open("/proc/self/cmdline").read().split("\0"),
    }


@app.get("/print")
def say():
    print("plain line", flush=True)
    print("\x1b[31mred\x1b[0m \x00nul", flush=True)
    print("on error", file=sys.stderr, flush=True)
    print("x" * 40_000, flush=True)
    sys.stdout.buffer.write(b"bad \xff\xfe bytes\n")
    sys.stdout.flush()
    return {}


@app.get("/threads")
def threads():
    done = threading.Event()
    count = 0
    try:
        for count in range(1000):
            threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError:
        pass
    finally:
        done.set()
    return {"count": count}


@app.get("/eat")
def eat():
    for _ in range(1000):
        hoard.append(os.urandom(1 << 20))
    return {}


@app.get("/exit")
def leave(code: int):
    os._exit(code)


def can_write(path):
    try:
        name = os.path.join(path, "written")
        open(name, "w").close()
        os.remove(name)
        return True
    except OSError:
        return False


def is_bounded(path):
    name = os.path.join(path, "large")
    try:
        with open(name, "wb") as file:
            for _ in range(200):
                file.write(bytes(1 << 20))
        return False
    except OSError:
        return True
    finally:
        os.remove(name)


def deep_import_is_compiled():
    import fastapi

    return os.path.exists(fastapi.__cached__)
