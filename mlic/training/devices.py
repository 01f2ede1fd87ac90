"""The trainer's devices and nodes as torchrun or Slurm started processes for them."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mlic.errors import InputError
from mlic.runs.processes import Processes, cluster_environment, find_processes

AUTOMATIC = ("auto", -1, "-1", None)


def with_processes(config: DictConfig) -> DictConfig:
    """Return the config, with a device for each process that was started, where `devices` and `num_nodes` are `auto`.

    Args:
        config: of a run; `trainer.devices`, `trainer.num_nodes`.

    Raises:
        InputError: other numbers than were started, or a sweep of several processes.
    """
    processes = find_processes()
    if processes.count > 1 and HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError(
            f"{processes.starter} started {processes.count} processes, each of which would run the whole sweep. Start "
            "a sweep by itself; its jobs have one process each (hydra/launcher=local, hydra/launcher=slurm)."
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
    try:  # Lightning itself looks later, and not at all for one device
        cluster_environment().validate_settings(num_devices=count_devices(trainer.devices), num_nodes=nodes)
    except ValueError as error:
        raise InputError(
            f"trainer.devices={trainer.devices} under {processes.starter}: {error} trainer=ddp takes as many as are "
            "started."
        ) from error


def check_shared_output(config: DictConfig) -> None:
    """Several processes write one run folder: it has to be named, as each would name another.

    Raises:
        InputError: it is not.
    """
    processes = find_processes()
    written: Any = OmegaConf.to_container(config, resolve=False)
    unnamed = str(written["output"]).startswith("${hydra:") and config.resume in (None, "auto")
    if processes.count > 1 and unnamed:
        raise InputError(
            f"output: {processes.count} processes of one run need one run folder; name it by output=<folder>."
        )


def count_devices(devices: Any) -> int | None:
    """Number of devices that a value of `trainer.devices` asks for; None for as many as there are."""
    if devices in AUTOMATIC:
        return None
    if OmegaConf.is_list(devices) or isinstance(devices, list):
        return len(devices)
    text = str(devices).strip("[], ")
    return len(text.split(",")) if "," in text else int(text)
