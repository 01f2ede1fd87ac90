"""The processes of one run, which torchrun or Slurm's srun starts: how many there are, and what the first decides."""

import atexit
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mlic.errors import InputError

Answer = TypeVar("Answer")

INTERACTIVE_JOBS = ("bash", "interactive")  # names by which Lightning knows a shell in a Slurm job


@dataclass(frozen=True)
class Processes:
    """Processes that run the same command.

    Attributes:
        starter: `torchrun` or `srun`; empty for a process by itself.
        count: of all nodes.
        nodes: number of machines.
        rank: number of this process, from 0.
    """

    starter: str = ""
    count: int = 1
    nodes: int = 1
    rank: int = 0

    @property
    def per_node(self) -> int:
        """Processes on each node."""
        return self.count // self.nodes


def find_processes(environment: Mapping[str, str] = os.environ) -> Processes:
    """Read what the starter has left in the environment.

    Raises:
        InputError: a Slurm job of several tasks whose script runs the command once, or nodes with unequal numbers of
            tasks: both would wait for processes that never come.
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
                f"srun started {count} tasks on {nodes} nodes, not the same number on each: use --ntasks-per-node."
            )
        return Processes("srun", count, nodes, int(environment["SLURM_PROCID"]))
    if int(environment["SLURM_NTASKS"]) > 1:
        raise InputError(
            f"this Slurm job has {environment['SLURM_NTASKS']} tasks, but the command runs once: write "
            "'srun --kill-on-bad-exit' before it. For one process on several cores ask Slurm for --ntasks=1 "
            "--cpus-per-task=<cores>."
        )
    return Processes()


def _in_slurm(environment: Mapping[str, str]) -> bool:
    return "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in INTERACTIVE_JOBS


def rank_of_process(environment: Mapping[str, str] = os.environ) -> int:
    """Number of this process, also where Lightning itself has started it."""
    return find_processes(environment).rank or int(environment.get("LOCAL_RANK", 0))


def broadcast_decision(decide: Callable[[], Answer]) -> Answer:
    """Return what the first process decides, in all of them: the others might look when the first has gone on.

    Raises:
        InputError: that of the first process, in all of them.
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
    """Make the process group that Lightning's strategies then use too, for tensors on the CPU and on GPUs."""
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
    """Return Lightning's view of the starter; None without one, where Lightning looks by itself.

    Without Lightning's own requeueing: it would save in the middle of an epoch, and a run that goes on from there ends
    otherwise than an unbroken one.
    """
    processes = find_processes()
    if processes.starter == "torchrun":
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        return TorchElasticEnvironment()
    if not _in_slurm(os.environ):
        return None
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    # srun tells it only where it was asked for; Lightning insists on it, and compares it with the trainer's devices
    os.environ["SLURM_NTASKS_PER_NODE"] = str(processes.per_node)
    return SLURMEnvironment(auto_requeue=False)
