"""The commands of the section on clusters in docs/sweeps.md, on a Slurm of one node."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file

from mlic.evaluation.predictions import Predictions

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]  # one Slurm at a time

PAGE = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## From one machine to a cluster")[1].split("\n## ")[0]
SECONDS = 240  # for a job on a busy machine
EPOCHS = 25  # enough of them to be met by a signal
Fingerprint = Callable[[Path], dict[str, str]]


def command(start: str) -> str:
    """The command of the page that begins so, for this Python."""
    (found,) = re.findall(rf"^    ({re.escape(start)}.*)$", SECTION, flags=re.MULTILINE)
    return found.replace(".venv/bin/python", sys.executable)


def with_settings(text: str, settings: list[str]) -> str:
    """The command with settings that make it quick, before those it has."""
    return re.sub(
        r"(-m mlic\.(train|extract)( -m)?)", lambda found: f"{found[0]} {shlex.join(settings)}", text
    )


@pytest.fixture
def settings(tiny_arguments: tuple[str, ...], tmp_path: Path) -> list[str]:
    """Of runs that take seconds."""
    replaced = ("data=", "data.annotations=", "data.images=", "trainer=")
    kept = [item for item in tiny_arguments if not item.startswith(replaced)]
    quick = ["features.num_workers=0", "trainer.accelerator=cpu", f"trainer.max_epochs={EPOCHS}"]
    return [*kept, *quick, f"features.dir={tmp_path / 'store'}"]


DATA = ["data=csv", "data.annotations=labels.csv", "data.images=photos"]


def epochs_of(run: Path) -> int:
    """Epochs in the table of a run."""
    file = run / "epochs.csv"
    return max(0, len(file.read_text().splitlines()) - 1) if file.is_file() else 0


def assert_went_on(log: Path) -> None:
    """That a run which was interrupted went on, and did not begin anew; one epoch may have lacked its checkpoint."""
    logged = [int(number) for number in re.findall(rf"epoch (\d+)/{EPOCHS} ", log.read_text())]
    assert logged == sorted(logged) and set(logged) == set(range(1, EPOCHS + 1))
    assert len(logged) <= EPOCHS + 1


def let_go_on(slurm: Any, job: str) -> None:
    """Slurm leaves a job that it queued again for two minutes; in the same second its node would not take it."""

    def is_queued() -> bool:
        return "JobState=PENDING Reason=BeginTime" in _show(slurm, job)

    slurm.wait_for(is_queued, SECONDS, f"job {job} is not queued again")
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now+3seconds", folder=slurm.folder)


def _show(slurm: Any, job: str) -> str:
    return slurm.run("scontrol", "show", "job", job, folder=slurm.folder, check=False).stdout


@pytest.mark.long
def test_a_sweep_with_a_failing_and_a_preempted_job(
    slurm: Any, work: Path, settings: list[str], run_server: Any, fingerprint: Fingerprint
):
    start = command(".venv/bin/python -m mlic.train -m hydra/launcher=slurm")
    text = with_settings(start, [*DATA, *settings, "hydra.launcher.cpus_per_task=1"])
    swept = shlex.split(text.replace("seed=0,1,2", "head.dropout=-1,0.5"))
    client = slurm.start(*swept, folder=work, log="sweep.log")
    sweep = work / "outputs" / "sweeps" / "seeds"
    preempted = sweep / "head.dropout=0.5"

    def is_training() -> bool:
        assert client.poll() is None, (work / "sweep.log").read_text()
        return epochs_of(preempted) >= 3

    try:
        slurm.wait_for(is_training, SECONDS, "the job does not train")
        listed = slurm.run("squeue", "--noheader", "--array", "--format=%i", folder=work).stdout.split()
        (job,) = [name for name in listed if name.endswith("_1")]
        slurm.run("scancel", "--signal=USR2", job, folder=work)
        let_go_on(slurm, job)
        assert client.wait(timeout=SECONDS) == 1
    finally:
        client.terminate()
        client.wait()
    table = pd.read_csv(sweep / "jobs.csv", keep_default_na=False)
    assert table["state"].tolist() == ["failed", "finished"]
    message = "failed: head.dropout=-1\n  head.dropout=-1: expected a number in [0, 1)."
    assert message in (work / "sweep.log").read_text()
    assert_went_on(preempted / "train.log")
    unbroken = [*DATA, *settings, "seed=0", "head.dropout=0.5", "output=unbroken"]
    assert run_server.run(*unbroken, folder=work) == 0
    assert fingerprint(preempted) == fingerprint(work / "unbroken")


def test_two_tasks_extract_train_and_go_on_after_a_preemption(
    slurm: Any, work: Path, settings: list[str], run_server: Any, fingerprint: Fingerprint
):
    extract = with_settings(command("srun --ntasks=2"), settings)
    done = slurm.run(*shlex.split(extract), folder=work)
    assert "60 to compute;" in done.stdout and done.stdout.count("60 computed") == 1
    shards = [load_file(file)["features"] for file in (work / "store").glob("*/*.safetensors")]
    assert [len(features) for features in shards] == [30, 30]
    runs = {name: work / "outputs" / name for name in ("large", "broken")}
    jobs = {name: _submit(slurm, work, settings, name) for name in runs}
    slurm.wait_for(lambda: epochs_of(runs["broken"]) >= 3, SECONDS, "the job does not train")
    slurm.run("scancel", "--signal=TERM", jobs["broken"], folder=work)
    let_go_on(slurm, jobs["broken"])
    for name, job in jobs.items():
        slurm.wait_for(
            lambda job=job: "JobState=COMPLETED" in _show(slurm, job), SECONDS, f"{name} does not end"
        )
    assert "Restarts=1" in _show(slurm, jobs["broken"]) and "Restarts=0" in _show(slurm, jobs["large"])
    split = pd.read_csv(runs["large"] / "split.csv")
    scored = Predictions.read_parquet(runs["large"] / "predictions" / "test.parquet").file_names.tolist()
    assert scored == split.loc[split["split"] == "test", "file_name"].tolist()
    for run in runs.values():
        assert json.loads((run / "status.json").read_text())["state"] == "finished"
        assert_went_on(run / "train.log")
    assert fingerprint(runs["broken"]) == fingerprint(runs["large"])
    assert {path.name for path in (work / "outputs").iterdir()} == {"extractions", "large", "broken"}
    assert len(list((work / "outputs" / "extractions").iterdir())) == 1


def _submit(slurm: Any, work: Path, settings: list[str], name: str) -> str:
    """Id of a job of the page's script, with another folder."""
    (script,) = re.findall(r"```bash\n(.*?)```", SECTION, flags=re.DOTALL)
    script = script.replace(".venv/bin/python", sys.executable).replace("outputs/large", f"outputs/{name}")
    file = work / f"{name}.sh"
    file.write_text(with_settings(script, settings))
    sbatch = shlex.split(command("sbatch"))[:-1]
    done: subprocess.CompletedProcess[str] = slurm.run(
        *sbatch, f"--output={name}.out", f"--job-name={name}", file.name, folder=work
    )
    return done.stdout.split()[-1]
