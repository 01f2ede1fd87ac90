"""Runs `python -m mlic.train` in processes of their own, which a test may kill; not a test itself.

Reads a JSON object a line. With `arguments`, `folder` and `log` it forks a process for the command, so that the imports
are paid once, and prints its id; with `wait`, it prints the exit status of a process, as `subprocess` gives it.
"""

import json
import os
import sys
import traceback
from typing import Any

import torch
import torch.utils.tensorboard
from hydra.core.plugins import Plugins

import mlic.sweeps.table
import mlic.training.run  # noqa: F401
from mlic.train import command


def run(job: dict[str, Any]) -> None:
    """One command, in this process, which ends with it."""
    log = os.open(job["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(file, number)
    code = 1
    try:
        os.chdir(job["folder"])
        sys.argv = ["mlic.train", *job["arguments"]]
        command()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """One process after the other, or side by side."""
    torch.set_num_threads(1)
    Plugins.instance()  # imports all of Hydra's
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
            continue
        process = os.fork()
        if process == 0:
            run(job)
        print(process, flush=True)


if __name__ == "__main__":
    serve()
