"""The launcher of `hydra/launcher=local`. Hydra looks for launchers in the package `hydra_plugins` alone."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

logger = logging.getLogger(__name__)

LOG_FOLDER = ".local"


class LocalLauncher(Launcher):
    """Equivalent to Hydra's basic launcher, but each job is a process of its own, and some run at the same time."""

    def __init__(self, parallel: int | None = None, gpus: Sequence[int | str] | None = None) -> None:
        """Keep the settings, see `conf/hydra/launcher/local.yaml`."""
        self.parallel, self.gpus = parallel, gpus

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs; what each gives, or its error, in their order."""
        # here, because Hydra imports this file for every command
        from mlic.sweeps.local_jobs import LocalJob, make_slots, run_jobs

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(str(self.config.hydra.sweep.dir)) / LOG_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        slots = make_slots(self.parallel, self.gpus)
        logger.info("Launching %d jobs, %d at a time, output in %s", len(job_overrides), len(slots), folder)
        jobs = [
            LocalJob(
                name=f"#{number} : {' '.join(filter_overrides(overrides))}",
                run=lambda overrides=overrides, number=number: self._run(overrides, number),
                output=folder / f"{number}.log",
            )
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        return run_jobs(jobs, slots, stop_at_failure=self.config.get("on_error") == "stop")

    def _run(self, overrides: Sequence[str], number: int) -> JobReturn:
        """One job, as Hydra's basic launcher runs it."""
        config: Any = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return run_job(
            hydra_context=self.context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
