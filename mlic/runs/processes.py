"""The processes of one run started by torchrun or srun: their number, rank and communication."""

import atexit
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mlic.errors import InputError

Answer = TypeVar("Answer")

INTERACTIVE_JOBS = ("bash", "interactive")  # names by which Lightning recognizes a shell in a Slurm job


@dataclass(frozen=True)
class Processes:
    """Processes that run the same command.

    Attributes:
        starter: `torchrun` or `srun`; empty for a single process.
        count: number of processes on all nodes.
        nodes: number of nodes.
        rank: rank of this process.
    """

    starter: str = ""
    count: int = 1
    nodes: int = 1
    rank: int = 0

    @property
    def per_node(self) -> int:
        """Number of processes on each node."""
        return self.count // self.nodes


def find_processes(environment: Mapping[str, str] = os.environ) -> Processes:
    """Read the processes from the environment variables set by the starter.

    Raises:
        InputError: a Slurm job has several tasks but its script runs the command once, or nodes have unequal numbers
            of tasks; both would wait for processes that do not exist.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        count, per_node = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        return Processes("torchrun", count, count // per_node, int(environment["RANK"]))
    if not _in_slurm(environment):
        return Processes()
    if "SLURM_STEP_NUM_TASKS" in environment:
        count, nodes = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment["SLURM_STEP_NUM_NODES"])
        if "," in environment.get("SLURM_STEP_TASKS_PER_NODE", ""):  # such as 2(x3),1
            raise InputError(
                f"srun started {count} tasks on {nodes} nodes, but not the same number on each. Use --ntasks-per-node."
            )
        return Processes("srun", count, nodes, int(environment["SLURM_PROCID"]))
    if int(environment["SLURM_NTASKS"]) > 1:
        raise InputError(
            f"this Slurm job has {environment['SLURM_NTASKS']} tasks, but the command runs only once. Prefix "
            "it with 'srun --kill-on-bad-exit'. For one process on several cores, request --ntasks=1 "
            "--cpus-per-task=<cores>."
        )
    return Processes()


def _in_slurm(environment: Mapping[str, str]) -> bool:
    return "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in INTERACTIVE_JOBS


def rank_of_process(environment: Mapping[str, str] = os.environ) -> int:
    """Return the rank of this process, even if Lightning has started it."""
    return find_processes(environment).rank or int(environment.get("LOCAL_RANK", 0))


def broadcast_decision(decide: Callable[[], Answer]) -> Answer:
    """Return the decision of the first process in all processes.

    The others must not decide for themselves, because the first process may already have changed the folder.

    Raises:
        InputError: the error of the first process, in all processes.
    """
    processes = find_processes()
    if processes.count == 1:
        return decide()
    _connect(processes)
    import torch.distributed

    answers: list[Any] = [None, None]
    if processes.rank == 0:
        try:
            answers[0] = decide()
        except InputError as error:
            answers[1] = error
    torch.distributed.broadcast_object_list(answers, src=0)
    answer, error = answers
    if error is not None:
        raise error
    return answer


def _connect(processes: Processes) -> None:
    """Create the process group for tensors on CPU and GPUs, which Lightning's strategies use later."""
    import torch.distributed

    if torch.distributed.is_initialized():
        return
    environment = cluster_environment()
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, rank=processes.rank, world_size=processes.count)
    atexit.register(torch.distributed.destroy_process_group)


def cluster_environment() -> Any:
    """Return the cluster environment of Lightning for the starter, or None without a starter.

    Requeueing by Lightning is disabled. It would save a checkpoint within an epoch, and a run resumed from there would
    differ from an uninterrupted one.
    """
    processes = find_processes()
    if processes.starter == "torchrun":
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        return TorchElasticEnvironment()
    if not _in_slurm(os.environ):
        return None
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    # srun sets it only if requested, but Lightning requires it, and compares it with the devices of the trainer
    os.environ["SLURM_NTASKS_PER_NODE"] = str(processes.per_node)
    return SLURMEnvironment(auto_requeue=False)
