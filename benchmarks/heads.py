"""Nested cross-validation of heads on stored features: `python -m benchmarks.heads --out FOLDER`.

Every candidate is fitted on the training part of each of 5 folds, with 2 seeds, each of which also draws other folds.
All that a candidate chooses (penalty, calibration, thresholds) it chooses within the training part; the test part is
scored once. Scores of each fit are kept in the folder, so that the command continues where it was stopped, and
`--table-only` makes the tables of what is there. Features are computed on first use and kept in the cache folder
(MLIC_CACHE).
"""

import argparse
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.head_candidates import FEATURES, HEADS, Fitted, Problem, stored_features
from benchmarks.head_scores import Scores, blend
from benchmarks.setting import TINY_NETWORK, describe_machine, load_average
from mlic.data import LabelTable, stratified_split
from mlic.evaluation.bootstrap import RESAMPLES, resample_weights
from mlic.runs.folder import replacing

DEFAULT_DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "coco"
BASE, TODAY, REPORT, MAPS = "lite2", "dense 1024", "report's head", "maps of lite2"
SAME_FEATURES = (BASE, "lite0 + lite1 + lite2", "lite0")
COMMON_HEADS = ("ridge, power 0.5", "ridge, power 1", "logistic regression", TODAY, "linear", REPORT)
BLENDS = {"mean of standardised logits": True, "mean of logits": False}  # of ridge and dense
CURVE_HEADS = (TODAY, "logistic regression", "ridge, power 0.5")
IMAGE_STEPS = tuple(name for name in FEATURES if name.startswith(f"{BASE}, "))


@dataclass(frozen=True)
class Candidate:
    """A head on some features, trained on a number of images; None for the whole training part."""

    features: str
    head: str
    images: int | None = None

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return "_".join(re.sub(r"\W+", "_", str(value)) for value in (self.features, self.head, self.images))


@dataclass(frozen=True)
class Sizes:
    """What a smoke test does with less."""

    folds: int = 5
    seeds: int = 2
    min_images: int = 22
    curve: tuple[int, ...] = (100, 200, 400, 800)
    epochs: int | None = None


QUICK = Sizes(folds=2, seeds=1, min_images=5, curve=(20,), epochs=2)


class Study:
    """The candidates, the folds, and the folder of all fits."""

    def __init__(self, data: Path, out: Path, sizes: Sizes) -> None:
        """Store the settings; nothing is read."""
        self.data, self.out, self.sizes = data.resolve(), out, sizes
        self.keys = [(seed, fold) for seed in range(sizes.seeds) for fold in range(sizes.folds)]
        self._read: tuple[str, LabelTable, torch.Tensor] | None = None

    def candidates(self) -> Iterator[Candidate]:
        """Yield all candidates, the most important and fastest first."""
        for features in SAME_FEATURES:
            yield from (Candidate(features, head) for head in COMMON_HEADS)
        yield from (Candidate(features, COMMON_HEADS[0]) for features in IMAGE_STEPS)
        yield from (Candidate(BASE, head, size) for size in self.sizes.curve for head in CURVE_HEADS)
        yield from (Candidate(MAPS, head) for head in ("residual attention", "attention"))

    def file(self, candidate: Candidate, seed: int, fold: int) -> Path:
        """Return the file of a fit."""
        return self.out / candidate.folder / f"seed_{seed}_fold_{fold}.npz"

    def overrides(self, features: str) -> list[str]:
        """Return the overrides of a backbone."""
        own = list(FEATURES[features])
        if self.sizes.epochs:
            if "model=ensemble" in own:
                return [
                    "model=ensemble",
                    "model.backbone.members=[{name: test_efficientnet}]",
                    *TINY_NETWORK[2:],
                ]
            own = [*TINY_NETWORK, *(value for value in own if value.startswith("model.backbone.pool"))]
        return own

    def read(self, features: str) -> tuple[LabelTable, torch.Tensor]:
        """Return labels and features, which are kept until others are read."""
        if self._read is None or self._read[0] != features:
            self._read = None
            labels = [
                "data=csv", f"data.annotations='{self.data / 'labels.csv'}'",
                f"data.images='{self.data / 'images'}'", f"data.min_images_per_class={self.sizes.min_images}",
            ]  # fmt: skip
            self._read = (features, *stored_features([*labels, *self.overrides(features)]))
        return self._read[1], self._read[2]

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
        train, test = self.rows(table, candidate.images, seed, fold)
        work = self.out / "work"
        overrides = self.overrides(candidate.features)
        problem = Problem(table, features, overrides, train, test, seed, work, self.sizes.epochs)
        fitted = HEADS[candidate.head](problem)
        file = self.file(candidate, seed, fold)
        with replacing(file) as opened:
            np.savez(opened, **asdict(fitted))

    def load(self, candidate: Candidate) -> dict[tuple[int, int], Fitted]:
        """Return the results of a candidate that are there, by seed and fold."""
        results = {}
        for key in self.keys:
            if (file := self.file(candidate, *key)).is_file():
                with np.load(file) as arrays:
                    results[key] = Fitted(**{name: arrays[name] for name in Fitted.__dataclass_fields__})
        return results


