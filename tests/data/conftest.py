"""A local HTTP server that can break off, ignore ranges and count what it sent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


@dataclass
class FileServer:
    """What the server has, how it behaves, and what was asked of it.

    Attributes:
        files: path -> content.
        break_after: bytes to send of a response before the connection is cut, one entry used up a request.
        ranges: whether `Range` is understood.
        failures: status codes to answer with first, one used up a request.
        requests: (path, Range header or None) of each request.
        sent: bytes of content sent for each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    ranges: bool = True
    wrong_range: bool = False
    failures: list[int] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    url: str = ""


def make_handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.requests.append((self.path, asked))
            if server.failures or self.path not in server.files:
                self.send_error(server.failures.pop(0) if server.failures else 404)
                return
            content = server.files[self.path]
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
            body = content[start:]
            self.send_response(206 if asked and server.ranges else 200)
            if asked and server.ranges:
                shown = 0 if server.wrong_range else start
                self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if server.break_after:
                body = body[: server.break_after.pop(0)]
            self.wfile.write(body)
            server.sent.append(len(body))

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    return Handler


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A running server on this machine, without a proxy between."""
    monkeypatch.setenv("no_proxy", "*")
    server = FileServer()
    engine = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(server))
    server.url = f"http://127.0.0.1:{engine.server_port}"
    thread = Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    engine.shutdown()
    engine.server_close()
    thread.join()


@pytest.fixture
def closed_address(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address where nothing answers, as without network."""
    monkeypatch.setenv("no_proxy", "*")
    engine = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    engine.server_close()
    return f"http://127.0.0.1:{engine.server_port}"
