"""Where data sets that the program makes or downloads lie."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$MLIC_CACHE`, else `$XDG_CACHE_HOME/mlic`, else `~/.cache/mlic`; not made by asking."""
    if os.environ.get("MLIC_CACHE"):
        return Path(os.environ["MLIC_CACHE"]).expanduser().absolute()
    # the XDG standard says to ignore a relative path
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "mlic"
