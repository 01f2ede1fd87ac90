"""Images read out of shards on a server, by ranges."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mlic.data.tar_shards import image_names
from mlic.errors import InputError
from mlic.features import hash_files
from mlic.features.images import FixedBatch, HashedImages
from mlic.tars import members
from mlic.tars.members import find_member, read_ahead, read_member


@dataclass
class RangeServer:
    """What it has, how it behaves, and the ranges it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    failures: int = 0
    asked: list[str] = field(default_factory=list)
    url: str = ""


def make_handler(server: RangeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            content = server.files.get(self.path.partition("?")[0])
            if content is None or (with_body and server.failures > 0):
                server.failures -= content is not None
                self.send_error(404 if content is None else 503)
                return
            asked = self.headers.get("Range") if server.ranges else None
            if with_body:
                server.asked.append(self.headers.get("Range", ""))
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                stop = min(int(last) + 1, len(content))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{len(content)}")
                body = content[int(first) : stop]
            else:
                self.send_response(200)
                body = content
            self.send_header("ETag", hashlib.md5(content).hexdigest())
            self.send_header("Accept-Ranges", "bytes" if server.ranges else "none")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RangeServer]:
    """A running server on this machine; the index is kept in a cache of its own."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(members, "PAUSE_SECONDS", 0)
    server = RangeServer()
    engine = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(server))
    engine.daemon_threads = True
    server.url = f"http://127.0.0.1:{engine.server_port}"
    thread = Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    engine.shutdown()
    engine.server_close()
    thread.join()


@pytest.fixture
def served(
    server: RangeServer, tiny_images: Path, pack: Callable[..., bytes]
) -> tuple[list[Path], list[bytes]]:
    """Paths and bytes of 60 images in two shards."""
    files = sorted(tiny_images.iterdir())
    for number in range(2):
        own = files[30 * number : 30 * (number + 1)]
        server.files[f"/set/{number}.tar"] = pack({file.name: file.read_bytes() for file in own})
    folder, names = image_names(f"{server.url}/set/{{0..1}}.tar?token=a")
    assert names[30] == "1.tar/shapes_30.jpg"
    server.asked.clear()
    return [folder / name for name in names], [file.read_bytes() for file in files]


def test_each_image_is_a_range(served: tuple[list[Path], list[bytes]], server: RangeServer):
    paths, contents = served
    member = find_member(paths[40])
    assert member is not None and member.url == f"{server.url}/set/1.tar?token=a"
    assert read_member(member) == contents[40]
    assert server.asked == [f"bytes={member.offset}-{member.offset + member.size - 1}"]
    server.failures = 2
    assert read_member(member) == contents[40]
    assert len(server.asked) == 2


def test_neighbours_are_fetched_in_one_request(served: tuple[list[Path], list[bytes]], server: RangeServer):
    paths, contents = served
    read_ahead(paths[20:40])
    assert len(server.asked) == 2
    for place in range(20, 40):
        member = find_member(paths[place])
        assert member is not None and read_member(member) == contents[place]
    assert len(server.asked) == 2


@pytest.mark.slow
def test_workers_read_batches(served: tuple[list[Path], list[bytes]], server: RangeServer):
    paths, _ = served
    hashed = hash_files(paths)
    assert server.asked == [] and not hashed.bad
    images = HashedImages(paths, hashed.states, lambda image: np.asarray(image).transpose(2, 0, 1), None)
    loader = DataLoader(images, 15, num_workers=2, collate_fn=FixedBatch(15, (3, 64, 64)))
    numbers = [batch[0].tolist() for batch in loader]
    assert numbers == [list(range(start, start + 15)) for start in range(0, 60, 15)]
    assert len(server.asked) == 4


def test_a_server_without_ranges_is_refused(served: tuple[list[Path], list[bytes]], server: RangeServer):
    member = find_member(served[0][0])
    assert member is not None
    server.ranges = False
    with pytest.raises(
        InputError, match=r"0.tar\?token=a: the server sends \d+ bytes where .* download the shards"
    ):
        read_member(member)


def test_a_changed_or_shorter_or_lost_shard_is_named(
    served: tuple[list[Path], list[bytes]], server: RangeServer
):
    paths, contents = served
    found = [find_member(path) for path in paths[:2]]
    whole = server.files["/set/0.tar"]
    server.files["/set/0.tar"] = whole.replace(
        contents[0], contents[1][: len(contents[0])].ljust(len(contents[0]))
    )
    assert found[0] is not None and found[1] is not None
    with pytest.raises(InputError, match=r"'shapes_00.jpg' is no longer what it was"):
        read_member(found[0])
    server.files["/set/0.tar"] = whole[: found[1].offset + 10]
    with pytest.raises(InputError, match="the shard has become shorter"):
        read_member(found[1])
    del server.files["/set/0.tar"]
    with pytest.raises(InputError, match=r"the shard cannot be read \(FileNotFoundError"):
        read_member(found[1])


def test_shards_that_cannot_be_had_are_named(server: RangeServer, closed: str):
    for url in (f"{server.url}/none.tar", f"{closed}/a.tar"):
        with pytest.raises(InputError, match=rf"there is no '{url}'"):
            image_names(url)


@pytest.fixture
def closed() -> str:
    engine = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    engine.server_close()
    return f"http://127.0.0.1:{engine.server_port}"
