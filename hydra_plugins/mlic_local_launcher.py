"""The launcher of `hydra/launcher=local`. Hydra finds launchers only in the package `hydra_plugins`."""

import logging
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from signal import SIGTERM
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

logger = logging.getLogger(__name__)

LOG_FOLDER = ".local"
GRACE_SECONDS = 30  # for terminated jobs to write their state
Environment = dict[str, str]


class LocalLauncher(Launcher):
    """Like Hydra's basic launcher, but runs each job in a separate process, and several at the same time."""

    def __init__(self, parallel: int | None = None, gpus: Sequence[int | str] | None = None) -> None:
        """Store the settings; see `conf/hydra/launcher/local.yaml`."""
        self.parallel, self.gpus = parallel, gpus

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Prepare the launcher; called by Hydra."""
        self.context, self.task, self.config = hydra_context, _name_of(task_function), config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, and return the result or error of each in order. Jobs end together with this process."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        self.folder = Path(str(self.config.hydra.sweep.dir)) / LOG_FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        environments = make_environments(self.parallel, self.gpus)
        self.free: SimpleQueue[Environment] = SimpleQueue()
        for environment in environments:
            self.free.put(environment)
        self.running: set[BaseProcess] = set()
        self.ending = False
        count = len(environments)
        logger.info("Launching %d jobs, %d at a time, output in %s", len(job_overrides), count, self.folder)
        pool = ThreadPoolExecutor(count)
        jobs = [
            pool.submit(self._run, list(overrides), number)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        try:
            for job in as_completed(jobs):
                if job.result().status == JobStatus.FAILED and self.config.get("on_error") == "stop":
                    raise SystemExit(1)
            return [job.result() for job in jobs]
        finally:
            self.ending = True
            pool.shutdown(wait=False, cancel_futures=True)
            self._end_jobs()

    def _run(self, overrides: list[str], number: int) -> JobReturn:
        """Start a process for the job, and wait for its end; runs in a thread."""
        environment, name = self.free.get(), f"#{number} : {' '.join(filter_overrides(overrides))}"
        output = self.folder / f"{number}.log"
        # spawned, because torch does not support fork
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        job = (self.context, self.task, self.config, overrides, number)
        process = context.Process(target=_run_in_process, args=(job, environment, output, sender))
        process.start()
        self.running.add(process)
        if self.ending:  # set after this thread took the job
            process.terminate()
        sender.close()
        gpu = environment.get("CUDA_VISIBLE_DEVICES")
        logger.info("\t%s%s", name, f"  (GPU {gpu})" if gpu else "")
        try:
            value, error = receiver.recv()
        except EOFError:
            value, error = None, f"{name} ended without a result: {output}"
        process.join()
        self.running.discard(process)
        self.free.put(environment)
        logger.info("\t%s  %s", name, "failed" if error else "finished")
        result = JobReturn(overrides=overrides, status=JobStatus.FAILED if error else JobStatus.COMPLETED)
        result.return_value = CompactHydraException(error) if error else value
        return result

    def _end_jobs(self) -> None:
        """Terminate the jobs, and kill those that do not exit."""
        left, until = list(self.running), time.monotonic() + GRACE_SECONDS
        for process in left:
            process.terminate()
        for process in left:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()


def make_environments(parallel: int | None, gpus: Sequence[int | str] | None) -> list[Environment]:
    """Return the environment variables of each slot; a slot runs one job at a time.

    Args:
        parallel: number of slots; None for one per GPU, or one without GPUs.
        gpus: GPUs assigned to the slots in turn; None for all GPUs, empty for none.

    Raises:
        CompactHydraException: `parallel` is below 1.
    """
    visible = _find_gpus() if gpus is None else [str(gpu) for gpu in gpus]
    count = max(1, len(visible)) if parallel is None else parallel
    if count < 1:
        raise CompactHydraException(f"hydra.launcher.parallel={count}: expected a number of at least 1.")
    shared: Environment = {}
    if count > 1 and "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared["OMP_NUM_THREADS"] = str(max(1, cores // count))
    if not visible:
        return [shared if gpus is None else {**shared, "CUDA_VISIBLE_DEVICES": ""}] * count
    return [{**shared, "CUDA_VISIBLE_DEVICES": visible[place % len(visible)]} for place in range(count)]


def _find_gpus() -> list[str]:
    """Return the GPUs visible to this process."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip()]
    import torch  # here, because Hydra imports this file for every command

    return [str(number) for number in range(torch.cuda.device_count())]


def _name_of(task: TaskFunction) -> tuple[str, str]:
    """Return module and name of an entry point; the function itself, below `hydra.main`, cannot be pickled."""
    spec = sys.modules[task.__module__].__spec__  # under `python -m`, __module__ is __main__
    return spec.name if spec else task.__module__, task.__name__


def _run_in_process(job: tuple[Any, ...], environment: Environment, output: Path, sender: Connection) -> None:
    """Run one job as Hydra's basic launcher does, in the new process."""
    os.setpgid(0, 0)  # so that Ctrl-C reaches only the parent, which forwards it once
    os.environ.update(environment)
    file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    context, (module, name), sweep_config, overrides, number = job
    setup_globals()
    try:
        Plugins.instance()  # registers their configs
        task = getattr(import_module(module), name).__wrapped__
        config = context.config_loader.load_sweep_config(sweep_config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        result = run_job(
            hydra_context=context,
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        sender.send((result.return_value, None))  # return_value raises the error of the job
    except Exception as error:
        traceback.print_exc()
        kind = "" if isinstance(error, CompactHydraException) else f"{type(error).__name__}: "
        sender.send((None, f"{kind}{error}"))  # not every exception can be pickled


def _end_with_parent() -> None:
    # a killed parent cannot terminate its jobs, which would continue beside those of the next sweep
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), SIGTERM)
