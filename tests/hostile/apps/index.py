"""A package index whose packages are there to be resolved, and cannot be: pigeons that each want a hole, one hole short.

Whoever resolves this by drawing conclusions needs exponentially many (Haken, "The Intractability of Resolution", 1985).
"""

import http.server
import sys

PIGEONS = int(sys.argv[1])
PLAIN = ("fastapi", "uvicorn", "python-multipart")


def versions(name):
    if name in PLAIN:
        return ["1.0"]
    if name.startswith("pigeon"):
        return [f"{hole}.0" for hole in range(PIGEONS - 1)]
    return [f"{pigeon}.0" for pigeon in range(PIGEONS)]


def metadata(name, version):
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if name == "uvicorn":
        text += "Provides-Extra: standard\n"
    if name.startswith("pigeon"):
        text += f"Requires-Dist: hole{version.split('.')[0]}=={name[6:]}.0\n"
    return text


class Index(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "simple":
            name = parts[1]
            file = name.replace("-", "_")
            links = (f"{file}-{version}-py3-none-any.whl" for version in versions(name))
            text = "".join(f'<a href="/files/{link}" data-core-metadata="true">{link}</a>\n' for link in links)
            kind = "text/html"
        elif self.path.endswith(".metadata"):
            name, version, *_ = parts[1].split("-")
            text, kind = metadata(name.replace("_", "-"), version), "text/plain"
        else:
            self.send_error(404)
            return
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("", 8080), Index)
print("ready", flush=True)
server.serve_forever()
