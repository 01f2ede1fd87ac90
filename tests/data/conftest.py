"""A local HTTP server that can fail, ignore ranges and count what it was asked."""

import hashlib
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
        ranges: whether `Range` is understood.
        failures: status codes to answer with first, one used up a request.
        requests: (path, Range header or None) of each request for content.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    failures: list[int] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


def make_handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            server.requests.append((self.path, self.headers.get("Range")))
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            if server.failures or self.path not in server.files:
                self.send_error(server.failures.pop(0) if server.failures else 404)
                return
            body = server.files[self.path]
            etag = hashlib.md5(body).hexdigest()
            asked = self.headers.get("Range") if server.ranges else None
            self.send_response(206 if asked else 200)
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                stop = min(int(last) + 1, len(body))
                self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{len(body)}")
                body = body[int(first) : stop]
            self.send_header("ETag", etag)
            self.send_header("Accept-Ranges", "bytes" if server.ranges else "none")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

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
