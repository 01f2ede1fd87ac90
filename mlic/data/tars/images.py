"""References to images in tar shards, and reading their bytes."""

import hashlib
import time
from typing import NamedTuple

from mlic.addresses import open_address
from mlic.errors import InputError

ATTEMPTS = 4
PAUSE_SECONDS = 1.0


class TarImage(NamedTuple):
    """Location of an image in a tar shard.

    Attributes:
        shard: absolute path, or address with protocol.
        name: name in the shard.
        offset: offset of the content in the shard, in bytes.
        size: size of the content in bytes.
        digest: hexadecimal sha256 of the content.
        flaw: defect of the header or end of the image; empty if there is none.
    """

    shard: str
    name: str
    offset: int
    size: int
    digest: str
    flaw: str = ""

    def __str__(self) -> str:
        """Return `<shard>/<name>` for messages."""
        return f"{self.shard}/{self.name}"


def read_tar_image(image: TarImage) -> bytes:
    """Read the bytes of an image.

    Raises:
        InputError: the shard cannot be read or has changed since it was indexed.
    """
    content = _read_range(image)
    if len(content) > image.size:
        raise InputError(
            f"{image.shard}: the server sent {len(content)} bytes instead of {image.size}, because it does not "
            "support range requests. Use another server, or download the shards."
        )
    if hashlib.sha256(content).hexdigest() != image.digest:
        raise InputError(
            f"{image.shard}: '{image.name}' has changed since the shard was indexed. Start again to index the "
            "changed shard."
        )
    return content


def _read_range(image: TarImage) -> bytes:
    system, path = open_address(image.shard)
    for attempt in range(ATTEMPTS):
        try:
            return system.cat_file(path, start=image.offset, end=image.offset + image.size)
        except Exception as error:  # each protocol has its own errors
            # fsspec retries failed requests for S3 and GCS, but not for HTTP
            if isinstance(error, FileNotFoundError) or attempt == ATTEMPTS - 1:
                raise InputError(
                    f"{image.shard}: the shard cannot be read ({type(error).__name__}: {error}). Start again when it "
                    "is available; finished work is kept."
                ) from error
            time.sleep(PAUSE_SECONDS * 2**attempt)
    raise AssertionError("unreachable")
