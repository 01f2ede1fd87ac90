"""The command line: paths as Hydra's grammar wants them, programs as the user can call them, orderly ends."""

import re
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException

from mlic.config import CONFIG_DIR
from mlic.errors import InputError
from mlic.process_settings import configure_process
from mlic.runs.signals import SIGNALS, ending_on_signals

PATH_KEYS = (
    "run", "images", "output", "init_from", "resume", "data.annotations", "data.images", "features.dir",
    "model.backbone.weights",
)  # fmt: skip


def run_command(main: Callable[[], Any], keys: Collection[str] = PATH_KEYS) -> None:
    """Run `python -m mlic.<command>`; SIGINT and SIGTERM end it with status 130 and 143.

    Args:
        main: Hydra's entry point, decorated with `ending_in_order` below `hydra.main`.
        keys: that stand for paths on the command line.
    """
    configure_process()
    sys.argv[1:] = quote_paths(sys.argv[1:], keys)
    for argument in sys.argv[1:]:  # of which Hydra would print a traceback
        group = argument.removesuffix("=null")
        if group != argument and (Path(CONFIG_DIR) / group).is_dir():
            sys.exit(f"{argument}: {group} is a group of configs. Leave it out by '~{group}'.")
    try:
        with ending_on_signals():
            main()
    finally:  # Python's handler would print a traceback from the end of the interpreter
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Show an `InputError` without a traceback, and end on signals; around the work of a command, below `hydra.main`.

    Hydra prints the traceback of any other exception, so whatever a library makes of a signal has to become SystemExit
    again before Hydra sees it.
    """
    try:
        with ending_on_signals():
            yield
    except InputError as error:
        raise CompactHydraException(f"\n{error}") from error


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
