"""Processes that decode images end quietly with the process that they work for."""

import multiprocessing
import os
import sys
from multiprocessing.connection import Client, Connection
from multiprocessing.resource_sharer import DupFd
from typing import Any

import pytest
import torch

from mlic.data import workers
from mlic.data.workers import DECODER_NICENESS, SharedCollate, start_background_worker, start_worker


@pytest.mark.parametrize("quiet", [True, False])
def test_a_receiver_that_goes_away(quiet: bool, capfd: pytest.CaptureFixture[str]):
    """As a main process does that ends while a worker hands an image over."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    worker = context.Process(target=_hand_over, args=(there, quiet))
    worker.start()
    # the thread goes on after the first, so the second shows that the first was dealt with
    for _ in range(2):
        Client(here.recv(), authkey=multiprocessing.current_process().authkey).close()
    here.recv()
    here.send("end")
    worker.join()
    assert worker.exitcode == 0
    assert ("Traceback" in capfd.readouterr().err) is not quiet


def _hand_over(connection: Connection, quiet: bool) -> None:
    if quiet:
        start_worker(0)
    shared: Any = DupFd(os.open(os.devnull, os.O_RDONLY))
    connection.send(shared._id[0])
    connection.send(shared._id[0])
    shared_again: Any = DupFd(os.open(os.devnull, os.O_RDONLY))
    os.close(shared_again.detach())  # served by the same thread, after the two above
    connection.send("done")
    connection.recv()


def test_other_errors_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    start_worker(0)
    for error in (ConnectionResetError("gone"), EOFError(), ValueError("a defect")):
        sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == "ValueError: a defect\n"


def test_priority(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    steps: list[int] = []
    monkeypatch.setattr(os, "nice", steps.append)
    start_worker(0)
    assert steps == []
    start_background_worker(0)
    assert steps == [DECODER_NICENESS]


def test_a_worker_shares_the_tensors_of_a_batch_itself(monkeypatch: pytest.MonkeyPatch):
    collate = SharedCollate(lambda items: [torch.zeros(len(items)), "names"])
    assert not collate([1, 2])[0].is_shared()
    monkeypatch.setattr(workers, "get_worker_info", lambda: "a worker")
    images, names = collate([1, 2])
    assert images.is_shared() and images.tolist() == [0, 0] and names == "names"
