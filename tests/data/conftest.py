"""A local HTTP server that can fail, ignore ranges and count what it was asked."""

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


class FileServer(ThreadingHTTPServer):
    """What the server has, how it behaves, and what was asked of it.

    Attributes:
        files: path -> content.
        ranges: whether `Range` is understood.
        failures: status codes to answer with first, one used up a request.
        requests: (path, Range header or None) of each request for content.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.failures: list[int] = []
        self.requests: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        """Send the headers; return the body."""
        server = self.server
        if server.failures or self.path not in server.files:
            self.send_error(server.failures.pop(0) if server.failures else 404)
            return b""
        body = whole = server.files[self.path]
        asked = self.headers.get("Range") if server.ranges else None
        self.send_response(206 if asked else 200)
        if asked:
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            body = whole[first : last + 1]
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(whole)}")
        self.send_header("ETag", hashlib.md5(whole).hexdigest())
        self.send_header("Accept-Ranges", "bytes" if server.ranges else "none")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A running server on this machine, without a proxy between."""
    monkeypatch.setenv("no_proxy", "*")
    with FileServer() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
