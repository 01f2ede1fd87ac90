"""Whole commands in processes of their own, and their peak memory."""

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import psutil

from benchmarks.setting import Setting

ROOT = Path(__file__).parent.parent
INTERVAL = 0.1  # seconds between two measurements of the memory


def seconds_of(setting: Setting, module: str, *arguments: str) -> float:
    """Return the wall-clock seconds of `python -m module`.

    Raises:
        RuntimeError: the command failed.
    """
    start = time.perf_counter()
    if setting.quick:
        _run_here(module, arguments)
        return time.perf_counter() - start
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def peak_of(setting: Setting, module: str, *arguments: str) -> int:
    """Return the peak memory in bytes of `python -m module` and its descendants; its cache is in `setting.work`.

    Raises:
        RuntimeError: the command failed.
    """
    if setting.quick:
        _run_here(module, arguments)
        return _memory_of_tree(os.getpid())
    environment = {**os.environ, "MLIC_CACHE": str(setting.work)}
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory_of_tree(process.pid))
        time.sleep(INTERVAL)
    if process.returncode:
        raise RuntimeError(f"{command} failed: {process.stderr and process.stderr.read()}")
    return peak


def _run_here(module: str, arguments: tuple[str, ...]) -> None:
    """Run a module as `python -m` does, but in this process: a smoke test does not wait for nine starts."""
    with patch.object(sys, "argv", [module, *arguments]):
        runpy.run_module(module, run_name="__main__")


def _memory_of_tree(process_id: int) -> int:
    """Return the bytes of a process and its descendants; shared pages count once where the system reports them."""
    try:
        process = psutil.Process(process_id)
        members = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(_memory_of(member) for member in members)


def _memory_of(process: psutil.Process) -> int:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return 0
        memory = process.memory_full_info()
    except psutil.Error:  # the process has ended
        return 0
    return getattr(memory, "pss", None) or memory.uss
