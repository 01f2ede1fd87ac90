import pytest

from mlic.errors import InputError
from mlic.runs.processes import Processes, agreed, find_processes

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


def test_a_job_of_several_tasks_that_runs_the_command_once_is_refused():
    with pytest.raises(
        InputError, match=r"4 tasks, but the command runs once: write 'srun --kill-on-bad-exit'"
    ):
        find_processes(BATCH)


@pytest.mark.parametrize("uneven", [{"SLURM_STEP_NUM_TASKS": "3"}, {"SLURM_STEP_TASKS_PER_NODE": "3,1"}])
def test_unequal_nodes_are_refused(uneven: dict[str, str]):
    with pytest.raises(InputError, match=r"srun started \d tasks on 2 nodes.*--ntasks-per-node"):
        find_processes(STEP | uneven)


def test_a_process_by_itself_agrees_with_itself():
    assert agreed(lambda: 3) == 3
