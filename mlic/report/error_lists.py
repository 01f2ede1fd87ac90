"""Errors of each class and run as tables, at the thresholds of `mlic.predict`."""

from collections.abc import Sequence

import pandas as pd

from mlic.evaluation.errors import confusions, single_errors
from mlic.report.comparison import predictions_of
from mlic.report.reading import ReportedRun
from mlic.report.rules import predict_rule


def error_table(runs: Sequence[ReportedRun], *, per_class: int) -> pd.DataFrame:
    """Tabulate the most confident false positives and negatives of each class.

    Args:
        runs: runs with test predictions.
        per_class: maximum number of each kind per class and run.

    Returns:
        Columns run, file_name, class, kind, score and confidence, the most confident first in each run.
    """
    frames = []
    for run in runs:
        errors = single_errors(predictions_of(run), predict_rule(run))
        kept = errors.groupby(["class", "kind"], sort=False).cumcount() < per_class
        frames.append(errors[kept].assign(run=run.name))
    columns = ["run", "file_name", "class", "kind", "score", "confidence"]
    return (pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()).reindex(columns=columns)


def confusion_table(runs: Sequence[ReportedRun]) -> pd.DataFrame:
    """Return the `confusions` of all runs with a first column `run`."""
    frames = [confusions(predictions_of(run), predict_rule(run)).assign(run=run.name) for run in runs]
    columns = ["run", "class", "confused_with", "images", "share", "usual_share"]
    return (pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()).reindex(columns=columns)
