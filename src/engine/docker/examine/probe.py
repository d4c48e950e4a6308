"""Asks the package index from where installs ask it, and says, as one line of JSON, how far that came.

Needs nothing but the standard library: it must work in a base image that nothing could be installed into yet.
"""

import base64
import email.utils
import json
import os
import platform
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

UV = "/opt/skep/tools/bin/uv"
# What every API needs, so an index that lacks it is of no use.
PACKAGES = ["fastapi", "uvicorn", "python-multipart"]
PATIENCE = 10

said = {"python": platform.python_version(), "stage": "find"}


def default_index():
    """The installer's own, which it alone knows."""
    if os.path.exists(UV):
        command = [UV, "pip", "compile", "--no-config", "--emit-index-url", "--no-header", "--quiet", "-"]
        told = subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE, check=True)
        return told.stdout.split("--index-url", 1)[1].split()[0]
    # No installer yet: the one that will fetch it is pip.
    subprocess.run([sys.executable, "-m", "venv", "/tmp/probe"], capture_output=True, timeout=60, check=True)
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    told = subprocess.run(["/tmp/probe/bin/python", "-c", code], capture_output=True, text=True, timeout=20, check=True)
    return told.stdout.strip()


def ask():
    url = urllib.parse.urlsplit(os.environ.get("UV_DEFAULT_INDEX") or default_index())
    plain = url._replace(netloc=url.netloc.rpartition("@")[2])
    said["index"] = plain.geturl()
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and urllib.request.proxy_bypass(url.hostname):
        proxy = None
    first = urllib.parse.urlsplit(proxy) if proxy else url
    said["host"] = first.hostname
    said["port"] = first.port or (443 if first.scheme == "https" else 80)
    said["proxy"] = proxy.rpartition("@")[2] if proxy else None

    said["stage"] = "resolve"
    addresses = socket.getaddrinfo(said["host"], said["port"], type=socket.SOCK_STREAM)

    said["stage"] = "connect"
    # The first of them that connects.
    for place, address in enumerate(addresses):
        try:
            wire = socket.create_connection(address[4][:2], PATIENCE)
            break
        except OSError:
            if place == len(addresses) - 1:
                raise

    context = ssl.create_default_context()
    # Where the runtime image is not made yet, nobody has joined them with the base image's own.
    if "EXTRA_CERT_FILE" in os.environ:
        context.load_verify_locations(os.environ["EXTRA_CERT_FILE"])
    if first.scheme == "https" and not proxy:
        said["stage"] = "tls"
        try:
            wire = context.wrap_socket(wire, server_hostname=said["host"])
        except ssl.SSLCertVerificationError:
            said["certificate"] = presented()
            raise
    wire.close()

    said["stage"] = "ask"
    headers = {"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5", "User-Agent": "skep-doctor"}
    if "@" in url.netloc:
        login = ":".join(urllib.parse.unquote(part) for part in url.netloc.rpartition("@")[0].split(":", 1))
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    where = plain.geturl().rstrip("/") + "/" + PACKAGES[0] + "/"
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    try:
        answer = opener.open(urllib.request.Request(where, headers=headers), timeout=PATIENCE)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    said["status"] = answer.status
    date = answer.headers.get("Date")
    if date:
        # What a cache answers was said some time ago.
        age = answer.headers.get("Age", "0")
        said["date"] = email.utils.parsedate_to_datetime(date).timestamp() + (int(age) if age.isdigit() else 0)
        said["received"] = time.time()
    answer.close()
    if answer.status != 200:
        return

    if os.path.exists(UV):
        said["stage"] = "install"
        command = [UV, "pip", "compile", "--no-config", "--no-cache", "--no-deps", "--no-header", "--no-annotate"]
        told = subprocess.run(
            [*command, "--quiet", "-"], input="\n".join(PACKAGES), capture_output=True, text=True, timeout=30
        )
        if told.returncode:
            said["error"] = " ".join(told.stderr.split())
            return
        said["found"] = told.stdout.split()
    said["stage"] = "done"


def presented():
    """The certificate that came, which says who is in between."""
    try:
        return ssl.get_server_certificate((said["host"], said["port"]), timeout=PATIENCE)
    except (OSError, TypeError):
        return None


begun = time.monotonic()
try:
    ask()
except subprocess.CalledProcessError as error:
    said["error"] = " ".join((error.stderr or str(error)).split())
except ssl.SSLCertVerificationError as error:
    said["error"] = error.verify_message
except OSError as error:
    reason = getattr(error, "reason", None)
    said["error"] = error.strerror or str(reason if reason and not isinstance(reason, str) else error)
except Exception as error:  # noqa: BLE001: whatever it is, the reader wants to know
    said["error"] = f"{type(error).__name__}: {error}"
said["millis"] = round((time.monotonic() - begun) * 1000)
print(json.dumps(said))
