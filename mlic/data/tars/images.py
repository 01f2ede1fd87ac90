"""References to images in tar shards, and their bytes."""

import hashlib
import time
from typing import NamedTuple

from mlic.addresses import open_address
from mlic.errors import InputError

ATTEMPTS = 4
PAUSE_SECONDS = 1.0


class TarImage(NamedTuple):
    """Where an image in a tar shard is.

    Attributes:
        shard: absolute path, or address with its protocol.
        name: in the shard.
        offset: of its content in the shard, in bytes.
        size: in bytes.
        digest: hexadecimal sha256 of its bytes.
        flaw: what is wrong with its header or end; empty if nothing is.
    """

    shard: str
    name: str
    offset: int
    size: int
    digest: str
    flaw: str = ""

    def __str__(self) -> str:
        """`<shard>/<name>`, for messages."""
        return f"{self.shard}/{self.name}"


def read_tar_image(image: TarImage) -> bytes:
    """Read the bytes of an image.

    Raises:
        InputError: the shard cannot be read, or has changed since it was indexed.
    """
    content = _read_range(image)
    if len(content) > image.size:
        raise InputError(
            f"{image.shard}: the server sends {len(content)} bytes where {image.size} were asked for: it does not "
            "support range requests. Use another server, or download the shards."
        )
    if hashlib.sha256(content).hexdigest() != image.digest:
        raise InputError(
            f"{image.shard}: '{image.name}' has changed since the shard was indexed. Start again: a changed shard is "
            "indexed again."
        )
    return content


def _read_range(image: TarImage) -> bytes:
    system, path = open_address(image.shard)
    for attempt in range(ATTEMPTS):
        try:
            return system.cat_file(path, start=image.offset, end=image.offset + image.size)
        except Exception as error:  # each protocol has errors of its own
            # fsspec repeats failed requests for S3 and GCS, but not for HTTP
            if isinstance(error, FileNotFoundError) or attempt == ATTEMPTS - 1:
                raise InputError(
                    f"{image.shard}: the shard cannot be read ({type(error).__name__}: {error}). Start again when it "
                    "can; nothing that was computed is lost."
                ) from error
            time.sleep(PAUSE_SECONDS * 2**attempt)
    raise AssertionError("unreachable")
