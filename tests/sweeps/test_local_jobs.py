"""Processes of hydra/launcher=local."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException

from mlic.sweeps.local_jobs import LocalJob, make_slots, run_jobs


def done(value: object = None) -> JobReturn:
    result = JobReturn(status=JobStatus.COMPLETED)
    result.return_value = value
    return result


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., LocalJob]:
    def make(name: str, run: Callable[[], JobReturn]) -> LocalJob:
        return LocalJob(name, run, tmp_path / f"{name}.log")

    return make


class UnreadableError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_jobs_run_in_processes_of_their_own_each_with_its_slot(job: Callable[..., LocalJob], tmp_path: Path):
    def work() -> JobReturn:
        os.write(1, b"working\n")
        time.sleep(0.05)
        return done((os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()))

    slots = make_slots(2, [0, 1])
    results = run_jobs([job(f"job{n}", work) for n in range(4)], slots, stop_at_failure=False)
    gpus, processes = zip(*(result.return_value for result in results), strict=True)
    assert gpus[:2] == ("0", "1") and set(gpus) == {"0", "1"}
    assert len({*processes, os.getpid()}) == 5
    assert (tmp_path / "job3.log").read_text() == "working\n"


def test_as_many_jobs_at_a_time_as_slots_and_no_more(job: Callable[..., LocalJob], tmp_path: Path):
    """Each job waits for a second one to have begun: with fewer at a time the first would wait in vain."""
    begun = tmp_path / "begun"
    begun.mkdir()

    def work() -> JobReturn:
        start = time.monotonic()
        (begun / str(os.getpid())).touch()
        while len(list(begun.iterdir())) < 2 and time.monotonic() - start < 30:
            time.sleep(0.01)
        met = len(list(begun.iterdir())) >= 2
        return done((start, time.monotonic(), met))

    results = run_jobs([job(f"job{n}", work) for n in range(5)], make_slots(2, []), stop_at_failure=False)
    times = [result.return_value for result in results]
    assert all(met for _, _, met in times)
    assert max(sum(start <= moment < end for start, end, _ in times) for moment, _, _ in times) <= 2


def test_what_goes_wrong_in_a_job_stays_there(job: Callable[..., LocalJob]):
    def fail() -> JobReturn:
        raise UnreadableError("not", "readable")

    def die() -> JobReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        return done()

    jobs = [job("fails", fail), job("dies", die), job("works", lambda: done(3))]
    failed, dead, good = run_jobs(jobs, make_slots(1, []), stop_at_failure=False)
    assert good.return_value == 3
    with pytest.raises(RuntimeError, match="UnreadableError: not readable"):
        _ = failed.return_value
    with pytest.raises(RuntimeError, match=r"dies ended without a result, exit status -9: .*dies\.log"):
        _ = dead.return_value


def test_the_first_failure_ends_the_others_on_request(job: Callable[..., LocalJob], tmp_path: Path):
    def fail() -> JobReturn:
        raise ValueError

    def wait() -> JobReturn:
        signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "ended").touch() or os._exit(0))
        (tmp_path / "waits").touch()
        time.sleep(60)
        return done()

    def fail_later() -> JobReturn:
        while not (tmp_path / "waits").exists():
            time.sleep(0.01)
        return fail()

    start = time.monotonic()
    jobs = [job("waits", wait), job("fails", fail_later), job("never", lambda: (tmp_path / "never").touch())]
    with pytest.raises(SystemExit, match="1"):
        run_jobs(jobs, make_slots(2, []), stop_at_failure=True)
    assert (tmp_path / "ended").exists() and not (tmp_path / "never").exists()
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_end_with_the_process_that_started_them(
    number: signal.Signals, job: Callable[..., LocalJob], tmp_path: Path
):
    def work() -> JobReturn:
        (tmp_path / f"{os.getpid()}.job").touch()
        time.sleep(60)
        return done()

    parent = os.fork()
    if parent == 0:
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(143)))
        try:
            run_jobs([job("a", work), job("b", work)], make_slots(2, []), stop_at_failure=False)
        finally:
            os._exit(0)
    until = time.monotonic() + 30
    while len(list(tmp_path.glob("*.job"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(parent, number)
    os.waitpid(parent, 0)
    for file in tmp_path.glob("*.job"):
        while _is_alive(int(file.stem)):
            assert time.monotonic() < until
            time.sleep(0.01)


def _is_alive(process: int) -> bool:
    """Whether it runs: where nobody waits for orphans, one that has ended stays as a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_slots_take_gpus_and_threads_from_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr("mlic.sweeps.local_jobs._cores", lambda: 8)
    assert make_slots(None, None) == [
        {"CUDA_VISIBLE_DEVICES": "2", "OMP_NUM_THREADS": "4"},
        {"CUDA_VISIBLE_DEVICES": "5", "OMP_NUM_THREADS": "4"},
    ]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in make_slots(3, None)] == ["2", "5", "2"]
    assert make_slots(1, []) == [{"CUDA_VISIBLE_DEVICES": ""}]
    with pytest.raises(CompactHydraException, match=r"hydra\.launcher\.parallel: 0 is below 1"):
        make_slots(0, None)
