"""Cross-validated gain of each step to `experiment=best`: `python -m benchmarks.ablation --out <folder>`.

Each step is trained like `python -m mlic.train` on the training part of each fold, and tested once on the held-out
part, with all settings fixed in advance. `--inner 3` compares the steps without the test parts instead, by inner folds
of the training images of each fold. Use it to select settings.

Finished runs in the folder are not repeated. Features are computed on first use and kept in the cache folder
(MLIC_CACHE).
"""

import argparse
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.ablation_steps import REFERENCE, REPORT, STEPS
from benchmarks.logistic_regression import logistic_regression
from mlic.config import compose
from mlic.data import LabelTable, curate, read_csv, stratified_split
from mlic.evaluation.bootstrap import Bootstrap
from mlic.evaluation.predictions import Predictions
from mlic.training.run import run

DEFAULT_DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "coco"
LEVEL = 0.95


@dataclass(frozen=True)
class Fold:
    """A set of images and one of its folds, which is the test part.

    Attributes:
        table: curated labels.
        annotations: file with the same labels.
        folds, fold: values of `data.split.folds` and `data.split.fold`.
        name: name of the folder of its runs.
    """

    table: LabelTable
    annotations: Path
    folds: int
    fold: int
    name: str

    def overrides(self) -> list[str]:
        """Return the overrides of a run on this fold without a val part, whose last epoch is tested."""
        return [
            "data=csv", f"data.annotations='{self.annotations}'", f"data.images='{self.table.image_dir}'",
            f"data.split.folds={self.folds}", f"data.split.fold={self.fold}", "data.split.val=0",
            "data.split.on_missing=warn",
        ]  # fmt: skip


def make_folds(data: Path, out: Path, *, folds: int, inner: int, min_images: int) -> list[Fold]:
    """Create the folds to train and test on.

    Args:
        data: folder with `labels.csv` and `images/`.
        out: folder of the annotation files.
        folds: number of folds of all images.
        inner: number of inner folds of the training images of each fold, or 0.
        min_images: classes with fewer images are dropped.
    """
    table, _ = curate(
        read_csv(data / "labels.csv", data / "images"),
        num_images=None, min_images_per_class=min_images, unlabelled="keep", seed=0,
    )  # fmt: skip
    if not inner:
        file = _write(table, out / "all.csv")
        return [Fold(table, file, folds, fold, f"fold_{fold}") for fold in range(folds)]
    made = []
    for outer in range(folds):
        rows = stratified_split(table, val=0, folds=folds, fold=outer, on_missing="warn").train
        training = table.select(rows)
        file = _write(training, out / f"train_{outer}.csv")
        made += [Fold(training, file, inner, fold, f"fold_{outer}_{fold}") for fold in range(inner)]
    return made


def _write(table: LabelTable, file: Path) -> Path:
    frame = pd.DataFrame(table.labels, columns=list(table.classes))
    frame.insert(0, "file_name", table.file_names)
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(file, index=False)
    return file.resolve()


def predictions_of(step: str, overrides: Sequence[str], fold: Fold, out: Path) -> Predictions:
    """Return the scores of the test part of a fold by a run, or by logistic regression on cached features."""
    folder = out / re.sub(r"\W+", "_", step) / fold.name
    file = folder / "predictions" / "test.parquet"
    if not file.is_file():
        if step == REFERENCE:
            made = logistic_regression(fold.table, folds=fold.folds, fold=fold.fold, overrides=overrides)
            file.parent.mkdir(parents=True)
            made.write_parquet(file)
        else:
            run(compose(*fold.overrides(), "trainer=cpu", *overrides, output=folder))
    return Predictions.read_parquet(file)


class Scores:
    """The mAP of a step in each fold, and its mean over folds on resamples of their test images."""

    def __init__(self, parts: Sequence[Predictions]) -> None:
        """Resample the images of each fold; steps tested on the same images use the same resamples."""
        found = [Bootstrap(part, names=["map"], seed=fold) for fold, part in enumerate(parts)]
        self.folds = np.array([part.estimates["map"] for part in found])
        self.resampled = np.mean([part.resampled["map"] for part in found], axis=0)

    def minus(self, other: "Scores") -> tuple[np.ndarray, tuple[float, float]]:
        """Return the difference in each fold, and the interval of their mean (centred percentiles)."""
        difference = self.folds - other.folds
        resampled = self.resampled - other.resampled
        moved = resampled - resampled.mean() + difference.mean()
        low, high = np.quantile(moved, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return difference, (float(low), float(high))


def as_markdown(scores: dict[str, Scores]) -> str:
    """Tabulate for each step the mean and spread over folds, and paired differences to reference and report."""
    columns = (
        "step", "mAP, mean of folds", "sd over folds", "minus logistic regression at 260 pixels (95 %)",
        "least of the folds minus the report's head",
    )  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for step, own in scores.items():
        spread = own.folds.std(ddof=1)
        difference, (low, high) = own.minus(scores[REFERENCE])
        beside_report = (own.folds - scores[REPORT].folds).min()
        reference = "" if step == REFERENCE else f"{difference.mean():+.4f} ({low:+.4f} to {high:+.4f})"
        report = "" if step == REPORT else f"{beside_report:+.4f}"
        lines.append(f"| {step} | {own.folds.mean():.4f} | {spread:.4f} | {reference} | {report} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run missing steps, print the table and write it to `<out>/ablation.md`."""
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.getLogger("mlic").setLevel(logging.ERROR)
    folds = make_folds(
        options.data.resolve(),
        options.out,
        folds=options.folds,
        inner=options.inner,
        min_images=options.min_images,
    )
    wanted = [
        REFERENCE,
        REPORT,
        *(step for step in options.steps or STEPS if step not in (REFERENCE, REPORT)),
    ]
    scores = {}
    for step in wanted:
        parts = [predictions_of(step, [*STEPS[step], *options.override], fold, options.out) for fold in folds]
        scores[step] = Scores(parts)
        print(f"{step}: {scores[step].folds.mean():.4f}  {scores[step].folds.round(4).tolist()}", flush=True)
    table = as_markdown(scores)
    (options.out / "ablation.md").write_text(table + "\n")
    print(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "benchmarks.ablation", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with labels.csv and images/")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument(
        "--inner", type=int, default=0, help="folds within the training images; 0 for the test parts"
    )
    parser.add_argument("--min-images", type=int, default=22, help="rarer classes are dropped")
    parser.add_argument("--steps", nargs="*", choices=list(STEPS), help="by default all")
    parser.add_argument("--override", nargs="*", default=[], help="Hydra overrides of all runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
