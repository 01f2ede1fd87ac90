"""Every image opened and hashed, in parallel, a chunk at a time."""

import hashlib
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mlic.data.images import FULL_BITS, full_check, largest_grey, quick_check
from mlic.errors import InputError
from mlic.features.hashing import DIGEST_DTYPE
from mlic.tars.members import find_member

CHECKS = ("full", "quick")
CHUNK_FILES = 4096  # paths and jobs that are held at a time


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
    folder: Path,
    names: Sequence[str] | np.ndarray,
    *,
    check: str = "full",
    num_workers: int | None = None,
    bits_stored: int = FULL_BITS,
) -> InspectedImages:
    """Open and hash images, with a progress bar where the output is a terminal.

    Beyond the names it holds 64 bytes an image, and the reasons.

    Args:
        folder: that the names are relative to.
        names: N file names.
        check: `full` decodes each image; `quick` looks at header and end, and decodes only where these are in doubt.
        bits_stored: see `mlic.data.load_image`.
        num_workers: threads (neither decoding nor hashing holds Python's lock); by default one a core.

    Raises:
        InputError: another `check`.
    """
    if check not in CHECKS:
        raise InputError(f"check: '{check}' is none of {', '.join(CHECKS)}.")
    start = time.perf_counter()
    digests, bad, missing = np.zeros(len(names), dtype=DIGEST_DTYPE), {}, []
    greys: list[int] = []
    inspect = partial(_inspect, bits_stored if check == "full" else None)
    workers = max(1, (os.cpu_count() or 1) if num_workers is None else num_workers)
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(workers) as threads,
        tqdm(
            total=len(names),
            desc="checking images",
            unit="image",
            disable=None,
            leave=False,
            dynamic_ncols=True,
        ) as bar,
    ):
        # about EXIF data and the like, without the file's name
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for first in range(0, len(names), CHUNK_FILES):
            paths = [folder / name for name in names[first : first + CHUNK_FILES]]
            for row, (digest, reason, grey) in enumerate(threads.map(inspect, paths), first):
                path = paths[row - first]
                greys += [] if grey is None else [grey]
                if reason is None:
                    digests[row] = digest
                elif find_member(path) is not None or os.path.lexists(path):
                    bad[row] = reason
                else:
                    missing.append(row)
                bar.update()
    return InspectedImages(digests, bad, missing, greys, time.perf_counter() - start)


def _inspect(bits_stored: int | None, path: Path) -> tuple[str, str | None, int | None]:
    """Digest, what is wrong, and the largest value of 16-bit grey; without `bits_stored` nothing is decoded.

    Hashed after the check, which refuses pipes and devices.
    """
    try:
        reason = quick_check(path) if bits_stored is None else full_check(path, bits_stored)
        if reason is not None:
            return "", reason, None
        grey = None if bits_stored is None else largest_grey(path)
        if (member := find_member(path)) is not None:
            return member.digest, None, grey
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), None, grey
    except OSError as error:
        return "", error.strerror or type(error).__name__, None
