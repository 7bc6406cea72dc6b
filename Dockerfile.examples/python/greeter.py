"""Greets, over HTTP and in JSON, whom the path names: GET /hello/NAME."""

import getpass
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Greeter(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, name = self.path.removeprefix("/").partition("/")
        if kind != "hello" or not name:
            self.answer(404, {"error": "ask for /hello/NAME"})
        else:
            self.answer(200, {"hello": unquote(name), "from": getpass.getuser()})

    def answer(self, status, document):
        body = json.dumps(document).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    port = int(os.environ.get("PORT", "8080"))
    # Process 1 hears only the signals that it asks for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(("", port), Greeter) as server:
        print(f"greeting on port {port}", file=sys.stderr)
        server.serve_forever()


if __name__ == "__main__":
    main()
