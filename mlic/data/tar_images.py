"""References to images in tar shards, and reading of their bytes."""

import hashlib
import time
from typing import NamedTuple

from mlic.addresses import open_address
from mlic.errors import InputError

PAUSE_SECONDS = 2.0  # between two attempts to read


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


def read_tar_image(image: TarImage, attempts: int = 4) -> bytes:
    """Read the bytes of an image.

    Args:
        image: location of the image.
        attempts: number of attempts. fsspec retries failed requests for S3 and GCS, but not for HTTP.

    Raises:
        InputError: the shard cannot be read or has changed since it was indexed.
    """
    system, path = open_address(image.shard)
    try:
        content = system.cat_file(path, start=image.offset, end=image.offset + image.size)
    except Exception as error:  # each protocol has its own errors
        if attempts > 1 and not isinstance(error, FileNotFoundError):
            time.sleep(PAUSE_SECONDS)
            return read_tar_image(image, attempts - 1)
        raise InputError(
            f"{image.shard}: the shard cannot be read ({type(error).__name__}: {error}). Start again when it is "
            "available; finished work is kept."
        ) from error
    # the offsets of a changed shard may point at a different image, whose features would be stored under this digest
    if hashlib.sha256(content).hexdigest() != image.digest:
        raise InputError(
            f"{image.shard}: '{image.name}' is not as it was indexed. Either the shard has changed: start again to "
            "index it again. Or its server does not support range requests: use another server, or download the shards."
        )
    return content
