"""Helpers of the command line: quoting of paths for Hydra, exit statuses, and the path of Python."""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from mlic.command_help import help_text
from mlic.errors import InputError
from mlic.process_settings import configure_process
from mlic.runs.processes import rank_of_process
from mlic.runs.signals import SIGNALS, ending_on_signals
from mlic.settings import check_choices

PATH_KEYS = (
    "run", "images", "output", "check", "init_from", "resume", "data.annotations", "data.images", "features.dir",
    "model.backbone.weights",
)  # fmt: skip

HELP_FLAGS = {"--help", "-h"}


def run_command(main: Callable[[], Any], keys: Collection[str] = PATH_KEYS) -> None:
    """Run `python -m mlic.<command>`; SIGINT and SIGTERM exit with status 130 and 143.

    Args:
        main: Hydra entry point, decorated with `ending_in_order` below `hydra.main`.
        keys: keys of the command line whose values are paths.
    """
    configure_process()
    sys.argv[1:] = quote_paths(sys.argv[1:], keys)
    command = _command_name(Path(sys.argv[0]))
    flags = {argument.partition("=")[0] for argument in sys.argv[1:]}
    if flags & HELP_FLAGS:
        try:
            print(help_text(command, sys.argv[1:]))
        except HydraException as error:
            sys.exit(str(error))
        return
    if rank_of_process() == 0:
        # torch takes seconds to import; stderr, because others may read the output
        print(f"mlic {command}: loading ...", file=sys.stderr, flush=True)
    try:
        check_choices(sys.argv[1:])
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    try:
        with ending_on_signals():
            main()
    finally:  # the default handler would print a traceback at interpreter exit
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Print an `InputError` alone and exit with status 1, also exit on signals; wraps the work below `hydra.main`.

    Hydra would print all settings of the command line before the error, and prints the traceback of any other
    exception. An exception that a library raises for a signal must therefore be converted to SystemExit before.
    """
    try:
        with ending_on_signals():
            yield
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error


def quote_paths(arguments: Sequence[str], keys: Collection[str] = PATH_KEYS) -> list[str]:
    """Quote the values of `key=path` arguments.

    Without quotes Hydra refuses `=`, commas, brackets and non-ASCII letters, which occur in names of run folders of
    sweeps (`model=efficientnet_lite1`) and of photographs.

    Args:
        arguments: arguments of the command.
        keys: keys whose values are paths. Quoted values, lists (`[a.jpg,b.jpg]`) and `null` are left unchanged.
    """
    return [_quote(argument, keys) for argument in arguments]


def python() -> str:
    """Return the running Python as it can be typed in a shell, relative to the working folder."""
    return shlex.quote(os.path.relpath(sys.executable))


def _command_name(script: Path) -> str:
    """Return the name of a command by its module: `mlic/train.py`, `mlic/features/__main__.py`."""
    return script.parent.name if script.stem == "__main__" else script.stem


def _quote(argument: str, keys: Collection[str]) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key not in keys or value in ("", "null") or value[0] in "'\"[$":
        return argument
    # in quotes, only backslashes before a quote are escapes
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{key}='{escaped}'"
