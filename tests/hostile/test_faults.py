"""Full disks, folders without rights, vanished photographs, killed workers, no memory: a clear error, nothing lost."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlic.runs import lock

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000
Job = Callable[..., tuple[int, str]]


@pytest.fixture
def start(run_server: Any, tmp_path: Path) -> Callable[..., tuple[int, Path]]:
    """A function (command, arguments, faults) -> process and its log."""

    def start(command: str, *arguments: str, **faults: Any) -> tuple[int, Path]:
        log = tmp_path / f"command{len(list(tmp_path.glob('command*')))}.log"
        log.touch()
        return run_server.start(*arguments, folder=tmp_path, log=log.name, command=command, **faults), log

    return start


@pytest.fixture
def job(run_server: Any, start: Callable[..., tuple[int, Path]]) -> Job:
    """A function (command, arguments, faults) -> exit status and what the command printed."""

    def run(command: str, *arguments: str, **faults: Any) -> tuple[int, str]:
        process, log = start(command, *arguments, **faults)
        return run_server.wait(process), log.read_text()

    return run


@pytest.fixture
def arguments(tiny_arguments: tuple[str, ...], tmp_path: Path) -> Callable[..., list[str]]:
    """A function (output, overrides) -> command line of a run."""

    def make(output: Path, *overrides: str, features: Path = tmp_path / "features") -> list[str]:
        cached = ("trainer.max_epochs=2", "features.num_workers=0", f"features.dir={features}")
        return [
            *tiny_arguments,
            *cached,
            *overrides,
            f"output={output}",
            f"hydra.run.dir={tmp_path / 'hydra'}",
        ]

    return make


def mount(*options: str | Path) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes in memory."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, *, leave: int) -> Path:
    """A file that takes the room of a disk but for so many bytes."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast = folder / "ballast"
    with ballast.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - leave))
    return ballast


def status_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


def test_a_disk_too_small_for_the_features_is_told_before(job: Job, arguments: Any, tmp_path: Path):
    with small_disk(tmp_path / "disk", 50 * MEGABYTE) as disk:
        code, text = job("train", *arguments(tmp_path / "run", features=disk / "features"))
        assert code == 1 and "Traceback" not in text
        assert "features.dir: 60 rows of " in text and "100 MB reserved" in text
    assert status_of(tmp_path / "run")["state"] == "failed"
    assert job("train", *arguments(tmp_path / "run"))[0] == 0


def test_a_disk_that_fills_while_features_are_stored(job: Job, arguments: Any, tmp_path: Path):
    with small_disk(tmp_path / "disk", 160 * MEGABYTE) as disk:
        store = disk / "features"
        # room for the lock and the description, not for the rows
        take_room = [
            ["dd", "if=/dev/zero", f"of={disk}/ballast", "bs=4k"],
            ["truncate", "-s", "-12K", f"{disk}/ballast"],
        ]
        code, text = job("train", *arguments(tmp_path / "run", features=store), forward=take_room)
        assert code == 1 and "Traceback" not in text, text
        assert "the disk is full" in text and "Free some space" in text
        assert not list(store.glob("*/*.safetensors")) and not list(store.glob("*/*.tmp"))
        assert status_of(tmp_path / "run")["state"] == "failed"
        (disk / "ballast").unlink()
        code, text = job("train", *arguments(tmp_path / "run", features=store))
        assert code == 0, text
        assert "features: 0 rows found, 60 computed" in text


@pytest.mark.parametrize("leave_kb", [100, 200])
def test_a_disk_that_fills_while_a_run_writes(leave_kb: int, job: Job, arguments: Any, tmp_path: Path):
    """At several places: the log, checkpoints, curves, figures, predictions. The former run beside it stays."""
    with small_disk(tmp_path / "disk", 20 * MEGABYTE) as disk:
        assert job("train", *arguments(disk / "first"))[0] == 0
        before = {path: path.read_bytes() for path in (disk / "first").rglob("*") if path.is_file()}
        ballast = fill(disk, leave=leave_kb * 1024)
        code, text = job("train", *arguments(disk / "run"))
        # logging and TensorBoard's thread may print their own tracebacks before
        assert code == 1 and "the disk is full" in text, text
        assert not list(disk.rglob("*.tmp"))
        ballast.unlink()
        assert {path: path.read_bytes() for path in before} == before
        code, text = job("train", *arguments(disk / "run"))
        assert code == 0, text
        assert status_of(disk / "run")["state"] == "finished"
        first, again = (
            pd.read_parquet(disk / name / "predictions" / "test.parquet") for name in ("first", "run")
        )
        pd.testing.assert_frame_equal(first, again)


