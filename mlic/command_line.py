"""The command line: paths as Hydra's grammar wants them, programs as the user can call them."""

import re
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

PATH_KEYS = (
    "run", "images", "output", "init_from", "resume", "data.annotations", "data.images", "features.dir",
    "model.backbone.weights",
)  # fmt: skip


def quote_paths(arguments: Sequence[str], keys: Collection[str] = PATH_KEYS) -> list[str]:
    """Quote the values of `key=path` arguments.

    Unquoted, Hydra refuses `=`, commas, brackets and letters beyond ASCII: the run folders of a sweep are
    named by their settings (`model=efficientnet_lite1`), and photographs as people like.

    Args:
        arguments: of the command.
        keys: that stand for paths. Values that are quoted, lists (`[a.jpg,b.jpg]`) or `null` stay as they
            are.
    """
    return [_quote(argument, keys) for argument in arguments]


def program(name: str) -> str:
    """A program beside the running Python, as it can be typed: its environment need not be on the path.

    Args:
        name: `python`, `tensorboard`.

    Returns:
        Its path, from the working folder if below that; the name alone if it is not there.
    """
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        return name
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _quote(argument: str, keys: Collection[str]) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key not in keys or value in ("", "null") or value[0] in "'\"[$":
        return argument
    # in quotes, backslashes stand for themselves but before a quote
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{key}='{escaped}'"
