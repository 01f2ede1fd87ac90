"""Every image opened and hashed, in parallel, a chunk at a time."""

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mlic.data.images import full_check, quick_check
from mlic.errors import InputError
from mlic.features.hashing import DIGEST_DTYPE

CHECKS: dict[str, Callable[[Path], str | None]] = {"full": full_check, "quick": quick_check}
CHUNK_FILES = 4096  # paths and jobs that are held at a time


@dataclass(frozen=True, eq=False)
class InspectedImages:
    """What opening N images showed.

    Attributes:
        digests: (N,) `S64`, hexadecimal sha256 of the bytes; empty for images that cannot be used.
        bad: row -> reason, of files that cannot be used.
        missing: rows without a file.
        seconds: of wall clock.
    """

    digests: np.ndarray
    bad: dict[int, str]
    missing: list[int]
    seconds: float

    @property
    def usable(self) -> np.ndarray:
        """(N,) bool."""
        return self.digests != b""


def inspect_images(
    folder: Path, names: Sequence[str] | np.ndarray, *, check: str = "full", num_workers: int | None = None
) -> InspectedImages:
    """Open and hash images, with a progress bar where the output is a terminal.

    Beyond the names it holds 64 bytes an image, and the reasons.

    Args:
        folder: that the names are relative to.
        names: N file names.
        check: `full` decodes each image; `quick` looks at header and end, and decodes only where these are in doubt.
        num_workers: threads (neither decoding nor hashing holds Python's lock); by default one a core.

    Raises:
        InputError: another `check`.
    """
    if check not in CHECKS:
        raise InputError(f"check: '{check}' is none of {', '.join(CHECKS)}.")
    start = time.perf_counter()
    digests, bad, missing = np.zeros(len(names), dtype=DIGEST_DTYPE), {}, []
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
            for row, (digest, reason) in enumerate(
                threads.map(partial(_inspect, CHECKS[check]), paths), first
            ):
                if reason is None:
                    digests[row] = digest
                elif os.path.lexists(paths[row - first]):
                    bad[row] = reason
                else:
                    missing.append(row)
                bar.update()
    return InspectedImages(digests, bad, missing, time.perf_counter() - start)


def _inspect(check: Callable[[Path], str | None], path: Path) -> tuple[str, str | None]:
    """Digest, and what is wrong; hashed after the check, which refuses pipes and devices."""
    try:
        reason = check(path)
        if reason is not None:
            return "", reason
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), None
    except OSError as error:
        return "", error.strerror or type(error).__name__