def test_a_disk_that_fills_while_predictions_and_reports_are_written(
    job: Job, arguments: Any, tiny_images: Path, tmp_path: Path
):
    run = tmp_path / "run"
    assert job("train", *arguments(run))[0] == 0
    places = {
        "predict": (
            f"run={run}",
            f"images={tiny_images}",
            "device=cpu",
            "num_workers=0",
            "output={}/out.csv",
        ),
        "evaluate": (f"run={run}", "part=test", "device=cpu", "num_workers=0", "output={}/out"),
        "compare": (f"runs={run}", "resamples=10", "output={}/out"),
    }
    for command, options in places.items():
        with small_disk(tmp_path / command, 20 * MEGABYTE) as disk:
            filled = [option.format(disk) for option in options]
            assert job(command, *filled)[0] == 0
            before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
            assert before
            ballast = fill(disk, leave=0)
            code, text = job(command, *filled)
            assert code == 1 and "Traceback" not in text, text
            assert "the disk is full" in text and "goes on" not in text  # it begins again
            for path, content in before.items():  # the former result, whole
                assert path.read_bytes() == content, path
            assert not list(disk.rglob("*.tmp"))
            ballast.unlink()
            assert job(command, *filled)[0] == 0


@pytest.mark.parametrize(("name", "code"), [("TERM", 143)])
def test_a_signal_ends_predictions_and_reports_in_order(
    name: str, code: int, job: Job, arguments: Any, tiny_images: Path, tmp_path: Path
):
    run, out = tmp_path / "run", tmp_path / "out"
    assert job("train", *arguments(run))[0] == 0
    places = {
        "predict": (f"run={run}", f"images={tiny_images}", "device=cpu", "num_workers=2", f"output={out}/p.csv"),
        "evaluate": (
            f"run={run}", "part=test", "device=cpu", f"features.dir={tmp_path}/new", "num_workers=2",
            f"output={out}/evaluated",
        ),
        "compare": (f"runs={run}", "resamples=10", f"output={out}/compared"),
    }  # fmt: skip
    signals = [["sh", "-c", f"kill -{name} $PPID"]]
    for command, options in places.items():
        code_there, text = job(command, *options, forward=signals, figure=signals)
        assert code_there == code and "Traceback" not in text, text
        assert not [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]


def test_folders_without_rights(job: Job, arguments: Any, tiny_images: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert job("train", *arguments(run))[0] == 0
    with small_disk(tmp_path / "disk", 20 * MEGABYTE) as disk:
        mount("-o", "remount,ro", disk)
        code, text = job("train", *arguments(disk / "run"))
        assert code == 1 and "Traceback" not in text, text
        assert f"no access: '{disk}/run' cannot be written (Read-only file system)" in text
        code, text = job("train", *arguments(tmp_path / "other", features=disk / "features"))
        assert code == 1 and "Traceback" not in text, text
        assert f"features.dir: '{disk}/features/" in text
        assert "cannot be written (Read-only file system)" in text
        for command, options in {
            "predict": (f"run={run}", f"images={tiny_images}", "device=cpu", f"output={disk}/a.csv"),
            "evaluate": (f"run={run}", "part=test", "device=cpu", f"output={disk}/out"),
            "compare": (f"runs={run}", "resamples=10", f"output={disk}/out"),
        }.items():
            code, text = job(command, *options)
            assert code == 1 and "Traceback" not in text, text
            assert "cannot be written (Read-only file system)" in text
    (tmp_path / "file").write_text("")
    code, text = job("train", *arguments(tmp_path / "file" / "run"))
    assert code == 1 and "Traceback" not in text and "is a file. Expected the name of a folder" in text


def test_a_store_that_may_only_be_read_is_read(job: Job, arguments: Any, tmp_path: Path):
    with small_disk(tmp_path / "disk", 160 * MEGABYTE) as disk:
        assert job("train", *arguments(tmp_path / "run", features=disk / "features"))[0] == 0
        mount("-o", "remount,ro", disk)
        code, text = job("train", *arguments(tmp_path / "again", features=disk / "features"))
        assert code == 0, text
        assert "features: 60 rows found, 0 computed" in text


def test_photographs_that_vanish_in_mid_run(job: Job, arguments: Any, tiny_images: Path, tmp_path: Path):
    images = tmp_path / "photographs"
    subprocess.run(["cp", "-r", tiny_images, images], check=True)
    vanish = [["mv", str(images), str(tmp_path / "gone")]]
    override = (f"data.images={images}", "features.batch_size=8")
    code, text = job("train", *arguments(tmp_path / "run", *override), forward=vanish)
    assert code == 1 and "Traceback" not in text, text
    assert "images cannot be used" in text and ".jpg: no such file" in text and "more; mlic.verify" in text
    (tmp_path / "gone").rename(images)
    code, text = job("train", *arguments(tmp_path / "run", *override))
    assert code == 0, text
    for live in (("features=live", "data.num_workers=1"), ("features=live",)):
        options = [
            item
            for item in arguments(tmp_path / "live", override[0], *live)
            if not item.startswith("features.")
        ]
        code, text = job("train", *options, forward=vanish)
        assert code == 1 and "Traceback" not in text, text
        assert "no such file" in text
        (tmp_path / "gone").rename(images)


def test_a_worker_that_is_killed(job: Job, arguments: Any, tmp_path: Path):
    workers = ("features.num_workers=2", "features.batch_size=8")
    code, text = job("train", *arguments(tmp_path / "run", *workers), kill_worker=True)
    assert code == 1 and "Traceback" not in text, text
    assert "a worker process was killed" in text and "features.num_workers" in text
    assert status_of(tmp_path / "run")["error"]["message"].startswith("a worker process was killed")
    assert job("train", *arguments(tmp_path / "run", *workers))[0] == 0


def test_shared_memory_too_small_for_a_batch(job: Job, arguments: Any, tiny_images: Path, tmp_path: Path):
    """A container has 64 MB: a few batches of many workers."""
    probe = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True
    )
    if probe.returncode:
        pytest.skip("cannot mount a /dev/shm of its own")
    run, workers = tmp_path / "run", ("features.num_workers=2", "features.batch_size=30")
    assert job("train", *arguments(run))[0] == 0
    live = [item for item in arguments(tmp_path / "live") if not item.startswith("features.")]
    for command, options in {
        "predict": (
            f"run={run}",
            f"images={tiny_images}",
            "device=cpu",
            "num_workers=2",
            f"output={tmp_path}/a.csv",
        ),
        "extract": arguments(tmp_path / "extract", *workers, features=tmp_path / "other"),
        "train": [*live, "features=live", "data.num_workers=2"],
    }.items():
        code, text = job(command, *options, shared_memory="64k")
        assert code == 1 and "Traceback" not in text, text
        assert "shared memory is full" in text and "num_workers" in text