class Tables:
    """The tables of all results that are there."""

    def __init__(self, study: Study) -> None:
        """Read the results and compute their figures."""
        self.study = study
        self.table = study.read(BASE)[0]
        # drawn once for all images, so that folds of both seeds count an image equally often
        weights = np.concatenate(list(resample_weights(len(self.table), RESAMPLES, 0)), axis=1)
        results = {candidate: study.load(candidate) for candidate in study.candidates()}
        for features in SAME_FEATURES:
            ridge, dense = (results[Candidate(features, head)] for head in (COMMON_HEADS[0], TODAY))
            for name, standardised in BLENDS.items():
                results[Candidate(features, name)] = {
                    key: blend(ridge[key], dense[key], standardised=standardised)
                    for key in ridge
                    if key in dense
                }
        self.scores = {
            candidate: Scores(self.table, weights, found) for candidate, found in results.items() if found
        }

    def minus(self, candidate: Candidate, features: str, head: str) -> str:
        """Return the difference to another candidate, or nothing where one is missing."""
        first, second = self.scores.get(candidate), self.scores.get(Candidate(features, head))
        return "" if first is None or second is None or first is second else first.minus(second)

    def heads(self) -> str:
        """Compare heads on the same features."""
        columns = (
            "features", "head", "mAP ± sd", f"minus {TODAY} on the same", f"minus {REPORT} on the same",
            f"minus {TODAY} on {BASE}", "F1 micro / macro", "log loss", "calibration error", "seconds", "fits",
        )  # fmt: skip
        rows = []
        for features in (*SAME_FEATURES, MAPS):
            for candidate, own in self.scores.items():
                if candidate.features == features and candidate.images is None:
                    rows.append((
                        features, candidate.head, own.mean(), self.minus(candidate, features, TODAY),
                        self.minus(candidate, features, REPORT), self.minus(candidate, BASE, TODAY),
                        f"{own.f1_micro:.3f} / {own.f1_macro:.3f}", f"{own.log_loss:.4f}",
                        f"{own.calibration_error:.4f}", f"{own.seconds:.1f}", str(len(own.maps)),
                    ))  # fmt: skip
        return _markdown(columns, rows)

    def images(self) -> str:
        """Compare steps of the images, each with ridge."""
        head = COMMON_HEADS[0]
        columns = ("features, with " + head, "mAP ± sd", f"minus {BASE} (95 %)", "fits")
        rows = []
        for features in (BASE, *IMAGE_STEPS):
            candidate = Candidate(features, head)
            if own := self.scores.get(candidate):
                rows.append((features, own.mean(), self.minus(candidate, BASE, head), str(len(own.maps))))
        return _markdown(columns, rows)

    def curve(self) -> str:
        """Compare the first heads on fewer images."""
        columns = ("training images", *CURVE_HEADS, f"{CURVE_HEADS[2]} minus {TODAY} (95 %)")
        rows = []
        for images in self.study.sizes.curve:
            candidates = [Candidate(BASE, head, images) for head in CURVE_HEADS]
            own = [self.scores.get(candidate) for candidate in candidates]
            difference = own[2].minus(own[0]) if own[0] and own[2] else ""
            rows.append((str(images), *(scores.mean() if scores else "" for scores in own), difference))
        return _markdown(columns, rows)

    def markdown(self) -> str:
        """Return all tables."""
        machine = describe_machine()
        facts = (
            f"{len(self.table)} images, {len(self.table.classes)} classes, {self.study.sizes.folds} folds, "
            f"{self.study.sizes.seeds} seeds. {machine['date'][:10]}, {machine['processor']}, "
            f"{machine['torch_threads']} thread, load {load_average()[1]}."
        )
        return "\n\n".join((facts, self.heads(), self.images(), self.curve())) + "\n"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit what is missing, and write the tables to `<out>/heads.md`."""
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.getLogger("mlic").setLevel(logging.ERROR)
    study = Study(options.data, options.out, QUICK if options.quick else Sizes())
    for candidate in () if options.table_only else study.candidates():
        for key in study.keys:
            if not study.file(candidate, *key).is_file():
                study.fit(candidate, *key)
        found = study.load(candidate).values()
        seconds = np.mean([fitted.seconds for fitted in found])
        print(f"{candidate.folder}: {seconds:.1f} s a fit", flush=True)
    tables = Tables(study).markdown()
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
