"""The cache folder for generated and downloaded data sets, and atomic creation of folders."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """Return `$MLIC_CACHE`, else `$XDG_CACHE_HOME/mlic`, else `~/.cache/mlic`, without creating it."""
    if os.environ.get("MLIC_CACHE"):
        return Path(os.environ["MLIC_CACHE"]).expanduser().absolute()
    # the XDG specification says that relative paths must be ignored
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "mlic"


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Create a temporary folder that is renamed to `target` on success and removed on error.

    Args:
        target: final path; must not exist or be an empty folder.

    Yields:
        The folder to fill, next to `target`.
    """
    new = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield new
        new.chmod(0o755)  # mkdtemp makes folders that only the user can read
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
