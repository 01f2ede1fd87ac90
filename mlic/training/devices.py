"""Whether the trainer's devices and nodes are those that torchrun or Slurm started processes for."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mlic.errors import InputError
from mlic.runs.processes import Processes, find_processes

AUTOMATIC = ("auto", -1, "-1", None)


def with_processes(config: DictConfig) -> DictConfig:
    """The config, with a device for each process that was started, where `devices` and `num_nodes` are `auto`.

    Args:
        config: of a run; `trainer.devices`, `trainer.num_nodes`.

    Raises:
        InputError: other numbers than were started, or a sweep of several processes.
    """
    processes = find_processes()
    nodes = config.trainer.get("num_nodes", 1)
    if not processes.starter:
        if nodes not in ("auto", 1):
            raise InputError(
                f"trainer.num_nodes={nodes}: the processes of several nodes are started by "
                f"'torchrun --nnodes={nodes} --nproc-per-node=<devices> -m mlic.train ...' on each, or by Slurm's srun."
            )
        return _with_trainer(config, num_nodes=1)
    if processes.count > 1 and HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError(
            f"{processes.starter} started {processes.count} processes, each of which would run the whole sweep. Start "
            "a sweep by itself; its jobs have one process each (hydra/launcher=local, hydra/launcher=slurm)."
        )
    _check(config, processes)
    return _with_trainer(config, devices=processes.per_node, num_nodes=processes.nodes)


def check_shared_output(config: DictConfig) -> None:
    """Several processes write one run folder: it has to be named, as each would name another.

    Raises:
        InputError: it is not.
    """
    processes = find_processes()
    written: Any = OmegaConf.to_container(config, resolve=False)
    if (
        processes.count > 1
        and str(written["output"]).startswith("${hydra:")
        and config.resume in (None, "auto")
    ):
        raise InputError(
            f"output: {processes.count} processes of one run need one run folder; name it by output=<folder>."
        )


def _check(config: DictConfig, processes: Processes) -> None:
    asked = {"devices": config.trainer.devices, "num_nodes": config.trainer.get("num_nodes", 1)}
    started = {"devices": processes.per_node, "num_nodes": processes.nodes}
    wrong = [key for key in asked if asked[key] not in AUTOMATIC and _number(asked[key]) != started[key]]
    if wrong:
        raise InputError(
            f"{' and '.join(f'trainer.{key}={asked[key]}' for key in wrong)}: {processes.starter} started "
            f"{processes.count} processes, {processes.per_node} on each of {processes.nodes} nodes. trainer=ddp takes "
            "as many as are started; or start as many as trainer.devices and trainer.num_nodes say."
        )


def number_of_devices(devices: Any) -> int | None:
    """What `trainer.devices` asks for, by number or by name; None for as many as there are."""
    return None if devices in AUTOMATIC else _number(devices)


def _number(devices: Any) -> int:
    """Of a number, a list of devices, or either as text."""
    if OmegaConf.is_list(devices) or isinstance(devices, list):
        return len(devices)
    text = str(devices).strip("[], ")
    return len(text.split(",")) if "," in text else int(text)


def _with_trainer(config: DictConfig, **settings: int) -> DictConfig:
    known = {key: value for key, value in settings.items() if key in config.trainer}
    return OmegaConf.merge(config, {"trainer": known})  # pyright: ignore[reportReturnType]
