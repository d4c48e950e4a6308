"""Tries from inside its container what it is asked to try, and says what came of it."""

import asyncio
import concurrent.futures
import ctypes
import errno
import fcntl
import glob
import json
import os
import platform
import socket
import stat
import struct
import threading
import time

PATIENCE = 2.0
EAR = 9999
GROUP = "239.255.77.77"
heard = set()
pool = concurrent.futures.ThreadPoolExecutor(64)
libc = ctypes.CDLL(None, use_errno=True)

# Numbers on x86-64 and on 64-bit ARM (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).
CALLS = {
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "perf_event_open": (298, 241),
    "memfd_create": (319, 279),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "kexec_load": (246, 104),
    "syslog": (103, 116),
    "clone3": (435, 435),
    "name_to_handle_at": (303, 264),
}
ARGUMENTS = {
    "unshare": (0x10000000,),
    "ptrace": (16, 1),
    "keyctl": (0, -3, 1),
    "memfd_create": (b"x", 0),
    "chroot": (b"/tmp",),
    "syslog": (3, 0, 0),
}


def tcp(host, port, **_):
    with socket.create_connection((host, port), timeout=PATIENCE):
        return "reached"


def udp(host, port, **_):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.settimeout(PATIENCE / 2)
        for _ in range(2):
            one.sendto(b"hello", (host, port))
            try:
                one.recvfrom(100)
                return "reached"
            except TimeoutError:
                pass
    return "timed out"


def ping(host, **_):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as one:
        one.settimeout(PATIENCE)
        head = struct.pack("!BBHHH", 8, 0, 0, 0, 1)
        words = struct.unpack("!4H", head)
        total = sum(words)
        check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        one.sendto(struct.pack("!BBHHH", 8, 0, check, 0, 1), (host, 0))
        one.recv(100)
        return "reached"


def shout(host, token, port=EAR, **_):
    """Whether anybody heard it, the test asks them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
        for _ in range(3):
            one.sendto(token.encode(), (host, port))
            time.sleep(0.05)
    return "sent"


def neighbour(host, **_):
    """Whether the address can be found out: the neighbour answers to "who has it?". What is known from before counts
    only once it has been asked for anew, which the kernel does some seconds later."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _ in range(15):
            try:
                one.sendto(b"hello", (host, 1))
            except OSError:
                pass
            time.sleep(1)
            table = [line.split() for line in open("/proc/net/arp").read().splitlines()[1:]]
            if not any(row[0] == host and int(row[2], 16) & 2 for row in table):
                return "no answer"
    return "reached"


def resolve(name, **_):
    return "reached" if socket.getaddrinfo(name, 80) else "nothing"


def unix(path, **_):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(PATIENCE)
        one.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)
        return "reached"


def open_socket(family, type, protocol=0, **_):
    socket.socket(family, type, protocol).close()
    return "reached"


def call(name, **_):
    number = CALLS[name][platform.machine() == "aarch64"]
    arguments = (ARGUMENTS.get(name, ()) + (0,) * 6)[:6]
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    error = ctypes.get_errno()
    if result == -1 and error in (errno.EPERM, errno.ENOSYS):
        return errno.errorcode[error]
    return f"reached ({result}, {errno.errorcode.get(error, error)})"


def read(path, **_):
    with open(path, "rb") as file:
        return "reached" if file.read(1) else "empty"


def write(path, text="1", **_):
    with open(path, "w") as file:
        file.write(text)
    return "reached"


def device(path, major, minor, **_):
    os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(major, minor))
    return "reached"


def become_root(**_):
    os.setuid(0)
    return "reached"


def setuid_files(**_):
    """A file with the set-user-id bit gives nothing where there can be no new privileges."""
    status = open("/proc/self/status").read()
    if "NoNewPrivs:\t1" in status:
        return "no new privileges"
    return "reached"


def processes(names, **_):
    seen = set()
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            seen.add(open(path).read().strip())
        except OSError:
            pass
    both = seen & set(names)
    return f"reached {sorted(both)}" if both else "not seen"


def readdress(host, **_):
    """Takes an address for the container's own interface, as whoever wants to pass for a neighbour."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = struct.pack("16sH2s4s8s", b"eth0", socket.AF_INET, b"\0\0", socket.inet_aton(host), b"\0" * 8)
        fcntl.ioctl(one, 0x8916, request)
    return "reached"


TRIES = {
    one.__name__: one
    for one in (tcp, udp, ping, shout, neighbour, resolve, unix, open_socket, call, read, write, device, become_root,
                setuid_files, processes, readdress)
}


def attempt(wish):
    try:
        return TRIES[wish["try"]](**wish)
    except TimeoutError:
        return "timed out"
    except OSError as error:
        code = errno.errorcode.get(error.errno, type(error).__name__)
        # A port that says no was asked: packets go there and come back.
        return f"reached ({code})" if code == "ECONNREFUSED" and not wish.get("host", "127.").startswith("127.") else code


def listen():
    """Hears what is shouted, and answers what is sent."""
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.bind(("0.0.0.0", EAR))
    try:
        member = socket.inet_aton(GROUP) + socket.inet_aton("0.0.0.0")
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    except OSError as error:
        print("no multicast:", error, flush=True)
    while True:
        data, sender = ear.recvfrom(1000)
        heard.add(data.decode(errors="replace"))
        try:
            ear.sendto(data, sender)
        except OSError:
            pass


threading.Thread(target=listen, daemon=True).start()
held = {}


def hold(host, port):
    """A connection that stays."""
    held["one"] = socket.create_connection((host, port), timeout=PATIENCE)
    return "open"


def use():
    """Whether the connection that stays still carries anything."""
    try:
        held["one"].settimeout(PATIENCE)
        held["one"].sendall(b"hello")
        return "answered" if held["one"].recv(5) else "closed"
    except OSError as error:
        return f"silent ({type(error).__name__})"


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    loop = asyncio.get_running_loop()
    path = scope["path"].rsplit("/", 1)[-1]
    if path == "try":
        answer = await asyncio.gather(*(loop.run_in_executor(pool, attempt, wish) for wish in json.loads(body)))
    elif path == "heard":
        answer = sorted(heard)
    elif path == "hold":
        answer = await loop.run_in_executor(pool, lambda: hold(**json.loads(body)))
    elif path == "use":
        answer = await loop.run_in_executor(pool, use)
    else:
        answer = socket.gethostname()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
