"""Every image opened and hashed, in parallel, a chunk at a time."""

import hashlib
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mlic.data.images import FULL_BITS, ImageReference, full_check, largest_grey, map_images, quick_check
from mlic.data.tars.images import TarImage
from mlic.errors import check_choice
from mlic.features.hashing import DIGEST_DTYPE

CHECKS = ("full", "quick")


@dataclass(frozen=True, eq=False)
class InspectedImages:
    """What opening N images showed.

    Attributes:
        digests: (N,) `S64`, hexadecimal sha256 of the bytes; empty for images that cannot be used.
        bad: row -> reason, of files that cannot be used.
        missing: rows without a file.
        largest_greys: the largest value of each 16-bit grey image; empty where images were not decoded.
        seconds: of wall clock.
    """

    digests: np.ndarray
    bad: dict[int, str]
    missing: list[int]
    largest_greys: list[int]
    seconds: float

    @property
    def usable(self) -> np.ndarray:
        """(N,) bool."""
        return self.digests != b""


def inspect_images(
    references: Sequence[ImageReference],
    *,
    check: str = "full",
    num_workers: int | None = None,
    bits_stored: int = FULL_BITS,
) -> InspectedImages:
    """Open and hash images, with a progress bar where the output is a terminal.

    Beyond the references it holds 64 bytes an image, and the reasons.

    Args:
        references: N images.
        check: `full` decodes each image; `quick` looks at header and end, and decodes only where these are in doubt.
        bits_stored: see `mlic.data.open_image`.
        num_workers: threads; by default one a core.

    Raises:
        InputError: another `check`.
    """
    check_choice("check", check, CHECKS)
    start = time.perf_counter()
    digests, bad, missing = np.zeros(len(references), dtype=DIGEST_DTYPE), {}, []
    greys: list[int] = []
    inspect = partial(_inspect, bits_stored if check == "full" else None)
    workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    with warnings.catch_warnings():
        # about EXIF data and the like, without the file's name
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
    """Digest, what is wrong, and the largest value of 16-bit grey; without `bits_stored` nothing is decoded.

    Hashed after the check, which refuses pipes and devices.
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
