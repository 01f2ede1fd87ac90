"""Parallel opening and hashing of all images."""

import hashlib
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mlic.data.images import FULL_BITS, ImageReference, full_check, largest_grey, map_images, quick_check
from mlic.data.tar_images import TarImage
from mlic.features.hashing import DIGEST_DTYPE


@dataclass(frozen=True, eq=False)
class InspectedImages:
    """Results of opening N images.

    Attributes:
        digests: hexadecimal sha256 of the bytes, `S64` (N,); empty for unusable images.
        bad: maps the rows of unusable files to the reasons.
        missing: rows without a file.
        largest_greys: largest value of each 16-bit greyscale image; empty if images were not decoded.
        seconds: wall-clock time in seconds.
    """

    digests: np.ndarray
    bad: dict[int, str]
    missing: list[int]
    largest_greys: list[int]
    seconds: float

    @property
    def usable(self) -> np.ndarray:
        """Mask of usable images, bool (N,)."""
        return self.digests != b""


def inspect_images(
    references: Sequence[ImageReference],
    *,
    check: str = "full",
    num_workers: int | None = None,
    bits_stored: int = FULL_BITS,
) -> InspectedImages:
    """Open and hash images, with a progress bar if the output is a terminal.

    Memory use, besides the references, is 64 bytes per image and the reasons.

    Args:
        references: N images.
        check: `full` decodes each image; `quick` checks header and end mark, and decodes only in case of doubt.
        bits_stored: see `mlic.data.open_image`.
        num_workers: number of threads. Default: one per core.
    """
    start = time.perf_counter()
    digests, bad, missing, greys = np.zeros(len(references), dtype=DIGEST_DTYPE), {}, [], []
    inspect = partial(_inspect, bits_stored if check == "full" else None)
    workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    with warnings.catch_warnings():
        # warnings about EXIF data and similar, which do not name the file
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for row, (digest, reason, grey) in enumerate(map_images(inspect, references, workers)):
            greys += [] if grey is None else [grey]
            if reason is None:
                digests[row] = digest
            elif isinstance(references[row], TarImage) or os.path.lexists(str(references[row])):
                bad[row] = reason
            else:
                missing.append(row)
    return InspectedImages(digests, bad, missing, greys, time.perf_counter() - start)


def _inspect(bits_stored: int | None, image: ImageReference) -> tuple[str, str | None, int | None]:
    """Return digest, problem, and the largest value of a 16-bit greyscale image.

    Nothing is decoded if `bits_stored` is None. The file is hashed after the check, which refuses pipes and devices.
    """
    try:
        reason = quick_check(image) if bits_stored is None else full_check(image, bits_stored)
        if reason is not None:
            return "", reason, None
        grey = None if bits_stored is None else largest_grey(image)
        if isinstance(image, TarImage):
            return image.digest, None, grey
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), None, grey
    except OSError as error:
        return "", error.strerror or type(error).__name__, None
