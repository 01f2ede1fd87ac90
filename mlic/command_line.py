"""Paths on the command line, as Hydra's grammar wants them."""

import re
from collections.abc import Collection, Sequence

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


def _quote(argument: str, keys: Collection[str]) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key not in keys or value in ("", "null") or value[0] in "'\"[$":
        return argument
    # in quotes, backslashes stand for themselves but before a quote
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{key}='{escaped}'"
