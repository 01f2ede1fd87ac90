"""Results of a search: a table of all trials, Optuna's figures, and an experiment config of the best trial."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib import pyplot
from omegaconf import DictConfig, OmegaConf
from optuna import Study
from optuna.trial import TrialState
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances

from mlic.escaping import escape_table
from mlic.figures import PNG_DPI
from mlic.runs.folder import TRIALS_FILE, replacing, write_atomically
from mlic.tuning.study import ERROR, finished
from mlic.tuning.trials import GIVEN

GROUPS = ("data", "model", "head", "loss", "optimizer", "scheduler", "features", "callbacks")
SECTIONS = (*GROUPS[:-1], "seed")
FIGURES = {"history": plot_optimization_history, "importances": plot_param_importances}

STATES = {"COMPLETE": "finished", "PRUNED": "pruned"}


def trials_table(study: Study, metric: str) -> pd.DataFrame:
    """Tabulate the finished trials of a study, the best first.

    Returns:
        Columns `trial` (0 is the given config), `state` (finished, pruned, failed), the metric, `seconds`, parameters,
        and attributes such as `epochs` trained, `epoch` of the metric (from 1) and `folds`; empty if not applicable.
    """
    if not finished(study):
        return pd.DataFrame(columns=["trial", "state"])
    table = study.trials_dataframe(("number", "state", "value", "duration", "params", "user_attrs"))
    table = table[table["state"].isin(STATES)].copy()
    table.columns = table.columns.str.replace(r"^(params|user_attrs)_", "", regex=True)
    table["duration"] = table["duration"].dt.total_seconds()
    table = table.rename(columns={"number": "trial", "value": metric, "duration": "seconds"})
    table["state"] = table["state"].map(STATES)
    if ERROR in table:
        table.loc[table[ERROR].notna(), "state"] = "failed"
    table = table.drop(columns=GIVEN)
    table["is_complete"] = table["state"] == "finished"
    return table.sort_values(["is_complete", metric], ascending=False).drop(columns="is_complete")


def write_table(folder: Path, study: Study, metric: str) -> None:
    """Write trials.csv."""
    table = trials_table(study, metric)
    text = escape_table(table).to_csv(index=False, float_format="%.6g")
    write_atomically(folder / TRIALS_FILE, text)


def write_figures(folder: Path, study: Study, metric: str) -> None:
    """Write Optuna's figures/history.png and, if there is more than one complete trial, importances.png."""
    several = len(study.get_trials(states=(TrialState.COMPLETE,))) > 1
    for name, plot in FIGURES.items():
        if name == "importances" and not (several and study.best_trial.params):
            continue
        with matplotlib.rc_context(), warnings.catch_warnings():  # Optuna sets a style
            warnings.simplefilter("ignore")  # of experimental functions and few trials
            axes = plot(study, target_name=f"{metric} on val")
        figure = axes.figure
        with replacing(folder / "figures" / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=PNG_DPI, bbox_inches="tight")
        pyplot.close(figure)


def write_experiment(
    folder: Path, config: DictConfig, choices: Mapping[str, str | None], *, header: str
) -> Path:
    """Write experiment/tuned.yaml: `python -m mlic.train --config-dir <folder> experiment=tuned` repeats a run.

    Args:
        folder: folder of the search.
        config: config of the run.
        choices: choices by config group.
        header: first line, a comment.

    Returns:
        The path of the file.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    checkpoint = plain["callbacks"]["checkpoint"]
    callbacks = {"checkpoint": {key: checkpoint[key] for key in ("monitor", "mode")}}
    if "weight_average" in plain["callbacks"]:
        callbacks["weight_average"] = {"share": plain["callbacks"]["weight_average"]["share"]}
    content = {
        "defaults": [{f"override /{group}": choices[group]} for group in GROUPS if choices.get(group)],
        **{key: plain[key] for key in SECTIONS if plain.get(key) is not None},
        "callbacks": callbacks,
        "trainer": {key: plain["trainer"][key] for key in ("max_epochs", "precision")},
    }
    file = folder / "experiment" / "tuned.yaml"
    write_atomically(file, f"# @package _global_\n# {header}\n{OmegaConf.to_yaml(OmegaConf.create(content))}")
    return file
