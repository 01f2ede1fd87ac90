"""Jobs of a sweep in processes of their own on this machine, some at a time, each with its GPU."""

import logging
import multiprocessing
import os
import pickle
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGTERM

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException

logger = logging.getLogger(__name__)

GRACE_SECONDS = 30  # for a job that is ended to write its state
DETECTION = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")

Slot = dict[str, str]


@dataclass(frozen=True)
class LocalJob:
    """One job: what it is called, what it does, and the file that its output goes to."""

    name: str
    run: Callable[[], JobReturn]
    output: Path


@dataclass(frozen=True)
class _Started:
    number: int
    slot: Slot
    process: BaseProcess
    since: float


def make_slots(parallel: int | None, gpus: Sequence[int | str] | None) -> list[Slot]:
    """Environment variables of each place that one job at a time can take.

    Args:
        parallel: number of places; None for one a GPU, and one without GPUs.
        gpus: given to the places in turn; None for those there are, empty for none.

    Raises:
        CompactHydraException: no place.
    """
    visible = _find_gpus() if gpus is None else [str(gpu) for gpu in gpus]
    count = parallel if parallel is not None else max(1, len(visible))
    if count < 1:
        raise CompactHydraException(f"hydra.launcher.parallel: {count} is below 1.")
    slots: list[Slot] = [{} for _ in range(count)]
    for number, slot in enumerate(slots):
        if visible or gpus is not None:
            slot["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)] if visible else ""
        if count > 1 and "OMP_NUM_THREADS" not in os.environ:
            slot["OMP_NUM_THREADS"] = str(max(1, _cores() // count))
    return slots


def _find_gpus() -> list[str]:
    """Those that this process sees; without torch, which takes seconds to import and must not meet a fork."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip()]
    if shutil.which(DETECTION[0]) is None:
        return []
    found = subprocess.run(DETECTION, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(jobs: Sequence[LocalJob], slots: Sequence[Slot], *, stop_at_failure: bool) -> list[JobReturn]:
    """Run all jobs, as many at a time as there are slots; whatever ends this process ends them too.

    Args:
        jobs: in the order in which they start.
        slots: environment variables of each place.
        stop_at_failure: end the others and leave with exit status 1 when one fails.

    Returns:
        What each job gave, in the order of `jobs`; an error stays in its own.
    """
    waiting, free = deque(range(len(jobs))), deque(slots)
    running: dict[Connection, _Started] = {}
    results: dict[int, JobReturn] = {}
    try:
        while waiting or running:
            while waiting and free:
                receiver, started = _start(jobs, waiting.popleft(), free.popleft())
                running[receiver] = started
            for receiver in _ready(running):
                started = running.pop(receiver)
                results[started.number] = _finish(jobs[started.number], receiver, started)
                free.append(started.slot)
                if stop_at_failure and results[started.number].status == JobStatus.FAILED:
                    raise SystemExit(1)
    finally:
        _end(started.process for started in running.values())
    return [results[number] for number in range(len(jobs))]


def _ready(running: dict[Connection, _Started]) -> Iterator[Connection]:
    for receiver in wait(list(running)):
        assert isinstance(receiver, Connection)
        yield receiver


def _start(jobs: Sequence[LocalJob], number: int, slot: Slot) -> tuple[Connection, _Started]:
    """Fork: Hydra's job holds functions of the main module, which cannot be pickled; torch is not loaded here yet."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(jobs[number], slot, sender))
    process.start()
    sender.close()
    gpu = slot.get("CUDA_VISIBLE_DEVICES")
    logger.info("\t%s%s", jobs[number].name, f"  (GPU {gpu})" if gpu else "")
    return receiver, _Started(number, slot, process, time.monotonic())


def _work(job: LocalJob, slot: Slot, sender: Connection) -> None:
    """In the new process."""
    os.setpgid(0, 0)  # a Ctrl-C is for the parent, which passes it on once
    os.environ.update(slot)
    output = os.open(job.output, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = job.run()
    except Exception as error:  # such as settings that do not compose
        logger.exception("the job could not be started")
        result = _failed(error)
    sender.send_bytes(_pickled(result))


def _end_with_parent() -> None:
    """A parent that is killed cannot end its jobs, which would go on beside those of the next sweep."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), SIGTERM)


def _failed(error: Exception) -> JobReturn:
    result = JobReturn(status=JobStatus.FAILED)
    result.return_value = error
    return result


def _pickled(result: JobReturn) -> bytes:
    """Errors of some libraries are pickled but cannot be read again: their text can."""
    try:
        content = pickle.dumps(result)
        pickle.loads(content)
    except Exception:
        error = result._return_value
        result.return_value = RuntimeError(f"{type(error).__name__}: {error}")
        content = pickle.dumps(result)
    return content


def _finish(job: LocalJob, receiver: Connection, started: _Started) -> JobReturn:
    try:
        result: JobReturn = pickle.loads(receiver.recv_bytes())
    except EOFError:
        started.process.join()
        result = _failed(
            RuntimeError(
                f"{job.name} ended without a result, exit status {started.process.exitcode}: {job.output}"
            )
        )
    started.process.join()
    receiver.close()
    state = "finished" if result.status == JobStatus.COMPLETED else "failed"
    logger.info("\t%s  %s after %.0f s", job.name, state, time.monotonic() - started.since)
    return result


def _end(processes: Iterable[BaseProcess]) -> None:
    """Let jobs end in order, and kill those that do not."""
    left = list(processes)
    for process in left:
        process.terminate()
    until = time.monotonic() + GRACE_SECONDS
    for process in left:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
