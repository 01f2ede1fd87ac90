"""The console script `mlic`: `mlic train model=nasnetlarge` is the same as `python -m mlic.train model=nasnetlarge`."""

import os
import runpy
import sys
from collections.abc import Sequence

# Not read from the modules, because listing the commands should not import torch.
COMMANDS = {
    "verify": "check a data set before any training",
    "extract": "compute and store the features of a data set",
    "train": "train and test a classifier; -m runs a sweep",
    "tune": "search for the best head on the features of one backbone",
    "evaluate": "score a run on a labelled data set",
    "predict": "score new photographs",
    "app": "open a local page to try a run",
    "compare": "write a report that compares runs",
    "export": "write a run to one ONNX file that proves itself",
    "models": "list the networks of model=..., or draw one",
    "features": "list, verify and prune the stores of features",
}
USAGE_ERROR = 2  # exit status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command with the exit status of `python -m mlic.<command>`.

    Args:
        arguments: name and arguments of the command. Default: those of the process.

    Returns:
        0, or 2 if the command is unknown.

    Raises:
        SystemExit: the command has exited with its own status.
    """
    given = sys.argv[1:] if arguments is None else arguments
    name, *rest = given or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        print(f"command: must be one of {', '.join(COMMANDS)}, got '{name}'.", file=sys.stderr)
        return USAGE_ERROR
    # As with `python -m`, classes of the user are found in the working folder. It comes last, so that no file there
    # shadows an installed module.
    if not sys.flags.safe_path:
        sys.path.append(os.getcwd())
    sys.argv[1:] = rest
    # Not a call of `main` of the module, because Lightning starts other DDP processes by the name of the main module.
    runpy.run_module(f"mlic.{name}", run_name="__main__", alter_sys=True)
    return 0


def usage() -> str:
    """Return the list of commands with one line each."""
    lines = "\n".join(f"  {name:<10}{summary}" for name, summary in COMMANDS.items())
    return f"""usage: mlic <command> [group=choice ...] [key=value ...]

{lines}

mlic <command> --help lists the settings of a command."""


if __name__ == "__main__":
    sys.exit(main())
