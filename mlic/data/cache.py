"""Where data sets that the program makes or downloads lie, and how they come there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """`$MLIC_CACHE`, else `$XDG_CACHE_HOME/mlic`, else `~/.cache/mlic`; not made by asking."""
    if os.environ.get("MLIC_CACHE"):
        return Path(os.environ["MLIC_CACHE"]).expanduser().absolute()
    # the XDG standard says to ignore a relative path
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "mlic"


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which gets its name when the block ends well and is removed otherwise.

    Args:
        target: the name to be; nothing or an empty folder must be there.

    Yields:
        The folder to fill, beside `target`.
    """
    new = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield new
        new.chmod(0o755)  # temporary folders are private
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