@pytest.mark.parametrize(("name", "status"), [("INT", 130), ("TERM", 143)])
def test_an_extraction_ended_by_a_signal_keeps_its_rows(
    name: str, status: int, job: Job, arguments: Any, tmp_path: Path
):
    options = arguments(tmp_path / "run", "features.batch_size=8")
    end = [["sh", "-c", f"kill -{name} $PPID"]]
    code, text = job("extract", *options, forward=end, forward_pass=3)
    assert code == status and "Traceback" not in text, text
    assert "interrupted; the features computed so far are kept" in text
    code, text = job("extract", *options)
    assert code == 0 and "features: 16 rows found, 44 to compute" in text


def test_no_memory(job: Job, arguments: Any, tmp_path: Path):
    images = tmp_path / "large"
    images.mkdir()
    Image.fromarray(np.zeros((9000, 9000), dtype=np.uint8)).save(images / "a.png")
    (tmp_path / "labels.csv").write_text("file_name,labels\na.png,cat\n")
    places = (
        f"data.annotations={tmp_path}/labels.csv",
        f"data.images={images}",
        "data.split.test=0",
        "data.split.val=0",
    )
    code, text = job("train", *arguments(tmp_path / "run", *places), memory_mb=220)
    assert code == 1 and "Traceback" not in text, text
    # what was taken until the image did not fit is kept, and may be what the network lacks then
    assert "out of memory" in text
    code, text = job("train", *arguments(tmp_path / "run", "features.batch_size=20000"), memory_mb=300)
    assert code == 1 and "Traceback" not in text, text
    assert "out of memory. Lower features.batch_size" in text
    assert job("train", *arguments(tmp_path / "run", *places))[0] == 0


def test_two_runs_in_one_folder(job: Job, start: Any, run_server: Any, arguments: Any, tmp_path: Path):
    """The second is refused, and changes nothing of the first; side by side they share a store."""
    run, other = tmp_path / "run", tmp_path / "other"
    in_folder = f"hydra.run.dir={run}"
    wait = [["sleep", str(lock.PATIENCE_SECONDS + 4)]]
    first, _ = start("train", *arguments(run)[:-1], in_folder, forward=wait)
    while not (run / "status.json").is_file():
        pass
    overrides = status_of(run)["overrides"]
    beside, _ = start("train", *arguments(other)[:-1], f"hydra.run.dir={other}")
    code, text = job("train", *arguments(run, "seed=7")[:-1], in_folder)
    assert code == 1 and "Traceback" not in text, text
    assert f"output: '{run}' is in use by another process. Wait until it has ended, or choose another" in text
    assert [run_server.wait(process) for process in (first, beside)] == [0, 0]
    assert status_of(run)["overrides"] == overrides and "seed=7" not in overrides
    assert status_of(run)["state"] == status_of(other)["state"] == "finished"
    assert json.loads((run / "metrics.json").read_text()) == json.loads((other / "metrics.json").read_text())
    stores = list((tmp_path / "features").glob("*/store.json"))
    assert len(stores) == 1
    assert job("train", *arguments(run)[:-1], in_folder)[0] == 0
