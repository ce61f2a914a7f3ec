"""A web server that misbehaves as told."""

import http.server
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Misdeeds = dict[str, list[str]]
"""What to do at each next request of a file: 503, 404, stall, reset, truncate, flip, more; then serve it."""


class FaultyServer(http.server.ThreadingHTTPServer):
    """Serves a folder, with misdeeds."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folder, self.misdeeds, self.requests = folder, Misdeeds(), Counter[str]()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients hang up


class Handler(http.server.BaseHTTPRequestHandler):
    server: FaultyServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.requests[name] += 1
        planned = self.server.misdeeds.get(name, [])
        misdeed = planned.pop(0) if planned else "none"
        path = self.server.folder / name
        if misdeed.isdigit() or not path.is_file():
            self.send_error(int(misdeed) if misdeed.isdigit() else 404)
            return
        content = bytearray(path.read_bytes())
        half = len(content) // 2
        if misdeed == "flip":
            content[half] ^= 1
        if misdeed == "more":
            content += b"more"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if misdeed in ("truncate", "stall", "reset"):
            self.wfile.write(content[:half])
            self.wfile.flush()
            if misdeed == "stall":
                self.server.closing.wait(20)
            if misdeed == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        self.wfile.write(content)


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[FaultyServer]:
    """Run a server for as long as it is needed."""
    with FaultyServer(folder, port) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
