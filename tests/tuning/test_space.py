"""The search space: what can be said, and what is drawn from it."""

import math
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from mlic.errors import InputError
from mlic.tuning.halving import rungs, stop_hopeless
from mlic.tuning.space import draw_settings, parse_space
from mlic.tuning.trials import Trial

SPACE = {
    "head": {
        "hidden": {"choice": [[256], [512, 64], []]}, "dropout": {"uniform": [0.2, 0.8]},
        "depth": {"integers": [1, 3]},
    },
    "optimizer": {"lr": {"log_uniform": [1e-4, 1e-2]}, "momentum": 0.9},
    "loss": {"choice": {"weighted_bce": {}, "focal": {"gamma": {"uniform": [1, 3]}}}},
}  # fmt: skip


def test_all_kinds_are_drawn_within_their_bounds():
    drawn = draw_settings(parse_space(SPACE), 200, seed=0)
    assert {tuple(own["head.hidden"]) for own in drawn} == {(256,), (512, 64), ()}
    assert all(0.2 <= own["head.dropout"] < 0.8 for own in drawn)
    assert {own["head.depth"] for own in drawn} == {1, 2, 3}
    assert all(1e-4 <= own["optimizer.lr"] <= 1e-2 for own in drawn)
    assert {own["optimizer.momentum"] for own in drawn} == {0.9}
    # even over the logarithm: half of the draws lie below the geometric mean
    assert np.mean([own["optimizer.lr"] < 1e-3 for own in drawn]) == pytest.approx(0.5, abs=0.05)
    # settings of a choice come with that choice alone
    assert {own["loss"] for own in drawn} == {"weighted_bce", "focal"}
    assert all(("loss.gamma" in own) == (own["loss"] == "focal") for own in drawn)
    assert all(1 <= own["loss.gamma"] < 3 for own in drawn if "loss.gamma" in own)


def test_more_trials_begin_with_the_same_and_seeds_differ():
    dimensions = parse_space(SPACE)
    assert draw_settings(dimensions, 20, seed=1)[:5] == draw_settings(dimensions, 5, seed=1)
    assert draw_settings(dimensions, 5, seed=1) != draw_settings(dimensions, 5, seed=2)
    assert draw_settings((), 2, seed=0) == [{}, {}]


@pytest.mark.parametrize(
    ("group", "space", "message"),
    [
        (
            "head",
            {"dropout": {"uniform": [0.8, 0.2]}},
            r"tune.space.head.dropout.uniform: expected \[low, high\]",
        ),
        (
            "optimizer",
            {"lr": {"log_uniform": [0, 1]}},
            r"tune.space.optimizer.lr.log_uniform: bounds must be above 0",
        ),
        ("loss", {"choice": []}, r"tune.space.loss.choice"),
        (
            "loss",
            {"choice": ["focal"], "uniform": [0, 1]},
            r"tune.space.loss: choice, uniform cannot be combined",
        ),
    ],
)
def test_what_is_not_a_range_is_named(group: str, space: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        parse_space({group: space})


def test_rungs():
    assert rungs(40, first=4, eta=3) == [4, 12, 36]
    assert rungs(10, first=2, eta=2.5) == [2, 5]
    assert rungs(4, first=4, eta=3) == []
    for first, eta in ((0, 2), (1, 1)):
        with pytest.raises(InputError, match=r"tune\.halving"):
            rungs(10, first=first, eta=eta)


def made_trial(number: int, scores: list[float]) -> Trial:
    return Trial(number, {}, OmegaConf.create({}), scores=[[score] for score in scores])


def test_the_worst_stop_by_what_counts():
    curves = [[0.5, 0.1], [0.2, 0.3], [0.1, 0.4], [math.nan, math.nan]]
    trials = [made_trial(number, curve) for number, curve in enumerate(curves)]
    trials[3].state = "diverged"
    kept = stop_hopeless(trials, 2, last=False)
    assert [trial.number for trial in kept] == [0, 2]
    assert [trial.state for trial in trials] == ["running", "stopped", "running", "stopped"]
    trials = [made_trial(number, curve) for number, curve in enumerate(curves)]
    assert [trial.number for trial in stop_hopeless(trials[:3], 2, last=True)] == [1, 2]
    assert trials[2].best_epoch(last=True) == 1 and trials[0].best_epoch(last=False) == 0
