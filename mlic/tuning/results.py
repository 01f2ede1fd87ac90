"""Results of a search: a table and a figure of all trials, and an experiment config of the best trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from omegaconf import DictConfig, OmegaConf

from mlic.escaping import escape_table
from mlic.figures import (
    FAINT,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    PRIMARY,
    SECONDARY,
    FigureFiles,
    new_figure,
    report_style,
)
from mlic.runs.folder import TRIALS_FILE, write_atomically
from mlic.tuning.search import Schedule
from mlic.tuning.space import Dimension
from mlic.tuning.trials import GROUPS, Trial

SECTIONS = ("data", "model", "head", "loss", "optimizer", "scheduler", "features", "seed")
EXPERIMENT_GROUPS = ("data", "model", *GROUPS, "scheduler", "features", "callbacks")
COLUMNS = 3


def trials_table(trials: Sequence[Trial], schedule: Schedule) -> pd.DataFrame:
    """Tabulate the trials, the best first.

    Returns:
        Columns `trial` (0 is the given config), `state` (finished, stopped, diverged), `epochs` trained, `epoch` of the
        score (from 1), the metric (mean over folds), `fold_<k>` if there are several, `train_loss` of that epoch, and
        one column per setting; empty if not applicable.
    """
    rows = []
    for trial in trials:
        row: dict[str, Any] = {"trial": trial.number, "state": trial.state, "epochs": len(trial.scores)}
        if trial.scores:
            best = trial.best_epoch(last=schedule.last_epoch_counts)
            folds = trial.scores[best]
            row |= {"epoch": best + 1, schedule.metric: float(np.mean(folds))}
            row |= {f"fold_{place}": value for place, value in enumerate(folds)} if len(folds) > 1 else {}
            row["train_loss"] = float(np.mean(trial.train_losses[best]))
        rows.append(row | {key: _shown(value) for key, value in trial.settings.items()})
    table = pd.DataFrame(rows)
    by = ["_stopped", schedule.metric] if schedule.metric in table else ["trial"]
    table["_stopped"] = table["state"] != "finished"
    ascending = [True, False] if len(by) == 2 else True
    return table.sort_values(by, ascending=ascending, kind="stable").drop(columns="_stopped")


def _shown(value: Any) -> Any:
    return " ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else value


def write_trials(
    folder: Path, trials: Sequence[Trial], dimensions: Sequence[Dimension], schedule: Schedule
) -> None:
    """Write trials.csv, and figures/trials.png and .svg: the metric against each setting.

    Args:
        folder: folder of the search.
        trials: all trials.
        dimensions: dimensions of the search space.
        schedule: schedule of the search.
    """
    table = trials_table(trials, schedule)
    write_atomically(folder / TRIALS_FILE, escape_table(table).to_csv(index=False, float_format="%.6g"))
    if schedule.metric in table:
        with report_style():
            FigureFiles(folder / "figures").save(
                "trials", "", trials_figure(table, dimensions, schedule.metric)
            )


def trials_figure(table: pd.DataFrame, dimensions: Sequence[Dimension], metric: str) -> Figure:
    """Draw the metric on val of each trial against each setting; stopped trials are hollow, the best one is a star.

    Args:
        table: result of `trials_table`.
        dimensions: dimensions of the search space.
        metric: column of the metric.
    """
    shown = {own.key: own for own in _flatten(dimensions) if own.key in table and _varies(table[own.key])}
    columns = min(COLUMNS, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = new_figure(width=PANEL_WIDTH * columns, height=PANEL_HEIGHT * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for (key, dimension), axes in zip(shown.items(), panels, strict=False):
        _draw_panel(
            axes, table.dropna(subset=[key, metric]), key, dimension, metric, int(table["trial"].iloc[0])
        )
    for axes in list(panels):
        axes.set_visible(False)
    figure.supxlabel("filled: trained to the end; hollow: stopped early; star: best trial", color=FAINT)
    return figure


def _varies(values: Any) -> bool:
    return len(set(values.dropna())) > 1


def _flatten(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """Return all dimensions, including those of branches."""
    return [
        found
        for dimension in dimensions
        for found in (dimension, *(own for branch in dimension.branches.values() for own in _flatten(branch)))
    ]


def _draw_panel(
    axes: Axes, table: pd.DataFrame, key: str, dimension: Dimension, metric: str, winner: int
) -> None:
    values, heights = table[key].to_numpy(), table[metric].to_numpy()
    finished = (table["state"] == "finished").to_numpy()
    if dimension.kind == "choice":
        present = set(values)
        # the value of the given config may not be one of the choices
        names = [name for name in dict.fromkeys([*map(_shown, dimension.values), *values]) if name in present]
        # offset by the number of the trial, so that equal values do not hide each other
        spread = ((table["trial"].to_numpy() * 0.618) % 1 - 0.5) * 0.5
        values = np.array([names.index(value) for value in values]) + spread
        axes.set_xticks(range(len(names)), [str(name) for name in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.scatter(values[~finished], heights[~finished], s=18, facecolors="none", edgecolors=FAINT)
    axes.scatter(values[finished], heights[finished], s=22, color=PRIMARY)
    # the best trial may have no value of this setting
    won = finished & (table["trial"] == winner).to_numpy()
    axes.scatter(values[won], heights[won], s=60, color=SECONDARY, marker="*")
    if dimension.kind == "log_uniform":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(
            StrMethodFormatter("{x:g}")
        )  # the default labels of matplotlib are formulas
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(key)
    axes.set_ylabel(f"{metric} on val")


def write_experiment(
    folder: Path,
    config: DictConfig,
    choices: Mapping[str, str | None],
    trial: Trial,
    *,
    name: str = "tuned",
) -> Path:
    """Write experiment/<name>.yaml: `python -m mlic.train --config-dir <folder> experiment=<name>` runs the trial.

    Args:
        folder: folder of the search.
        config: config of the run of the trial.
        choices: choices by config group.
        trial: trial named in the first line.
        name: name of the experiment.

    Returns:
        The path of the file.
    """
    sections = {key: _plain(config[key]) for key in SECTIONS if config.get(key) is not None}
    defaults = [{f"override /{group}": choices[group]} for group in EXPERIMENT_GROUPS if choices.get(group)]
    content = {
        "defaults": defaults,
        **sections,
        "callbacks": {
            "checkpoint": {key: config.callbacks.checkpoint[key] for key in ("monitor", "mode")},
        },
        "trainer": {"max_epochs": config.trainer.max_epochs, "precision": config.trainer.precision},
    }
    if "weight_average" in config.callbacks:
        content["callbacks"]["weight_average"] = {"share": config.callbacks.weight_average.share}
    settings = ", ".join(f"{key}={_shown(value)}" for key, value in trial.settings.items())
    number = f"{trial.number}{'' if trial.number else ' (as configured)'}"
    header = f"# @package _global_\n# Found by mlic.tune, trial {number}: {settings}\n"
    file = folder / "experiment" / f"{name}.yaml"
    write_atomically(file, header + OmegaConf.to_yaml(OmegaConf.create(content)))
    return file


def _plain(section: Any) -> Any:
    return OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else section
