"""What happens around one job."""

import gc
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mlic.errors import InputError
from mlic.sweeps.job import reported_job


class Network:
    """Stands for what a job makes."""

    owner: "Network"


@pytest.fixture
def hydra_mode(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what Hydra says of the running job."""

    def choose(mode: RunMode, sweeper: str = "BasicSweeper", launcher: str = "BasicLauncher") -> None:
        content = SimpleNamespace(
            mode=mode,
            sweeper=SimpleNamespace(_target_=f"a.{sweeper}"),
            launcher=SimpleNamespace(_target_=f"a.{launcher}"),
        )
        monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: content))

    return choose


@pytest.fixture
def log_file(tmp_path: Path):
    handler = logging.FileHandler(tmp_path / "train.log")
    logging.getLogger().addHandler(handler)
    yield tmp_path / "train.log"
    logging.getLogger().removeHandler(handler)
    handler.close()


def config(**settings: str) -> DictConfig:
    return OmegaConf.create({"on_error": "continue", "output": "run", **settings})


def test_an_error_is_in_the_log_and_goes_on(hydra_mode: Callable[..., None], log_file: Path):
    hydra_mode(RunMode.MULTIRUN)
    with pytest.raises(CompactHydraException, match="a bad file"), reported_job(config()):
        raise InputError("a bad file")
    with pytest.raises(ZeroDivisionError), reported_job(config()):
        print(1 / 0)
    text = log_file.read_text()
    assert "InputError: a bad file" in text and "print(1 / 0)" in text and text.count("Traceback") == 2


def run_a_job() -> "weakref.ref[Network]":
    """Leaves an object that holds itself, as the trainer and the module of a run hold each other."""

    def job() -> "weakref.ref[Network]":
        network = Network()
        network.owner = network
        return weakref.ref(network)

    with reported_job(config()):
        return job()


def test_nothing_of_a_finished_job_is_left(hydra_mode: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    freed = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: freed.append(True))
    gc.disable()
    try:
        hydra_mode(RunMode.MULTIRUN)
        assert run_a_job()() is None and freed == [True]
        hydra_mode(RunMode.RUN)  # where the process ends anyway
        assert run_a_job()() is not None and freed == [True]
    finally:
        gc.enable()


def test_stop_ends_the_sweep_where_the_jobs_run_here(hydra_mode: Callable[..., None]):
    hydra_mode(RunMode.MULTIRUN)
    with pytest.raises(SystemExit) as ending, reported_job(config(on_error="stop")):
        raise ValueError
    assert ending.value.code == 1
    hydra_mode(RunMode.MULTIRUN, launcher="SlurmLauncher")
    with pytest.raises(ValueError, match="x"), reported_job(config(on_error="stop")):
        raise ValueError("x")
    message = "on_error: must be one of continue, stop, skip, got 'ignore'"
    with pytest.raises(CompactHydraException, match=message), reported_job(config(on_error="ignore")):
        pass
