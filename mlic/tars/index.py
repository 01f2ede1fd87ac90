"""What is known of the images in a shard, as arrays in one file."""

import json
import os
import tempfile
import zipfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

INDEX_FILE = "index.npz"
VERSION = 1


class Member(NamedTuple):
    """An image in a shard.

    Attributes:
        url: of the shard: absolute path, or address with its protocol.
        name: in the shard.
        offset: of its content in the shard, in bytes.
        size: in bytes.
        digest: hexadecimal sha256 of its bytes.
        flaw: what is wrong with it by its header and end; empty if nothing.
    """

    url: str
    name: str
    offset: int
    size: int
    digest: str
    flaw: str


class Texts:
    """Many byte strings in one array: about 8 bytes each beside their own."""

    def __init__(self, content: np.ndarray, bounds: np.ndarray) -> None:
        """Text i is `content[bounds[i]:bounds[i + 1]]`; uint8, and int64 (N + 1,)."""
        self.content, self.bounds = content, bounds

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Self:
        """Put N texts together."""
        bounds = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(texts), dtype=np.uint8), bounds)

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.bounds) - 1

    def __getitem__(self, row: int) -> bytes:
        """One of them."""
        return self.content[self.bounds[row] : self.bounds[row + 1]].tobytes()


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The n images of a shard.

    Attributes:
        url: of the shard.
        key: what it was made from and how; another key is another index.
        names: in the shard, UTF-8, sorted.
        offsets, sizes: (n,) int64, in bytes.
        digests: (n, 32) uint8, sha256 of the bytes.
        labels: JSON: a text, or a list of names or numbers; empty for an image without labels.
        flaws: row -> what is wrong with the image.
        problems: member and what is wrong with it, of those that are no usable images or labels.
        num_problems: how many there are; not all are kept.
    """

    url: str
    key: dict[str, Any]
    names: Texts
    offsets: np.ndarray
    sizes: np.ndarray
    digests: np.ndarray
    labels: Texts
    flaws: dict[int, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    num_problems: int = 0

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def find(self, name: str) -> Member | None:
        """The image of that name."""
        wanted = name.encode("utf-8", "surrogateescape")
        row = bisect_left(range(len(self)), wanted, key=self.names.__getitem__)
        if row == len(self) or self.names[row] != wanted:
            return None
        digest = self.digests[row].tobytes().hex()
        flaw = self.flaws.get(row, "")
        return Member(self.url, name, int(self.offsets[row]), int(self.sizes[row]), digest, flaw)

    def save(self, folder: Path) -> None:
        """Write `index.npz` in the folder of the shard, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {
            "url": self.url,
            "key": self.key,
            "flaws": list(self.flaws.items()),
            "problems": self.problems,
        }
        about |= {"num_problems": self.num_problems, "version": VERSION}
        arrays: dict[str, Any] = {"offsets": self.offsets, "sizes": self.sizes, "digests": self.digests}
        for name, texts in (("names", self.names), ("labels", self.labels)):
            arrays |= {name: texts.content, f"{name}_bounds": texts.bounds}
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            try:
                np.savez(file, about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **arrays)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, folder / INDEX_FILE)
            except BaseException:
                os.unlink(file.name)
                raise


def load_index(folder: str | Path, *, labels: bool) -> ShardIndex | None:
    """The index in the folder of a shard; None if there is none, or a broken one or one of another version.

    Args:
        folder: of the shard.
        labels: whether to read them too; without, `labels` is empty.
    """
    try:
        with np.load(os.path.join(folder, INDEX_FILE), allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            if about.pop("version") != VERSION:
                return None
            texts = Texts(arrays["labels"], arrays["labels_bounds"]) if labels else Texts.of([])
            about["flaws"] = dict(about["flaws"])
            about["problems"] = [(member, problem) for member, problem in about["problems"]]
            return ShardIndex(
                names=Texts(arrays["names"], arrays["names_bounds"]),
                labels=texts,
                **{name: arrays[name] for name in ("offsets", "sizes", "digests")},
                **about,
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
