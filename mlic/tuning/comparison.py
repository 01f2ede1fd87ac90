"""One sentence that compares the winner of a search with the given config."""

from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial

from mlic.evaluation.bootstrap import Bootstrap, paired_differences, why_not_paired
from mlic.evaluation.predictions import Predictions
from mlic.runs.folder import RunFolder
from mlic.training.closed_form import LEFT_OUT
from mlic.tuning.heads import FOLDS


def compare_with_given(
    winner_run: Path, given_run: Path, metric: str, winner: FrozenTrial, given: FrozenTrial, trials: int
) -> str:
    """Return the differences between two runs on the part of the selection and on test, with paired 95 % intervals.

    Args:
        winner_run: run folder of the best trial.
        given_run: run folder of the given config.
        metric: metric by which trials were compared.
        winner: the best trial.
        given: trial of the given config.
        trials: number of trials.
    """
    names = {
        f"winner (trial {winner.number})": RunFolder(winner_run),
        f"given config (trial {given.number})": RunFolder(given_run),
    }
    if FOLDS in winner.user_attrs:
        by_fold = np.subtract(winner.user_attrs[FOLDS], given.user_attrs[FOLDS])
        selected = "the folds"
        text = (
            f"{winner.values[0] - given.values[0]:+.4f} on the folds ({winner.values[0]:.4f} and "
            f"{given.values[0]:.4f}; single folds {by_fold.min():+.4f} to {by_fold.max():+.4f})"
        )
    else:
        selected = "val" if RunFolder(winner_run).predictions("val").is_file() else LEFT_OUT
        text = _difference(names, metric, selected)
    sentence = (
        f"{' minus '.join(names)}, {metric}: {text}, which is optimistic, because {selected} chose the best of "
        f"{trials} trials"
    )
    if RunFolder(winner_run).predictions("test").is_file():
        return f"{sentence}; {_difference(names, metric, 'test')}."
    return f"{sentence}; there are no test images, which alone could show the gain."


def _difference(folders: dict[str, RunFolder], metric: str, part: str) -> str:
    one, other = (Predictions.read_parquet(folder.predictions(part)) for folder in folders.values())
    if reason := why_not_paired(one, other):
        return f"no comparison on {part} ({reason})"
    runs = {name: Bootstrap(run, names=[metric]) for name, run in zip(folders, (one, other), strict=True)}
    difference = paired_differences(runs, metric)[0]
    values = " and ".join(f"{run.estimates[metric]:.4f}" for run in runs.values())
    chance = ", so it may be chance" if difference.low <= 0 <= difference.high else ""
    return (
        f"{difference.estimate:+.4f} on {part} ({values}; 95 % interval {difference.low:+.4f} to "
        f"{difference.high:+.4f}{chance})"
    )
