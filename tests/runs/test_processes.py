import pytest

from mlic.errors import InputError
from mlic.runs.processes import Processes, broadcast_decision, find_processes

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train.sh"}
STEP = BATCH | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "2"}


def test_processes_are_those_of_the_starter():
    assert find_processes({}) == Processes("", 1, 1, 0)
    assert find_processes(TORCHRUN) == Processes("torchrun", 4, 2, 3)
    assert find_processes(STEP) == Processes("srun", 4, 2, 2)
    assert find_processes(STEP).per_node == 2
    assert find_processes(STEP | TORCHRUN).starter == "torchrun"
    assert find_processes(BATCH | {"SLURM_NTASKS": "1"}) == Processes()
    assert find_processes(BATCH | {"SLURM_JOB_NAME": "interactive"}) == Processes()
    with pytest.raises(
        InputError, match=r"4 tasks, but the command runs only once. Prefix it with 'srun --kill-on-bad"
    ):
        find_processes(BATCH)
    with pytest.raises(InputError, match="srun started 4 tasks on 2 nodes, but not the same number on each"):
        find_processes(STEP | {"SLURM_STEP_TASKS_PER_NODE": "3,1"})
    assert broadcast_decision(lambda: 3) == 3
