"""Check that file names stay inside a folder."""

import re

# on any operating system: an absolute path, a drive letter, or a step up
_LEAVES_FOLDER = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")


def leaves_folder(name: str) -> bool:
    """Return True if a file name is absolute, begins with a drive letter or contains `..` on any system."""
    return _LEAVES_FOLDER.search(name) is not None
