"""Names of files that must stay inside a folder."""

import re

# Anything that could leave the image folder, on any system: absolute, a drive letter, or a step up. Also the way from
# a folder above the cache to mlic's own indexes of tar shards, see mlic/tars/members.py.
_LEAVES_FOLDER = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])(\.\.|tar-index-[0-9a-f]{16})([/\\]|$)")


def leaves_folder(name: str) -> bool:
    """Whether a file name is absolute, begins with a drive letter, has a step up (on any system) or names an index."""
    return _LEAVES_FOLDER.search(name) is not None
