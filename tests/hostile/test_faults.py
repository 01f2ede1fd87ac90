"""Full disks, folders without rights, vanished photographs, killed workers, no memory: a clear error, nothing lost."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlic.runs import lock

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000
Start = Callable[..., tuple[int, Path]]
Job = Callable[..., str]
Arguments = Callable[..., list[str]]


@pytest.fixture
def start(run_server: Any, tmp_path: Path) -> Start:
    """A function (command, arguments, faults) -> process and its log."""

    def start(command: str, *arguments: str, **faults: Any) -> tuple[int, Path]:
        log = tmp_path / f"command{len(list(tmp_path.glob('command*')))}.log"
        log.touch()
        return run_server.start(*arguments, folder=tmp_path, log=log.name, command=command, **faults), log

    return start


@pytest.fixture
def job(run_server: Any, start: Start) -> Job:
    """A function (command, arguments, exit status, faults) -> what the command printed, which is no traceback."""

    def run(command: str, *arguments: str, status: int = 0, traceback: bool = False, **faults: Any) -> str:
        process, log = start(command, *arguments, **faults)
        assert run_server.wait(process) == status, log.read_text()
        text = log.read_text()
        assert traceback or "Traceback" not in text, text
        return text

    return run


@pytest.fixture
def arguments(tiny_arguments: tuple[str, ...], tmp_path: Path) -> Arguments:
    """A function (output, overrides) -> command line of a run; on live features if `features` is None."""

    def make(output: Path, *overrides: str, features: Path | None = tmp_path / "features") -> list[str]:
        stored = [f"features.dir={features}", "features.num_workers=0"] if features else ["features=live"]
        places = (f"output={output}", f"hydra.run.dir={tmp_path / 'hydra'}")
        return [*tiny_arguments, "trainer.max_epochs=2", *stored, *overrides, *places]

    return make


@pytest.fixture
def commands(tiny_run: Path, tiny_images: Path, arguments: Arguments) -> Callable[[Path], dict[str, Any]]:
    """A function (folder of results) -> arguments of each command."""
    run = (f"run={tiny_run}", "device=cpu", "num_workers=0")

    def make(folder: Path) -> dict[str, Any]:
        return {
            "train": arguments(folder / "run"),
            "predict": (*run, f"images={tiny_images}", f"output={folder}/out.csv"),
            "evaluate": (*run, "part=test", f"output={folder}/out"),
            "compare": (f"runs='{tiny_run}'", "resamples=10", f"output={folder}/out"),
        }

    return make


def mount(*options: str | Path) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system in memory."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={megabytes * MEGABYTE}", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def status_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


def test_a_disk_that_fills_while_features_are_stored(job: Job, arguments: Arguments, tmp_path: Path):
    with small_disk(tmp_path / "disk", 160) as disk:
        options = arguments(tmp_path / "run", features=disk / "features")
        # room for the lock and the description, not for the rows
        fill = ["dd", "if=/dev/zero", f"of={disk}/ballast", "bs=1M"]
        take_room = [fill, ["truncate", "-s", "-12K", f"{disk}/ballast"]]
        text = job("train", *options, status=1, forward=take_room)
        assert "the disk is full" in text and "Free some space" in text
        assert {path.suffix for path in disk.glob("features/*/*")}.isdisjoint({".safetensors", ".tmp"})
        assert status_of(tmp_path / "run")["state"] == "failed"
        (disk / "ballast").unlink()
        assert "features: 0 rows found, 60 computed" in job("train", *options)


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "compare"])
def test_a_disk_that_fills_while_results_are_written(
    command: str, job: Job, commands: Any, contents: Callable[[Path], dict[Path, bytes]], tmp_path: Path
):
    """What was there stays, and the same command works when there is room again."""
    with small_disk(tmp_path / "disk", 20) as disk:
        options = commands(disk)[command]
        first = commands(disk / "first")["train"] if command == "train" else options
        job(command, *first)
        before = contents(disk)
        with (disk / "ballast").open("ab") as file:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            os.posix_fallocate(file.fileno(), 0, max(1, free - (100_000 if command == "train" else 0)))
        # logging and TensorBoard's thread may print their own tracebacks before
        text = job(command, *options, status=1, traceback=command == "train")
        assert "the disk is full" in text and not list(disk.rglob("*.tmp"))
        (disk / "ballast").unlink()
        after = contents(disk)
        assert before and {path: after[path] for path in before} == before, "the former result, whole"
        job(command, *options)


def test_folders_that_may_only_be_read(job: Job, arguments: Arguments, commands: Any, tmp_path: Path):
    with small_disk(tmp_path / "disk", 160) as disk:
        job("train", *arguments(tmp_path / "run", features=disk / "features"))
        mount("-o", "remount,ro", disk)
        text = job("train", *arguments(tmp_path / "again", features=disk / "features"))
        assert "features: 60 rows found, 0 computed" in text
        in_use = commands(disk) | {"extract": arguments(tmp_path / "x", features=disk / "other")}
        for command, options in in_use.items():
            text = job(command, *options, status=1)
            assert f"'{disk}" in text and "Read-only file system" in text


def test_photographs_that_vanish_in_mid_run(
    job: Job, arguments: Arguments, tiny_images: Path, tmp_path: Path
):
    images, gone = tmp_path / "photographs", tmp_path / "gone"
    shutil.copytree(tiny_images, images)
    options = arguments(tmp_path / "run", f"data.images={images}", "features.batch_size=8")
    text = job("train", *options, status=1, forward=[["mv", str(images), str(gone)]])
    assert "images cannot be used" in text and ".jpg: no such file" in text and "more; mlic.verify" in text
    gone.rename(images)
    job("train", *options)


def test_a_worker_that_is_killed(job: Job, arguments: Arguments, tmp_path: Path):
    options = arguments(tmp_path / "run", "features.num_workers=2", "features.batch_size=8")
    # a thread of Python's multiprocessing may print the end of its connection to the worker
    text = job("train", *options, status=1, kill_worker=True, traceback=True)
    assert "out of memory" in text and "num_workers" in text
    job("train", *options)


def test_shared_memory_too_small_for_a_batch(job: Job, arguments: Arguments, commands: Any, tmp_path: Path):
    """A container has 64 MB: a few batches of many workers."""
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("cannot mount a /dev/shm of its own")
    for command, options in {
        "predict": [*commands(tmp_path)["predict"], "num_workers=2"],
        "extract": arguments(tmp_path / "extract", "features.num_workers=2", "features.batch_size=30"),
        "train": arguments(tmp_path / "live", "data.num_workers=2", features=None),
    }.items():
        text = job(command, *options, status=1, shared_memory="64k")
        assert "shared memory (/dev/shm) is full" in text and "num_workers" in text


@pytest.mark.parametrize(("name", "status", "kept"), [("TERM", 143, 16), ("KILL", -9, 0)])
def test_an_extraction_ended_by_a_signal_keeps_its_shards(
    name: str, status: int, kept: int, job: Job, arguments: Arguments, tmp_path: Path
):
    options = arguments(tmp_path / "run", "features.batch_size=8")
    end = [["sh", "-c", f"kill -{name} $PPID"]]
    text = job("extract", *options, status=status, forward=end, forward_pass=3)
    assert ("interrupted; the features computed so far are kept" in text) == (name == "TERM")
    assert f"features: {kept} rows found, {60 - kept} to compute" in job("extract", *options)
    assert not list(tmp_path.glob("features/*/*.tmp"))


def test_no_memory(job: Job, arguments: Arguments, tmp_path: Path):
    Image.fromarray(np.zeros((9000, 9000), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file_name,labels\na.png,cat\n")
    large = (f"data.annotations={tmp_path}/labels.csv", f"data.images={tmp_path}", "data.split.test=0")
    options = arguments(tmp_path / "run", *large, "data.split.val=0")
    # what was taken until the image did not fit is kept, and may be what the network lacks then
    assert "out of memory" in job("train", *options, status=1, memory_mb=220)
    options = arguments(tmp_path / "run", "features.batch_size=20000")
    assert "is full. Lower features.batch_size" in job("train", *options, status=1, memory_mb=300)


def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(
    job: Job, start: Start, run_server: Any, arguments: Arguments, tmp_path: Path
):
    run = tmp_path / "run"
    first, _ = start("train", *arguments(run), forward=[["sleep", str(lock.PATIENCE_SECONDS + 4)]])
    while not (run / "status.json").is_file():
        pass
    text = job("train", *arguments(run, "seed=7"), status=1)
    assert f"output: '{run}' is in use by another process. Wait until it has ended, or choose another" in text
    assert run_server.wait(first) == 0
    assert status_of(run)["state"] == "finished" and "seed=7" not in status_of(run)["overrides"]
