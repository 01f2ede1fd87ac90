"""Names of files that must stay inside a folder."""

import re

# Anything that could leave the image folder, on any system: absolute, a drive letter, or a step up.
_LEAVES_FOLDER = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")


def leaves_folder(name: str) -> bool:
    """Return True if a file name is absolute, begins with a drive letter or has a step up, on any system."""
    return _LEAVES_FOLDER.search(name) is not None
