"""The search space: what can be said, and what is drawn from it."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

from mlic.errors import InputError
from mlic.tuning.space import Space

SPACE = {
    "head": {
        "hidden": {"choice": [[256], [512, 64], []]}, "dropout": {"uniform": [0.2, 0.8]},
        "depth": {"integers": [1, 3]},
    },
    "optimizer": {"lr": {"log_uniform": [1e-4, 1e-2]}, "momentum": 0.9},
    "loss": {
        "choice": {
            "weighted_bce": {"smoothing": {"uniform": [0, 0.2]}},
            "focal": {"gamma": {"uniform": [1, 3]}, "smoothing": {"uniform": [0, 0.1]}},
        }
    },
}  # fmt: skip


def drawn(number: int) -> tuple[list[dict[str, Any]], optuna.Study]:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    space = Space(SPACE)
    return [space.suggest(study.ask()) for _ in range(number)], study


def test_all_kinds_are_drawn_within_their_bounds():
    settings, study = drawn(300)
    assert {tuple(own["head.hidden"]) for own in settings} == {(256,), (512, 64), ()}
    assert all(0.2 <= own["head.dropout"] <= 0.8 for own in settings)
    assert {own["head.depth"] for own in settings} == {1, 2, 3}
    assert all(1e-4 <= own["optimizer.lr"] <= 1e-2 for own in settings)
    assert {own["optimizer.momentum"] for own in settings} == {0.9}
    # even over the logarithm: half of the draws lie below the geometric mean
    assert np.mean([own["optimizer.lr"] < 1e-3 for own in settings]) == pytest.approx(0.5, abs=0.1)
    # settings of a choice come with that choice alone
    assert {own["loss"] for own in settings} == {"weighted_bce", "focal"}
    assert all(("loss.gamma" in own) == (own["loss"] == "focal") for own in settings)
    assert all(own["loss.smoothing"] <= (0.1 if own["loss"] == "focal" else 0.2) for own in settings)
    # a study knows what varies; ranges of two losses are two parameters
    names = {name for trial in study.trials for name in trial.params}
    varying = {"head.hidden", "head.dropout", "head.depth", "optimizer.lr", "loss", "loss.gamma"}
    assert names == varying | {"loss.smoothing (focal)", "loss.smoothing (weighted_bce)"}


def test_a_given_config_is_known_as_far_as_it_is_in_the_space():
    given = {
        "head.hidden": [512, 64], "head.dropout": 0.9, "head.depth": 2, "optimizer.lr": 1e-4, "loss": "focal",
        "loss.gamma": 0, "loss.smoothing": 0.1,
    }  # fmt: skip
    space, study = Space(SPACE), optuna.create_study()
    parameters = space.parameters(given.get)
    assert parameters == {
        "head.hidden": "[512, 64]", "head.depth": 2, "optimizer.lr": 1e-4, "loss": "focal",
        "loss.smoothing (focal)": 0.1,
    }  # fmt: skip
    study.enqueue_trial(parameters)
    settings = space.suggest(study.ask(), given.get)
    assert settings == {
        key: value for key, value in given.items() if key not in ("head.dropout", "loss.gamma")
    }


@pytest.mark.parametrize(
    ("group", "space", "message"),
    [
        ("head", {"dropout": {"uniform": [0.8, 0.2]}}, r"head.dropout.uniform: expected \[low, high\]"),
        ("optimizer", {"lr": {"log_uniform": [0, 1]}}, r"optimizer.lr.log_uniform: expected \[low, high\]"),
        ("optimizer", {"lr": {"log_uniform": [1]}}, r"optimizer.lr.log_uniform: expected \[low, high\]"),
        ("loss", {"choice": []}, r"loss: expected one of uniform"),
        ("loss", {"choice": ["focal"], "uniform": [0, 1]}, r"loss: expected one of uniform"),
    ],
)
def test_what_is_not_a_range_is_named(group: str, space: dict[str, Any], message: str):
    with pytest.raises(InputError, match=f"tune.space.{message}"):
        Space({group: space}).suggest(optuna.create_study().ask())


def test_null_is_not_searched():
    assert (
        Space({**SPACE, "loss": None, "optimizer": None, "head": {"depth": None}}).parameters(SPACE.get) == {}
    )
