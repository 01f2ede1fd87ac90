"""Results of a search: trials.csv, Optuna's figures, an experiment config, and the winner against the given config."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot
from omegaconf import DictConfig, OmegaConf
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances

from mlic.escaping import escape_table
from mlic.evaluation.bootstrap import Bootstrap, paired_differences, why_not_paired
from mlic.evaluation.predictions import Predictions
from mlic.figures import PNG_DPI
from mlic.runs.folder import TRIALS_FILE, RunFolder, replacing, write_atomically
from mlic.training.closed_form import LEFT_OUT
from mlic.tuning.evaluation import FOLDS
from mlic.tuning.study import ERROR, finished
from mlic.tuning.trials import GIVEN

GROUPS = ("data", "model", "head", "loss", "optimizer", "scheduler", "features", "callbacks")
STATES = {"COMPLETE": "finished", "PRUNED": "pruned"}


def write_table(folder: Path, study: Study, metric: str) -> None:
    """Write the finished trials of a study to trials.csv, the best first.

    Columns: `trial`, `state` (finished, pruned, failed), the metric, `seconds`, parameters, and attributes such as
    `epochs` trained, `epoch` of the metric (from 1) and `folds`; empty if not applicable.
    """
    table = pd.DataFrame(columns=["trial", "state"])
    if finished(study):
        table = study.trials_dataframe(("number", "state", "value", "duration", "params", "user_attrs"))
        table = table[table["state"].isin(STATES)].replace({"state": STATES})
        table = table.sort_values(["state", "value"], ascending=[True, False])  # finished before pruned
        table.columns = table.columns.str.replace(r"^(params|user_attrs)_", "", regex=True)
        table["duration"] = table["duration"].dt.total_seconds()
        if ERROR in table:
            table.loc[table[ERROR].notna(), "state"] = "failed"
        table = table.rename(columns={"number": "trial", "value": metric, "duration": "seconds"})
        table = table.drop(columns=GIVEN)
    write_atomically(folder / TRIALS_FILE, escape_table(table).to_csv(index=False, float_format="%.6g"))


def write_figures(folder: Path, study: Study, metric: str) -> None:
    """Write Optuna's figures/history.png and, if there is more than one complete trial, importances.png."""
    plots: dict[str, Any] = {"history": plot_optimization_history}
    if len(study.get_trials(states=(TrialState.COMPLETE,))) > 1 and study.best_trial.params:
        plots["importances"] = plot_param_importances
    for name, plot in plots.items():
        with matplotlib.rc_context(), warnings.catch_warnings():  # Optuna sets a style
            warnings.simplefilter("ignore")  # of experimental functions and few trials
            figure = plot(study, target_name=f"{metric} on val").figure
        with replacing(folder / "figures" / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=PNG_DPI, bbox_inches="tight")
        pyplot.close(figure)


def write_experiment(
    folder: Path, config: DictConfig, choices: Mapping[str, str | None], *, header: str
) -> None:
    """Write experiment/tuned.yaml: `python -m mlic.train --config-dir <folder> experiment=tuned` repeats a run.

    Args:
        folder: folder of the search.
        config: config of the run.
        choices: choices by config group.
        header: first line, a comment.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)  # callbacks write to the output of each run
    content = {
        "defaults": [{f"override /{group}": choices[group]} for group in GROUPS if choices.get(group)],
        **{key: plain[key] for key in (*GROUPS, "seed") if plain.get(key) is not None},
        "trainer": {key: plain["trainer"][key] for key in ("max_epochs", "precision")},
    }
    text = f"# @package _global_\n# {header}\n{OmegaConf.to_yaml(OmegaConf.create(content))}"
    write_atomically(folder / "experiment" / "tuned.yaml", text)


def compare(
    runs: tuple[RunFolder, RunFolder], metric: str, trials: tuple[FrozenTrial, FrozenTrial], number: int
) -> str:
    """Compare the winner with the given config on the part of the selection and on test, with paired 95 % intervals.

    Args:
        runs: the runs of the best trial and of the given config.
        metric: metric by which trials were compared.
        trials: the trials of these runs.
        number: number of trials in the search.

    Returns:
        One sentence.
    """
    winner, given = trials
    if FOLDS in winner.user_attrs:
        selected = "the folds"
        by_fold = np.subtract(winner.user_attrs[FOLDS], given.user_attrs[FOLDS])
        text = (
            f"{by_fold.mean():+.4f} on the folds (single folds {by_fold.min():+.4f} to {by_fold.max():+.4f})"
        )
    else:
        selected = "val" if runs[0].predictions("val").is_file() else LEFT_OUT
        text = _difference(runs, metric, selected)
    on_test = "there are no test images, which alone could show the gain"
    if runs[0].predictions("test").is_file():
        on_test = _difference(runs, metric, "test")
    return (
        f"winner (trial {winner.number}) minus given config (trial {given.number}), {metric}: {text}, which is "
        f"optimistic, because {selected} chose the best of {number} trials; {on_test}."
    )


def _difference(runs: Sequence[RunFolder], metric: str, part: str) -> str:
    one, other = (Predictions.read_parquet(folder.predictions(part)) for folder in runs)
    if reason := why_not_paired(one, other):
        return f"no comparison on {part} ({reason})"
    scored = {"winner": Bootstrap(one, names=[metric]), "given": Bootstrap(other, names=[metric])}
    difference = paired_differences(scored, metric)[0]
    values = " and ".join(f"{own.estimates[metric]:.4f}" for own in scored.values())
    chance = ", so it may be chance" if difference.low <= 0 <= difference.high else ""
    interval = f"95 % interval {difference.low:+.4f} to {difference.high:+.4f}{chance}"
    return f"{difference.estimate:+.4f} on {part} ({values}; {interval})"
