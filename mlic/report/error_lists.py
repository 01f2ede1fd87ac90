"""Errors of each class and run, as tables and as data of the error browser of the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlic.evaluation.errors import FALSE_POSITIVE, confusions, single_errors
from mlic.report.comparison import predictions_of
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import Thumbnails


def error_table(runs: Sequence[ReportedRun], *, per_class: int) -> pd.DataFrame:
    """Tabulate the most confident false positives and negatives of each class at threshold 0.5.

    Args:
        runs: runs; those without test predictions are ignored.
        per_class: maximum number of each kind per class and run.

    Returns:
        Columns run, row, file_name, class, kind, score and confidence, the most confident first in each run.
    """
    frames = []
    for run in runs:
        if run.test is not None:
            errors = single_errors(run.test)
            kept = errors.groupby(["class", "kind"], sort=False).cumcount() < per_class
            frames.append(errors[kept].assign(run=run.name))
    columns = ["run", "row", "file_name", "class", "kind", "score", "confidence"]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return frame.reindex(columns=columns)


def confusion_table(runs: Sequence[ReportedRun]) -> pd.DataFrame:
    """Return the `confusions` of all runs with a first column `run`."""
    frames = [confusions(run.test).assign(run=run.name) for run in runs if run.test is not None]
    frame = pd.concat(frames, ignore_index=True) if frames else _no_confusions()
    return frame.reindex(columns=["run", *(name for name in frame.columns if name != "run")])


def _no_confusions() -> pd.DataFrame:
    names = ["run", "class", "confused_with", "images", "share", "usual_share"]
    return pd.DataFrame({name: [] for name in names})


def error_browser(
    runs: Sequence[ReportedRun],
    errors: pd.DataFrame,
    confused: pd.DataFrame,
    thumbnails: dict[str, Thumbnails],
    *,
    max_images: int,
) -> dict[str, Any]:
    """Return the data of the error browser of the page as plain JSON types.

    Args:
        runs: the runs of `errors`.
        errors: result of `error_table`.
        confused: result of `confusion_table`.
        thumbnails: thumbnails by name of run.
        max_images: maximum number of photographs to embed, those of the most confident errors first.

    Returns:
        `runs` and `classes` (names), `images` (`data:` addresses), `errors` by class: {run (index), positive,
        file, score, true (names), image (index or null)}, and `confused` by class: {run, with, images, share}.
    """
    by_name = {run.name: run for run in runs}
    names = [run.name for run in runs if run.test is not None]
    images: dict[tuple[str, str], int] = {}
    addresses: list[str] = []
    content: dict[str, list[dict[str, Any]]] = {}
    for item in errors.sort_values("confidence", ascending=False, kind="stable").to_dict("records"):
        run = by_name[item["run"]]
        small = thumbnails[run.name]
        key = (str(small.folders), item["file_name"])
        if key not in images and len(addresses) < max_images:
            address = small.data_uri(item["file_name"])
            if address is not None:
                images[key] = len(addresses)
                addresses.append(address)
        content.setdefault(item["class"], []).append(
            {
                "run": names.index(run.name),
                "positive": item["kind"] == FALSE_POSITIVE,
                "file": item["file_name"],
                "score": round(float(item["score"]), 3),
                "true": _true_labels(run, item["row"]),
                "image": images.get(key),
            }
        )
    classes = sorted({name for run in runs for name in run.classes})
    return {
        "runs": names,
        "classes": classes,
        "images": addresses,
        "errors": content,
        "confused": _confused(confused, names),
    }


def _true_labels(run: ReportedRun, row: int) -> list[str]:
    return [run.classes[column] for column in np.flatnonzero(predictions_of(run).positives[row]).tolist()]


def _confused(confused: pd.DataFrame, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    content: dict[str, list[dict[str, Any]]] = {}
    for item in confused.to_dict("records"):
        content.setdefault(item["class"], []).append(
            {
                "run": names.index(item["run"]),
                "with": item["confused_with"],
                "images": int(item["images"]),
                "share": round(float(item["share"]), 3),
            }
        )
    return content
