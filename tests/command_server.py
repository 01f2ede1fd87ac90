"""Runs the commands in processes of their own, which a test may kill, also under limits and faults; not a test itself.

Reads a JSON object a line: `command` (train, tune, extract, predict, ...), `arguments`, `folder` to work in,
`log` for what it prints, and perhaps `memory_mb` (that its address space may grow by), `shared_memory` (the size of a
/dev/shm of its own, as of tmpfs), `kill_worker` (end the first worker process that it starts), `forward` (commands to
run at the first forward pass of the backbone on images, or at pass number `forward_pass`).
Forks a process for each, so that the imports are paid once, and prints its id; for `{"wait": id}` it prints the exit
status as `subprocess` gives it, that of a signal negative.
"""

import ctypes
import itertools
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.utils.tensorboard
from hydra.core.plugins import Plugins
from PIL import Image
from torch.utils.data import get_worker_info

# imported here for the commands to find
import mlic.compare
import mlic.evaluate
import mlic.extract
import mlic.features.__main__
import mlic.predict
import mlic.sweeps.table
import mlic.train
import mlic.training.run
import mlic.tune
import mlic.verify  # noqa: F401
from mlic.inference import Classifier  # noqa: F401
from mlic.models import FrozenBackbone

CLONE_NEWNS = 0x20000  # of Linux's sched.h
SECONDS_TO_END = 60


def run(job: dict[str, Any]) -> None:
    """One command, in this process, which ends with it."""
    log = os.open(job["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(file, number)
    code = 1
    try:
        os.chdir(job["folder"])
        _arrange(job)
        sys.argv = [f"mlic.{job['command']}", *job["arguments"]]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
            runpy.run_module(f"mlic.{job['command']}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _arrange(job: dict[str, Any]) -> None:
    if "memory_mb" in job:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + job["memory_mb"] * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if "shared_memory" in job:
        signal.alarm(SECONDS_TO_END)  # a hang is a failure
        _own_shared_memory(job["shared_memory"])
    if "forward" in job:
        _at_forward_pass(job.get("forward_pass", 1), job["forward"])
    if job.get("kill_worker"):
        _kill_first_worker()


def _own_shared_memory(size: str) -> None:
    """Mount a new /dev/shm that only this process and its children see."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNS):
        raise OSError("cannot unshare mounts")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "/dev/shm"], check=True)


def _at_forward_pass(number: int, commands: list[list[str]]) -> None:
    original, calls = FrozenBackbone.forward, itertools.count(1)

    def called(*arguments: Any) -> Any:
        if next(calls) == number:
            for command in commands:
                subprocess.run(command, stderr=subprocess.DEVNULL)
        return original(*arguments)

    FrozenBackbone.forward = called  # pyright: ignore[reportAttributeAccessIssue]


def _kill_first_worker() -> None:
    """Let the first worker process kill itself while it decodes an image.

    A kill from outside may hit it while it holds a lock of torch's loader, for which the other processes then wait.
    """
    original = Image.open

    def open_or_die(*arguments: Any, **options: Any) -> Any:
        worker = get_worker_info()
        if worker is not None and worker.id == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    Image.open = open_or_die


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
