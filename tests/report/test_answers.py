"""Labels answered without a look: estimates against brute force, and the guarantees of a run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlic.evaluation.guarantees import fit_guarantees
from mlic.report.answers import LEVEL, answer_table, estimate_answers
from mlic.report.reading import read_run

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_an_estimate_answers_as_many_labels_as_the_level_allows(
    tmp_path: Path, write_run: WriteRun, made: Made
):
    scores, targets = made(0, 80, 4)
    scores = scores.round(2)  # ties
    run = read_run(write_run(tmp_path / "run", scores, targets, "wxyz"))
    assert run.test is not None
    limits = np.unique(np.append(scores, [0, 1])).astype(np.float64)
    hits = targets == 1
    for level, rule in zip((0.6, 0.9), estimate_answers(run.test, (0.6, 0.9)), strict=True):
        given = [scores.astype(np.float64) > limit for limit in limits]
        answers = [yes.sum() for yes in given if yes.any() and hits[yes].mean() >= level]
        assert (scores.astype(np.float64) > rule.yes).sum() == max(answers)
        absent = [(~yes).sum() for yes in given if yes[hits].mean() >= level]
        assert (scores.astype(np.float64) <= rule.no).sum() == min(max(absent), (scores <= rule.yes).sum())
    row = answer_table([run]).frame.iloc[0]
    assert row["precision"] >= LEVEL and row["missed"] <= 1 - LEVEL and "estimate" in row["origin"]


def test_guarantees_of_a_run_are_shown_unless_they_belong_to_another_checkpoint(
    tmp_path: Path, write_run: WriteRun, made: Made
):
    folder = write_run(tmp_path / "run", *made(0, 300, 2, 5.0), "xy")
    run = read_run(folder)
    assert run.test is not None
    found = fit_guarantees(run.test, precision=0.8, recall=0.8)
    found["yes"]["thresholds"]["y"] = None  # always asked
    content = {"kind": "promise", "source": "calibration", "confidence": 0.9, "checkpoint": "0", **found}
    (folder / "guarantees.json").write_text(json.dumps(content))
    run = read_run(folder)
    assert (
        run.answers is not None
        and run.answers.yes[1] == np.inf
        and not any("guarantees" in n for n in run.notes)
    )
    row = answer_table([run]).frame.iloc[0]
    assert row["origin"].startswith("promise from calibration") and 0 < row["photographs"] < row["labels"] < 1
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"other")
    run = read_run(folder)
    assert run.answers is None and "another checkpoint" in run.notes[-1]
