"""Devices and nodes of the trainer, set from the processes that torchrun or Slurm started; threads of small heads."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mlic.errors import InputError
from mlic.models import MultiLabelClassifier
from mlic.runs.processes import Processes, cluster_environment, find_processes

AUTOMATIC = ("auto", -1, "-1", None)
# A step on two threads took 1.8 times as long as on one with 10 million products, as long with 65, 0.8 times with 200.
PRODUCTS_A_THREAD = 32_000_000


def with_processes(config: DictConfig) -> DictConfig:
    """Return the config with one device per started process if `devices` and `num_nodes` are `auto`.

    Args:
        config: config of a run, with `trainer.devices` and `trainer.num_nodes`.

    Raises:
        InputError: the numbers differ from the started processes, or a sweep has several processes.
    """
    processes = find_processes()
    if processes.count > 1 and HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError(
            f"{processes.starter} started {processes.count} processes, each of which would run the whole sweep. Start "
            "the sweep as one process; each job has one process (hydra/launcher=local, hydra/launcher=slurm)."
        )
    started = {"num_nodes": processes.nodes}
    if processes.starter:
        started["devices"] = processes.per_node
    chosen = {key: value for key, value in started.items() if config.trainer.get(key, 1) in AUTOMATIC}
    config = OmegaConf.merge(config, {"trainer": chosen})  # pyright: ignore[reportAssignmentType]
    _check(config.trainer, processes)
    return config


def _check(trainer: DictConfig, processes: Processes) -> None:
    nodes = trainer.get("num_nodes", 1)
    if not processes.starter:
        if nodes != 1:
            raise InputError(
                f"trainer.num_nodes={nodes}: the processes of several nodes are started by 'torchrun --nnodes={nodes} "
                "--nproc-per-node=<devices> -m mlic.train ...' on each, or by Slurm's srun."
            )
        return
    try:  # Lightning checks later, and not for one device
        cluster_environment().validate_settings(num_devices=count_devices(trainer.devices), num_nodes=nodes)
    except ValueError as error:
        raise InputError(
            f"trainer.devices={trainer.devices} under {processes.starter}: {error} trainer=ddp takes as many as are "
            "started."
        ) from error


def check_shared_output(config: DictConfig) -> None:
    """Check that several processes have one named run folder; otherwise each would create its own.

    Raises:
        InputError: there are several processes and `output` is not set.
    """
    processes = find_processes()
    written: Any = OmegaConf.to_container(config, resolve=False)
    unnamed = str(written["output"]).startswith("${hydra:") and config.resume in (None, "auto")
    if processes.count > 1 and unnamed:
        raise InputError(
            f"output: {processes.count} processes of one run need one run folder; set output=<folder>."
        )


def count_devices(devices: Any) -> int | None:
    """Return the number of devices requested by a value of `trainer.devices`; None for all devices."""
    if devices in AUTOMATIC:
        return None
    if OmegaConf.is_list(devices) or isinstance(devices, list):
        return len(devices)
    text = str(devices).strip("[], ")
    return len(text.split(",")) if "," in text else int(text)


@contextmanager
def head_threads(
    model: MultiLabelClassifier, feature_shape: tuple[int, ...], batch_size: int, device: torch.device
) -> Iterator[None]:
    """Context manager that limits the threads of torch to as many as the steps of a head can use.

    On an accelerator, or if a backbone runs too, the number is unchanged. It is never increased.

    Args:
        model: model with the head.
        feature_shape: shape of the features of one image; a head on maps (C, H, W) computes at each position.
        batch_size: images per step.
        device: device on which the head is trained.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu" and model.backbone is None:
        parameters = sum(parameter.numel() for parameter in model.head.parameters())
        products = parameters * math.prod(feature_shape[1:]) * batch_size
        torch.set_num_threads(max(1, min(threads, products // PRODUCTS_A_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
