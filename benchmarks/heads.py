"""Nested cross-validation of heads on stored features: `python -m benchmarks.heads --out FOLDER`.

Every candidate is fitted on the training part of each of 5 folds, with 2 seeds, each of which also draws other folds.
All that a candidate chooses (penalty, calibration, thresholds) it chooses within the training part; the test part is
scored once. Scores of each fit are kept in the folder, so that the command continues where it was stopped, and
`--table-only` makes the tables of what is there. Features are computed on first use and kept in the cache folder
(MLIC_CACHE).
"""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.head_candidates import (
    FEATURES,
    RUNS,
    Fitted,
    Problem,
    fit_logistic,
    fit_run,
    stored_features,
)
from benchmarks.head_tables import BASE, Candidate, Tables, all_candidates
from mlic.data import LabelTable, stratified_split
from mlic.runs.folder import replacing

DEFAULT_DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "coco"


@dataclass(frozen=True)
class Sizes:
    """Numbers of folds, seeds and training images, the least number of images of a class, and overrides."""

    folds: int = 5
    seeds: int = 2
    curve: tuple[int, ...] = (100, 200, 400, 800)
    min_images: int = 22
    overrides: tuple[str, ...] = ()


QUICK = Sizes(
    folds=2, seeds=1, curve=(20,), min_images=5,
    overrides=("model.backbone.pretrained=false", "model.backbone.image_size=64", "trainer.max_epochs=2"),
)  # fmt: skip


class Study:
    """The candidates, the folds, and the folder of all fits."""

    def __init__(self, data: Path, out: Path, sizes: Sizes) -> None:
        """Store the settings; nothing is read."""
        self.data, self.out, self.sizes = data.resolve(), out, sizes
        self.keys = [(seed, fold) for seed in range(sizes.seeds) for fold in range(sizes.folds)]
        self._kept: dict[str, tuple[LabelTable, torch.Tensor]] = {}

    def file(self, candidate: Candidate, seed: int, fold: int) -> Path:
        """Return the file of a fit."""
        return self.out / candidate.folder / f"seed_{seed}_fold_{fold}.npz"

    def overrides(self, features: str) -> list[str]:
        """Return the overrides of a backbone, and of all runs."""
        own = [*FEATURES[features], *self.sizes.overrides]
        if self.sizes.overrides:
            tiny = ("members=[{name: test_efficientnet}]", "name=test_efficientnet")
            own.append(f"model.backbone.{tiny['model=ensemble' not in own]}")
        return own

    def read(self, features: str) -> tuple[LabelTable, torch.Tensor]:
        """Return labels and features, which are kept until others are read."""
        labels = (
            "data=csv", f"data.annotations='{self.data / 'labels.csv'}'",
            f"data.images='{self.data / 'images'}'", f"data.min_images_per_class={self.sizes.min_images}",
        )  # fmt: skip
        if features not in self._kept:
            self._kept = {features: stored_features([*labels, *self.overrides(features)])}
        return self._kept[features]

    def rows(
        self, table: LabelTable, images: int | None, seed: int, fold: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to train on, all or a stratified subset, and to test on."""
        split = stratified_split(
            table, val=0, folds=self.sizes.folds, fold=fold, seed=seed, on_missing="warn"
        )
        if images is None:
            return split.train, split.test
        share = images / len(split.train)
        subset = stratified_split(table.select(split.train), val=0, test=share, seed=seed, on_missing="warn")
        return split.train[subset.test], split.test

    def fit(self, candidate: Candidate, seed: int, fold: int) -> None:
        """Fit a candidate on one fold, and keep the result."""
        table, features = self.read(candidate.features)
        parts = self.rows(table, candidate.images, seed, fold)
        overrides = self.overrides(candidate.features)
        problem = Problem(table, features, overrides, *parts, seed=seed, work=self.out / "work")
        fitted = fit_run(problem, candidate.head) if candidate.head in RUNS else fit_logistic(problem)
        with replacing(self.file(candidate, seed, fold)) as file:
            np.savez(file, **asdict(fitted))

    def load(self, candidate: Candidate) -> dict[tuple[int, int], Fitted]:
        """Return the results of a candidate that are there, by seed and fold."""
        results = {}
        for key in self.keys:
            if (file := self.file(candidate, *key)).is_file():
                with np.load(file) as arrays:
                    results[key] = Fitted(**{name: arrays[name] for name in Fitted.__dataclass_fields__})
        return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit what is missing, and write the tables to `<out>/heads.md`."""
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.getLogger("mlic").setLevel(logging.ERROR)
    study = Study(options.data, options.out, QUICK if options.quick else Sizes())
    for candidate in () if options.table_only else all_candidates(study.sizes.curve):
        for key in study.keys:
            if not study.file(candidate, *key).is_file():
                study.fit(candidate, *key)
        found = study.load(candidate).values()
        seconds = np.mean([fitted.seconds for fitted in found])
        print(f"{candidate.folder}: {seconds:.1f} s a fit", flush=True)
    results = {candidate: study.load(candidate) for candidate in all_candidates(study.sizes.curve)}
    tables = Tables(study.read(BASE)[0], results, fits=len(study.keys)).markdown()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "heads.md").write_text(tables)
    print(tables)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("benchmarks.heads", description="Nested cross-validation of heads.")
    parser.add_argument("--out", type=Path, required=True, help="folder of all results")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with labels.csv and images/")
    parser.add_argument("--quick", action="store_true", help="smoke test with a tiny random network")
    parser.add_argument("--table-only", action="store_true", help="only make the tables of what is there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
